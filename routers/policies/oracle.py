"""`oracle`: the replica that would truly be first. Virtual time only: a reference, not a proven bound."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.parameters import one_of, settings_of
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


@dataclass(frozen=True, slots=True)
class OracleSettings:
    """`least`: ttft (the first token comes first) or e2e (the last one does)."""

    least: str = "ttft"

    def __post_init__(self) -> None:
        one_of("least", self.least, ("ttft", "e2e"))


class Oracle(Policy):
    """Least predicted time by the true engine state; ties to the lowest id. Scores: the predictions in seconds."""

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(OracleSettings, context.parameters, "oracle")
        if context.truth is None:
            raise ValueError("oracle: it needs the true engine state, which only virtual time has")
        truth = context.truth
        self._predict = truth.predicted_ttft_s if settings.least == "ttft" else truth.predicted_e2e_s
        self._reason = "least predicted TTFT" if settings.least == "ttft" else "least predicted E2E"

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        predict = self._predict
        scores = tuple([predict(v.replica_id, request, now_s) for v in replicas])
        return Decision(replicas[scores.index(min(scores))].replica_id, self._reason, scores=scores)
