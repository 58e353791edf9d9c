"""`ejection`: hides the replicas that fail more than the others, for a while, and never too many. It does not know why."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, GuardContext, TryEnd
from routers.limits.slow_start import SlowStart
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """Defaults of Envoy's `outlier_detection_impl.h`, but for `always_one`.

    `failures` 5xx in a row eject (null: never), sweeps come each `interval_s`; the n-th ejection lasts n · `ejection_s`, at most
    `max_ejection_s`; at most the share `max_ejected` of the pool is out. `success_rate`: out with a share of successes below
    mean − `stdev_factor` · standard deviation, over replicas with at least `rate_requests` in one interval, of which there must
    be `rate_replicas`. `failure_share`: out with at least that share of failures (Envoy: 0.85 where it is enforced; it is not by
    default), needing `share_replicas` with `share_requests`. `always_one`: one may be out however small the pool. Envoy did so
    until 1.30; since 1.31 that is `always_eject_one_host`, false by default, and a pool of less than ten ejects nothing.
    `slow_start_s`: 0 = none, as Envoy's default; its least share and aggression are Envoy's.
    """

    failures: int | None = 5
    interval_s: float = 10.0
    ejection_s: float = 30.0
    max_ejection_s: float = 300.0
    max_ejected: float = 0.1
    always_one: bool = True
    success_rate: bool = True
    rate_replicas: int = 5
    rate_requests: int = 100
    stdev_factor: float = 1.9
    failure_share: float | None = None
    share_replicas: int = 5
    share_requests: int = 50
    slow_start_s: float = 0.0
    slow_start_least: float = 0.1
    slow_start_aggression: float = 1.0

    def __post_init__(self) -> None:
        within("failures", self.failures, 1)
        within("interval_s", self.interval_s, 0.001)
        within("ejection_s", self.ejection_s, 0.001)
        within("max_ejection_s", self.max_ejection_s, self.ejection_s)
        within("max_ejected", self.max_ejected, 0.0, 1.0)
        within("rate_replicas", self.rate_replicas, 1)
        within("rate_requests", self.rate_requests, 1)
        within("stdev_factor", self.stdev_factor, 0.0)
        within("failure_share", self.failure_share, 0.0, 1.0)
        within("share_replicas", self.share_replicas, 1)
        within("share_requests", self.share_requests, 1)
        within("slow_start_s", self.slow_start_s, 0.0)
        within("slow_start_least", self.slow_start_least, 0.0, 1.0)
        within("slow_start_aggression", self.slow_start_aggression, 0.001)


class _Record:
    """What is known of one replica: its row of failures, its ends since the last sweep, and how often it was out."""

    __slots__ = ("back_at_s", "backoff", "ends", "returned_s", "row", "successes")

    def __init__(self) -> None:
        self.row = self.ends = self.successes = self.backoff = 0
        self.back_at_s: float | None = None  # it is out until this sweep
        self.returned_s: float | None = None


class EjectionGuard(Guard):
    """Outlier ejection as Envoy's (`outlier_detection_impl.cc`), with slow start after the return and for new replicas.

    Sweeps stand at whole multiples of `interval_s` since the run's start. They happen at the first event after that time, which
    nobody can tell from Envoy's timer, as every decision asks here first. A 5xx or a lost connection is a failure, anything else
    ends the row. Where nobody else is shown, a replica that starts slowly is shown in full. Known weakness: all look alike when
    the whole pool fails, so nobody stands out by success rate, and by rows only `max_ejected` of them go.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings = settings_of(EjectionSettings, context.parameters, "ejection")
        self._records = {replica_id: _Record() for replica_id in context.replica_ids}
        self._slow = SlowStart(settings.slow_start_s, settings.slow_start_aggression, settings.slow_start_least)
        self._out = 0
        self._nobody_else = False
        self._next_sweep, self._next_sweep_s = 1, settings.interval_s

    def ejected(self, now_s: float) -> tuple[int, ...]:
        """Who is out now, ascending."""
        self._pass_time(now_s)
        return tuple(sorted(i for i, record in self._records.items() if record.back_at_s is not None))

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if self._slow:
            self._nobody_else = not any(self._serves_fully(v.replica_id) for v in replicas)
        return SEND

    def admits(self, replica_id: int, now_s: float) -> bool:
        if not self.hides(now_s):
            return True
        record = self._records.get(replica_id)
        if record is not None and record.back_at_s is not None:
            return False
        return not self._slow or self._nobody_else or self._slow.shows(replica_id)

    def hides(self, now_s: float) -> bool:
        self._pass_time(now_s)
        return bool(self._out or self._slow)

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        if self._slow:
            self._pass_time(now_s)
            self._slow.on_sent(replica_id, len(self._records) - self._out, now_s)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._pass_time(now_s)
        record = self._records.get(end.replica_id)
        if record is None:
            return  # it has left the pool
        record.ends += 1
        if end.ok or 0 < end.status < 500:
            record.successes += 1
            record.row = 0
            return
        record.row += 1
        if record.row == self._settings.failures and record.back_at_s is None:
            record.row = 0
            self._eject(record, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._pass_time(now_s)
        for replica_id in [i for i in self._records if i not in replica_ids]:
            self._out -= self._records.pop(replica_id).back_at_s is not None
            self._slow.forget(replica_id)
        for replica_id in replica_ids:
            if replica_id not in self._records:
                self._records[replica_id] = _Record()
                self._slow.begin(replica_id, now_s)

    def next_wake_s(self) -> float:
        """When somebody is back, or has started; sweeps need no wake."""
        back_s = min((r.back_at_s for r in self._records.values() if r.back_at_s is not None), default=float("inf"))
        return min(back_s, self._slow.next_end_s()) if self._out or self._slow else float("inf")

    def on_wake(self, now_s: float) -> None:
        self._pass_time(now_s)

    def _serves_fully(self, replica_id: int) -> bool:
        record = self._records.get(replica_id)
        return (record is None or record.back_at_s is None) and replica_id not in self._slow

    def _pass_time(self, now_s: float) -> None:
        if now_s >= self._next_sweep_s:
            self._sweep_until(now_s)
        if self._slow:
            self._slow.pass_time(now_s)

    def _sweep_until(self, now_s: float) -> None:
        interval_s = self._settings.interval_s
        while now_s >= self._next_sweep_s:
            self._sweep(self._next_sweep_s)
            busy = self._out or any(r.backoff for r in self._records.values())
            self._next_sweep = self._next_sweep + 1 if busy else max(self._next_sweep, int(now_s / interval_s)) + 1
            self._next_sweep_s = self._next_sweep * interval_s

    def _sweep(self, now_s: float) -> None:
        for replica_id, record in self._records.items():
            if record.back_at_s is not None and record.back_at_s <= now_s:
                record.back_at_s, record.returned_s, record.row = None, now_s, 0
                self._out -= 1
                self._slow.begin(replica_id, now_s)
        self._judge_rates(now_s)
        for record in self._records.values():
            record.ends = record.successes = 0
            rested = record.returned_s is not None and now_s - record.returned_s >= self._settings.interval_s
            if record.back_at_s is None and rested and record.backoff:
                record.backoff -= 1

    def _judge_rates(self, now_s: float) -> None:
        settings, inside = self._settings, [r for r in self._records.values() if r.back_at_s is None]
        judged = [(r.successes / r.ends, r) for r in inside if r.ends >= settings.rate_requests]
        if settings.success_rate and judged and len(judged) >= settings.rate_replicas:
            mean = sum(rate for rate, _ in judged) / len(judged)
            deviation = sqrt(sum((rate - mean) ** 2 for rate, _ in judged) / len(judged))
            for rate, record in judged:
                if rate < mean - settings.stdev_factor * deviation:
                    self._eject(record, now_s)
        judged = [(r.successes / r.ends, r) for r in inside if r.ends >= settings.share_requests]
        if settings.failure_share is not None and len(judged) >= settings.share_replicas:
            for rate, record in judged:
                if record.back_at_s is None and 1 - rate >= settings.failure_share:
                    self._eject(record, now_s)

    def _eject(self, record: _Record, now_s: float) -> None:
        settings = self._settings
        fits = (self._out + 1) / len(self._records) <= settings.max_ejected
        if not fits and not (settings.always_one and not self._out):
            return
        self._out += 1
        if record.backoff * settings.ejection_s < settings.max_ejection_s + settings.ejection_s:
            record.backoff += 1
        back_s = now_s + min(record.backoff * settings.ejection_s, settings.max_ejection_s)
        record.back_at_s = max(self._next_sweep, ceil(back_s / settings.interval_s - 1e-9)) * settings.interval_s
