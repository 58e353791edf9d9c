"""`prequal`: probes a few replicas a request and routes by the answers kept in a small pool. It keeps no count of its own."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from replicas.view import Observation, ReplicaView
from routers.choices.request_draw import RequestDraw
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from workloads.draws import purpose_id, uniform

_IDLE = purpose_id("policy-prequal-idle")
_REUSE = purpose_id("policy-prequal-reuse")


@dataclass(frozen=True, slots=True)
class PrequalSettings:
    """Wydrowski et al., "Load is not what you should balance: Introducing Prequal", NSDI 2024, section 4.

    Constants of the paper's testbed: `probes` a request 3, pool of 16 that expires after 1 s, `removals` a request 1, hot above
    the `rif_quantile` 2^-0.25 of recent requests-in-flight, at random with fewer than 2 answers in the pool.
    (Checked against a published reading of the paper that quotes them, not against the paper; it recommends a quantile of 0.6 to
    0.9.) Ours: `rif_window` answers make the distribution; `idle_probe_s` probes after so long without a request (null: never).
    """

    probes: int = 3
    pool_size: int = 16
    expiry_s: float = 1.0
    removals: int = 1
    rif_quantile: float = 2**-0.25
    rif_window: int = 128
    least_pool: int = 2
    idle_probe_s: float | None = None

    def __post_init__(self) -> None:
        within("probes", self.probes, 0)
        within("pool_size", self.pool_size, 1)
        within("expiry_s", self.expiry_s, 0.0)
        within("removals", self.removals, 0)
        within("rif_quantile", self.rif_quantile, 0.0, 1.0)
        within("rif_window", self.rif_window, 1)
        within("least_pool", self.least_pool, 1)
        within("idle_probe_s", self.idle_probe_s, 0.001)


class _Answer:
    """One probe's answer in the pool; `rif` = requests in flight at the replica."""

    __slots__ = ("latency_s", "probed_s", "replica_id", "rif", "uses_left")

    def __init__(self, replica_id: int, seen: Observation, uses_left: float, now_s: float) -> None:
        self.replica_id = replica_id
        self.rif = seen.waiting + seen.running
        self.latency_s = seen.latency_s
        self.uses_left = uses_left
        self.probed_s = now_s


class Prequal(Policy):
    """Hot–cold lexicographic rule over the pool of probe answers.

    Hot = RIF above the quantile of recent answers. Some cold → least latency among the cold; all hot → least RIF; the older
    answer on a tie. Using an answer adds 1 to its RIF; it leaves the pool after `reuse_limit` uses, after `expiry_s`, when a
    newer one needs its place, or by removal (the worst and the oldest by turns, `removals` a request). Weakness: with fewer
    replicas than the pool has places, the pool says nothing new, and a burst between two answers is not seen.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(PrequalSettings, context.parameters, "prequal")
        self._seed = context.seed
        self._ids = context.replica_ids
        self._fallback, self._probed = (RequestDraw(context.seed, f"policy-prequal-{what}") for what in ("fallback", "probe"))
        self._reuse = reuse_limit(self._settings, len(context.replica_ids))
        self._pool: list[_Answer] = []  # oldest first
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self._answers = 0
        self._removed = 0
        self._idle_turn = 0
        self._idle_due_s = inf if self._settings.idle_probe_s is None else self._settings.idle_probe_s

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        eligible = [v.replica_id for v in replicas]
        probes = self._to_probe(eligible, int(self._probed(request) * 2**53))
        self._put_off_idle(now_s)
        self._expire(now_s)
        usable = self._pool if len(eligible) == len(self._ids) else [a for a in self._pool if a.replica_id in eligible]
        if len(usable) < self._settings.least_pool:
            chosen = self._fallback.one_of(eligible, request)
            return Decision(chosen, "too few answers: drawn", probes=probes)
        best, reason = self._best_of(usable)
        self._use(best)
        for _ in range(self._settings.removals):
            self._remove_one()
        return Decision(best.replica_id, reason, probes=probes, scores=(float(best.rif - 1), best.latency_s))

    def on_probe(self, replica_id: int, seen: Observation, now_s: float) -> None:
        if replica_id not in self._ids:
            return  # it has left the pool
        uses_left = self._uses_of(self._answers)
        self._answers += 1
        answer = _Answer(replica_id, seen, uses_left, now_s)
        self._pool.append(answer)
        if len(self._pool) > self._settings.pool_size:
            del self._pool[0]
        self._recent.append(answer.rif)
        insort(self._sorted, answer.rif)
        if len(self._recent) > self._settings.rif_window:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def next_wake_s(self) -> float:
        return self._idle_due_s

    def on_wake(self, now_s: float) -> tuple[int, ...]:
        self._put_off_idle(now_s)
        self._idle_turn += 1
        return self._to_probe(list(self._ids), self._seed, _IDLE, self._idle_turn)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._ids = replica_ids
        self._reuse = reuse_limit(self._settings, max(1, len(replica_ids)))
        self._pool = [a for a in self._pool if a.replica_id in replica_ids]

    def _best_of(self, usable: Sequence[_Answer]) -> tuple[_Answer, str]:
        cold = [a for a in usable if a.rif <= self._hot_above()]
        if cold:
            return min(cold, key=lambda a: a.latency_s), "cold: least latency"
        return min(usable, key=lambda a: a.rif), "all hot: least RIF"

    def _hot_above(self) -> int:
        return self._sorted[int(self._settings.rif_quantile * (len(self._sorted) - 1))]

    def _use(self, answer: _Answer) -> None:
        answer.rif += 1
        answer.uses_left -= 1
        if answer.uses_left < 1:
            self._pool.remove(answer)

    def _remove_one(self) -> None:
        if not self._pool:
            return
        self._removed += 1
        if self._removed % 2:
            self._pool.remove(self._worst())
        else:
            del self._pool[0]

    def _worst(self) -> _Answer:
        hot = [a for a in self._pool if a.rif > self._hot_above()]
        return max(hot, key=lambda a: a.rif) if hot else max(self._pool, key=lambda a: a.latency_s)

    def _expire(self, now_s: float) -> None:
        alive_from = now_s - self._settings.expiry_s
        if self._pool and self._pool[0].probed_s < alive_from:
            self._pool = [a for a in self._pool if a.probed_s >= alive_from]

    def _uses_of(self, number: int) -> float:
        """The reuse limit, rounded at random so that its mean is kept."""
        if self._reuse == inf:
            return inf
        whole = int(self._reuse)
        return whole + (uniform(self._seed, _REUSE, number) < self._reuse - whole)

    def _to_probe(self, ids: list[int], *key: int) -> tuple[int, ...]:
        """Distinct replicas at random: the first draws of a shuffle."""
        ids = ids.copy()
        for place in range(min(self._settings.probes, len(ids))):
            other = place + int(uniform(*key, place) * (len(ids) - place))
            ids[place], ids[other] = ids[other], ids[place]
        return tuple(ids[: self._settings.probes])

    def _put_off_idle(self, now_s: float) -> None:
        if self._settings.idle_probe_s is not None:
            self._idle_due_s = now_s + self._settings.idle_probe_s


def reuse_limit(settings: PrequalSettings, replicas: int) -> float:
    """b = max(1, (1 + δ) / ((1 − m/n)·r_probe − r_remove)) with δ = 1, m = pool size, n = replicas (the paper's formula 1).

    It is meant for pools much smaller than n. Where its denominator is not positive (few replicas) the answers that
    come in cannot make up for those removed, so nothing but expiry and removal ends an answer's use: inf.
    """
    margin = (1 - settings.pool_size / replicas) * settings.probes - settings.removals
    return max(1.0, 2.0 / margin) if margin > 0 else inf
