"""The tries under way, and what they count for at their replicas. It does not know why they were sent, or where else to."""

from replicas.view import ReplicaView
from routers.eligible import EligibleReplicas
from routers.policy import Decision
from routers.tries import EXPECTED_OUTPUT_TOKENS, Flight, Stage, Try


class OpenTries:
    """Only this writes the views' `in_flight` and `in_flight_tokens`.

    Try ids of router `number` `of` a fleet are those with (try_id − 1) % of == number.
    """

    __slots__ = ("_last_id", "_replicas", "_step", "_tries", "_views", "get")

    def __init__(self, replicas: EligibleReplicas, number: int, of: int) -> None:
        self._replicas, self._views = replicas, replicas.by_id
        self._last_id, self._step = number + 1 - of, of
        self._tries: dict[int, Try] = {}
        self.get = self._tries.get

    @property
    def ids(self) -> list[int]:
        """Of the tries under way, ascending."""
        return sorted(self._tries)

    def open(self, flight: Flight, decision: Decision, stage: Stage, replica_id: int) -> Try:
        """A try that is being sent. A `pair` counts its prompt at the prefill replica too."""
        request = flight.request
        tokens = request.prompt.tokens
        if stage != "prefill":
            max_tokens = request.max_tokens
            tokens += max_tokens if max_tokens < EXPECTED_OUTPUT_TOKENS else EXPECTED_OUTPUT_TOKENS
        view = self._views[replica_id]
        view.in_flight += 1
        view.in_flight_tokens += tokens
        try_id = self._last_id = self._last_id + self._step
        attempt = Try(try_id, request, decision, replica_id, stage, flight.router_try, tokens, flight)
        if stage == "pair":
            attempt.prefilling = True
            prefill = self._prefill_view(attempt)
            prefill.in_flight += 1
            prefill.in_flight_tokens += request.prompt.tokens
        flight.live = flight.last = self._tries[try_id] = attempt
        return attempt

    def retire(self, try_id: int) -> Try | None:
        """The try is over; None for one that is not under way."""
        attempt = self._tries.pop(try_id, None)
        if attempt is not None:
            view = self._views[attempt.replica_id]
            view.in_flight -= 1
            view.in_flight_tokens -= attempt.tokens
            attempt.flight.live = None
            if attempt.prefilling:
                self.end_prefill_half(attempt)
            if self._replicas.leaving:
                self._replicas.forget(view)
        return attempt

    def end_prefill_half(self, attempt: Try) -> None:
        """A pair's prefill replica is free of it."""
        if attempt.prefilling:
            view = self._prefill_view(attempt)
            attempt.prefilling = False
            view.in_flight -= 1
            view.in_flight_tokens -= attempt.request.prompt.tokens
            self._replicas.forget(view)

    def _prefill_view(self, attempt: Try) -> ReplicaView:
        assert attempt.decision.prefill_id is not None
        return self._views[attempt.decision.prefill_id]
