"""`slo_aware`: the fullest replica that is still predicted to meet the SLO. It knows neither caches nor other routers."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.token_books import EXPECTED_OUTPUT_TOKENS
from routers.forecasts.predicted_latency import PredictedLatency
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd

_EQUAL_S = 1e-9


@dataclass(frozen=True, slots=True)
class SloAwareSettings:
    """`ttft_s` and `tpot_s` are the SLO (ours: the EPP takes it from each request). `ttft_weight` 0.8, `tpot_weight` 0.2 and
    `headroom` least are llm-d's defaults: least = the feasible replica closest to its limits, most = the farthest from them."""

    ttft_s: float = 2.0
    tpot_s: float = 0.05
    ttft_weight: float = 0.8
    tpot_weight: float = 0.2
    headroom: str = "least"
    expected_output_tokens: int = EXPECTED_OUTPUT_TOKENS

    def __post_init__(self) -> None:
        within("ttft_s", self.ttft_s, 0.0)
        within("tpot_s", self.tpot_s, 0.0)
        within("ttft_weight", self.ttft_weight, 0.0)
        within("tpot_weight", self.tpot_weight, 0.0)
        one_of("headroom", self.headroom, ("least", "most"))
        within("expected_output_tokens", self.expected_output_tokens, 0)


class SloAware(Policy):
    """Headroom = SLO − prediction, for TTFT and TPOT. Feasible (both ≥ 0) replicas first, of them the one with the *least*
    headroom: what is packed there leaves others free for requests that need more. If none: an idle one, else one that would
    miss TPOT only, else TTFT only, else both, the least missed of them.

    llm-d's `latency-scorer` (`scorer/latency/plugin.go`): headrooms are scaled to [0, 1] within the group, a dimension in which
    all are equal counts nothing; the lowest id on a tie. Three differences: predictions come from the profile, by
    `PredictedLatency`, not from a model that learns; a prefix filter and a random pick do not surround it. Weakness: cached
    prefixes are not counted, and packing to the limit leaves nothing for an error of the prediction. ValueError without an
    engine profile.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(SloAwareSettings, context.parameters, "slo_aware")
        if context.profile is None:
            raise ValueError("slo_aware: it predicts from an engine profile, and this pool's is not known")
        self._feasible = f"feasible, {self._settings.headroom} headroom"
        self._predicted = PredictedLatency(context.profile, context.replica_ids, self._settings.expected_output_tokens)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        settings, predicted = self._settings, self._predicted
        ttft_s = predicted.ttft_s(request, request.prompt.tokens, replicas)
        tpot_s = predicted.tpot_s(request, replicas)
        if max(ttft_s) <= settings.ttft_s and max(tpot_s) <= settings.tpot_s:
            best, reason = _fullest(ttft_s, tpot_s, settings), self._feasible
        else:
            best, reason = self._of_some(ttft_s, tpot_s, replicas)
        return Decision(replicas[best].replica_id, reason, scores=(ttft_s[best], tpot_s[best]))

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._predicted.sent(request, decision.replica_id, request.prompt.tokens, now_s)

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._predicted.first_token(request, decision.replica_id, now_s)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        self._predicted.ended(request, decision.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._predicted.keep(replica_ids, now_s)

    def _of_some(self, ttft_s: list[float], tpot_s: list[float], replicas: Sequence[ReplicaView]) -> tuple[int, str]:
        """(place, reason) where not all are feasible."""
        limit1, limit2 = self._settings.ttft_s, self._settings.tpot_s
        feasible = [n for n, (a, b) in enumerate(zip(ttft_s, tpot_s, strict=True)) if a <= limit1 and b <= limit2]
        if feasible:
            some = _fullest([ttft_s[n] for n in feasible], [tpot_s[n] for n in feasible], self._settings)
            return feasible[some], self._feasible
        group, reason = self._least_bad(ttft_s, tpot_s, replicas)
        missed = [[abs(limit1 - ttft_s[n]) for n in group], [abs(limit2 - tpot_s[n]) for n in group]]
        scores = _blended(missed[0], missed[1], self._settings)
        return group[scores.index(min(scores))], reason

    def _least_bad(self, ttft_s: list[float], tpot_s: list[float], replicas: Sequence[ReplicaView]) -> tuple[list[int], str]:
        """Places of those that miss the SLO in the least bad way."""
        idle = [n for n, sequences in enumerate(self._predicted.books.sequences.of(replicas)) if not sequences]
        if idle:
            return idle, "none feasible: idle"
        late = {n for n, seconds in enumerate(ttft_s) if seconds > self._settings.ttft_s}
        slow = {n for n, seconds in enumerate(tpot_s) if seconds > self._settings.tpot_s}
        for missed, what in ((slow - late, "TPOT"), (late - slow, "TTFT")):
            if missed:
                return sorted(missed), f"none feasible: {what} least missed"
        return list(range(len(replicas))), "none feasible: both least missed"


def _fullest(ttft_s: list[float], tpot_s: list[float], settings: SloAwareSettings) -> int:
    """The feasible place with the least headroom, that is the highest predictions (or the most headroom)."""
    scores = _blended(ttft_s, tpot_s, settings)
    return scores.index(max(scores) if settings.headroom == "least" else min(scores))


def _blended(first: list[float], second: list[float], settings: SloAwareSettings) -> list[float]:
    """Weighted sums, each list as if scaled to a range of 1; one in which all are equal counts nothing."""
    range1, range2 = max(first) - min(first), max(second) - min(second)
    weight1 = settings.ttft_weight / range1 if range1 > _EQUAL_S else 0.0
    weight2 = settings.tpot_weight / range2 if range2 > _EQUAL_S else 0.0
    return [weight1 * a + weight2 * b for a, b in zip(first, second, strict=True)]
