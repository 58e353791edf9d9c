"""`bucket`: each replica serves one range of prompt lengths, cut anew by what came in. It does not know what is under way."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from replicas.view import ReplicaView
from routers.books.tally import Tally
from routers.choices.prebuilt import Prebuilt
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest

_FIRST_LONGEST = 4096  # the first cut shares out lengths up to here


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """SMG's defaults (`balance_abs_threshold`, `balance_rel_threshold`, `bucket_adjust_interval_secs`); SMG counts characters,
    we tokens."""

    abs: int = 32
    rel: float = 1.0001
    interval_s: float = 5.0

    def __post_init__(self) -> None:
        within("abs", self.abs, 0)
        within("rel", self.rel, 1.0)
        within("interval_s", self.interval_s, 0.001)


class Bucket(Policy):
    """SMG's `bucket.rs`, meant for prefill replicas. Load = prompt tokens sent to a replica in the last `interval_s`.

    Out of balance (max − min > abs and max > rel·min) → the least load; else the replica whose range holds the prompt's length.
    Every `interval_s` the ranges are cut again so that the prompts of that time would share out evenly, unless the load a
    replica is within a factor of two of the last cut's. Three differences: a replica that is not eligible is never chosen (SMG
    may), ties go to the lowest id (SMG: any), and after a change of the pool the first cut is made again (SMG: all prompts fall
    into the first range until the next cut). Weakness: with the default thresholds nearly every pool is out of balance, so it
    is mostly least load; and where short prompts are less than a replica's share, their range takes the long ones in.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(BucketSettings, context.parameters, "bucket")
        self._loads = Tally(context.replica_ids)
        self._recent: deque[tuple[float, int, int]] = deque()  # (sent at, tokens, replica), oldest first
        self._share = 0  # load a replica at the last cut
        self._upper = first_cut(len(context.replica_ids))
        self._due_s = self._settings.interval_s
        self._ranged, self._balanced = Prebuilt("its range of lengths"), Prebuilt("out of balance: least load")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        self._cut_if_due(now_s)
        loads = self._loads.of(replicas)
        most, least = max(loads), min(loads)
        if not (most - least > self._settings.abs and most > self._settings.rel * least):
            owner = self._loads.ids[bisect_left(self._upper, request.prompt.tokens)]
            if len(replicas) == len(self._loads.ids) or any(v.replica_id == owner for v in replicas):
                return self._ranged[owner]
        return self._balanced[replicas[loads.index(least)].replica_id]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        tokens = request.prompt.tokens
        self._loads.add(decision.replica_id, tokens)
        while self._recent and now_s - self._recent[0][0] > self._settings.interval_s:
            _, old, replica_id = self._recent.popleft()
            self._loads.add(replica_id, -old)
        self._recent.append((now_s, tokens, decision.replica_id))

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._recent.clear()
        self._loads = Tally(replica_ids)
        self._upper, self._share = first_cut(len(replica_ids)), 0
        self._ranged.keep(replica_ids)
        self._balanced.keep(replica_ids)

    def _cut_if_due(self, now_s: float) -> None:
        """Cuts of a time without requests change nothing, so being late for them does not matter."""
        if now_s < self._due_s:
            return
        interval_s = self._settings.interval_s
        self._due_s = (now_s // interval_s + 1) * interval_s
        lengths = sorted(tokens for _, tokens, _ in self._recent)
        share = sum(lengths) // len(self._loads.ids)
        if not lengths or (self._share and self._share <= 2 * share and share <= 2 * self._share):
            return
        self._share = share
        self._upper = cut(lengths, len(self._loads.ids), share)


def first_cut(replicas: int) -> list[float]:
    """The longest prompt of each replica's range before anything is known: even steps up to 4096, the last without end."""
    step = _FIRST_LONGEST // max(1, replicas)
    return [*[(n + 1) * step - 1 for n in range(replicas - 1)], inf]


def cut(lengths: Sequence[int], replicas: int, share: int) -> list[float]:
    """The longest prompt of each replica's range: each takes of the sorted lengths until it has its share; the last takes the
    rest. A range that would end before it begins, or gets no length, is `share` wide."""
    upper: list[float] = []
    lower = at = 0
    for _ in range(replicas - 1):
        taken, end = 0, lower + share
        while at < len(lengths) and taken < share:
            taken += lengths[at]
            at += 1
            if taken >= share and lengths[at - 1] > lower:
                end = lengths[at - 1]
        upper.append(end)
        lower = end + 1
    return [*upper, inf]
