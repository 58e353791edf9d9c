"""Keeps the rows of one cell while it runs and writes them when it is over. It records and never computes."""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from replay.client import ClientAttempt
from replay.row_log import RowLog
from replay.rows import Attempt, DecisionRow, OpenAttempt, ReplicaSample
from replicas.view import ReplicaView
from routers.policy import Decision, RoutedRequest
from workloads.request_table import Ints

_IN_FLIGHT = attrgetter("in_flight")


def to_us(seconds: float) -> int:
    """Seconds → whole microseconds, to nearest."""
    return round(seconds * 1e6)


class Recorder:
    """Rows by client attempt: `open_row` when a try is sent; the ledger fills in the rest as it happens."""

    def __init__(self) -> None:
        self._attempts = RowLog(Attempt, settled=lambda row: not row.held)
        self._decisions = RowLog(DecisionRow)
        self._note_decision = self._decisions.append
        self.samples: list[ReplicaSample] = []

    @property
    def attempt_log(self) -> RowLog[Attempt]:
        """The attempts so far as a table."""
        return self._attempts

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts so far as row objects, made when asked for."""
        return list(self._attempts)

    @property
    def decisions(self) -> list[DecisionRow]:
        """The decision log so far as row objects, made when asked for."""
        return list(self._decisions)

    def open_row(
        self,
        attempt: ClientAttempt,
        sent_us: int | None = None,
        router_try: int | None = 0,
        replica_id: int | None = None,
        prefill_id: int | None = None,
    ) -> OpenAttempt:
        """A new row of a client attempt, whether sent or not; whoever goes on writing it must hold it."""
        root = attempt.root
        root.recorded = recorded = root.recorded + 1
        due_us, tokens = round(attempt.due_s * 1e6), root.prompt.tokens
        row = OpenAttempt(root.request_id, recorded, attempt.number, tokens, due_us, sent_us, router_try, replica_id, prefill_id)
        self._attempts.append(row)
        return row

    def decision(
        self, request: RoutedRequest, decision: Decision, router_try: int, seen: Sequence[ReplicaView], now_s: float
    ) -> None:
        """One line of the decision log: what was chosen, and the in-flight counts of the eligible replicas at that moment."""
        self._note_decision(
            (
                round(now_s * 1e6),
                request.request_id,
                request.client_attempt,
                router_try,
                decision.replica_id,
                decision.prefill_id,
                decision.reason,
                decision.scores,
                list(map(_IN_FLIGHT, seen)),
            )
        )

    def abandoned(self, request_ids: Sequence[int], prompt_tokens: Ints) -> None:
        """Turns that were never sent because their session quit: rows with attempt 0 and no times."""
        for request_id in request_ids:
            row = OpenAttempt(request_id, 0, 0, int(prompt_tokens[request_id]))
            row.outcome, row.error = "abandoned", "session quit"
            self._attempts.append(row)

    def write(self, folder: Path) -> None:
        """attempts, samples and decisions as Parquet files in `folder`."""
        samples = RowLog(ReplicaSample, settled=lambda row: True)
        for sample in self.samples:
            samples.append(sample)
        for name, log in (("attempts", self._attempts), ("samples", samples), ("decisions", self._decisions)):
            log.write(folder / f"{name}.parquet")
