"""Keeps the rows of one cell while it runs and writes them when it is over. It records and never computes."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import accumulate, chain
from operator import attrgetter
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from replay.client import ClientAttempt, Root
from replay.rows import Attempt, DecisionRow, ReplicaSample
from replicas.view import ReplicaView
from routers.policy import Decision, RoutedRequest
from workloads.request import Request


def decision_row(
    request: RoutedRequest, decision: Decision, router_try: int, seen: Sequence[ReplicaView], now_s: float
) -> DecisionRow:
    """One line of the decision log: what was chosen, and the in-flight counts of the eligible replicas at that moment."""
    return DecisionRow(
        to_us(now_s),
        request.request_id,
        request.client_attempt,
        router_try,
        decision.replica_id,
        decision.prefill_id,
        decision.reason,
        list(decision.scores),
        [view.in_flight for view in seen],
    )


def to_us(seconds: float) -> int:
    """Seconds → whole microseconds, to nearest."""
    return round(seconds * 1e6)


class Recorder:
    """Rows by client attempt: `open_row` when a try is sent; the ledger fills in the rest as it happens."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.samples: list[ReplicaSample] = []
        self.decisions: list[DecisionRow] = []
        self._rows_of: dict[int, int] = {}  # request → rows so far

    def open_row(
        self, attempt: ClientAttempt, router_try: int, replica_id: int | None, prefill_id: int | None, sent_s: float | None
    ) -> Attempt:
        request = attempt.root.request
        number = self._rows_of[request.request_id] = self._rows_of.get(request.request_id, 0) + 1
        row = Attempt(
            request_id=request.request_id,
            attempt=number,
            client_attempt=attempt.number,
            router_try=router_try,
            replica_id=replica_id,
            prefill_id=prefill_id,
            scheduled_us=to_us(attempt.due_s),
            sent_us=None if sent_s is None else to_us(sent_s),
            first_token_us=None,
            ended_us=None,
            engine_ended_us=None,
            max_gap_us=None,
            prompt_tokens=attempt.root.prompt.tokens,
            cached_tokens=0,
            prefilled_tokens=0,
            decoded_tokens=0,
            output_tokens=0,
            outcome="censored",
            status=0,
            error="",
        )
        self.attempts.append(row)
        return row

    def abandoned(self, requests: Sequence[Request]) -> None:
        """Turns that were never sent because their session quit: rows with attempt 0 and no times."""
        for r in requests:
            row = self.open_row(ClientAttempt(0, Root(r, 0.0, r.segments), 0, 0.0), 0, None, None, None)
            row.attempt, row.scheduled_us, row.outcome, row.error = 0, None, "abandoned", "session quit"

    def write(self, folder: Path) -> None:
        """attempts, samples and decisions as Parquet files in `folder`."""
        for name, row_type, rows in (
            ("attempts", Attempt, self.attempts),
            ("samples", ReplicaSample, self.samples),
            ("decisions", DecisionRow, self.decisions),
        ):
            _write(folder / f"{name}.parquet", row_type, rows)


def _write(path: Path, row_type: type, rows: Sequence[object]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    hints = get_type_hints(row_type)
    schema = pa.schema([(f.name, _arrow_type(hints[f.name])) for f in fields(row_type)])
    columns = [_column(list(map(attrgetter(f.name), rows)), schema.field(f.name).type) for f in fields(row_type)]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def _column(values: list[Any], kind: Any) -> Any:
    """An arrow array; lists go in as one flat array with offsets, which is several times faster."""
    import pyarrow as pa

    if not pa.types.is_list(kind):
        return pa.array(values, kind)
    offsets = [0, *accumulate(map(len, values))]
    flat = pa.array(list(chain.from_iterable(values)), kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def _arrow_type(hint: Any) -> Any:
    import pyarrow as pa

    if isinstance(hint, UnionType):
        (hint,) = (a for a in get_args(hint) if a is not NoneType)
    if get_args(hint):
        return pa.list_(_arrow_type(get_args(hint)[0]))
    return {int: pa.int64(), float: pa.float64(), str: pa.string()}[hint]
