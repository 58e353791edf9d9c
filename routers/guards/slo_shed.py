"""`slo_shed`: refuses at once what would miss its SLO or deadline wherever it went. It does not know the true queues."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.forecasts.ttft_forecast import TtftForecast
from routers.guard import SEND, Admission, Guard, GuardContext, Refuse, TryEnd
from routers.limits.places import Places
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class SloShedSettings:
    """`ttft_s`: the SLO (null: only the request's own deadline counts); `margin` multiplies what is predicted.

    `output_tokens`: an answer's length before any has ended. All ours.
    """

    ttft_s: float | None = 2.0
    margin: float = 1.0
    output_tokens: float = 256.0
    status: int = 429

    def __post_init__(self) -> None:
        within("ttft_s", self.ttft_s, 0.001)
        within("margin", self.margin, 0.0)
        within("output_tokens", self.output_tokens, 1.0)
        within("status", self.status, 400, 599)


class SloShedGuard(Guard):
    """Own (early rejection as in Mooncake, FAST'25: refuse before prefill is spent on what will be late anyway).

    The best replica that is shown counts; the policy may choose another. A retry is asked anew where `retry` stands before.
    What is predicted, and what that does not see, is in `ttft_forecast`; replicas of a pair are taken for ones that do both.
    """

    def __init__(self, context: GuardContext) -> None:
        settings = settings_of(SloShedSettings, context.parameters, "slo_shed")
        if context.profile is None:
            raise ValueError("slo_shed needs the pool's engine profile to predict with, and there is none")
        self._ttft_s = float("inf") if settings.ttft_s is None else settings.ttft_s
        self._margin = settings.margin
        self._refusal = Refuse(settings.status)
        self._forecast = TtftForecast(context.profile, settings.output_tokens)
        self._places = Places()  # prompt tokens that wait for their first token

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if not replicas:
            return SEND  # that none is there is another's word
        within_s = min(self._ttft_s, request.deadline_s - now_s)
        return SEND if self._fits_one(request, replicas, within_s) else self._refusal

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._places.send(request.rid, replica_id, max(1, request.prompt.tokens))

    def on_first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._places.end(request.rid, replica_id)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._places.end(request.rid, end.replica_id)
        if end.ok and end.streaming and end.output_tokens > 0:  # not a pair's prefill, which answers one token to nobody
            self._forecast.learn(request.prompt.tokens, end.output_tokens, end.cached_tokens)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._places.leave(request.rid)

    def _fits_one(self, request: RoutedRequest, replicas: Sequence[ReplicaView], within_s: float) -> bool:
        """Is there one that would give the first token in that time?"""
        seconds, at, tokens = self._forecast.seconds, self._places.at, request.prompt.tokens
        for view in replicas:
            predicted_s = seconds(tokens, at(view.replica_id), view.in_flight, view.in_flight_tokens)
            if predicted_s * self._margin <= within_s:
                return True
        return False
