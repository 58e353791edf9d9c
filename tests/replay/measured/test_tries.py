"""The router's log and the senders' rows become one table: a row a try, the last of them the client's."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from replay.measured.decisions import read_tries, write_decisions
from replay.measured.samples import series_of
from replay.measured.tries import with_tries
from replay.row_log import RowLog
from replay.rows import Attempt, OpenAttempt

EPOCH_S = 1000.0


def client_row(request: int, outcome: str, attempt: int = 1, replica: int | None = None, number: int = 1) -> OpenAttempt:
    row = OpenAttempt(request, attempt, number, 64, 100_000, 110_000, None, replica)
    row.ended_us, row.outcome = 900_000, outcome
    return row


def a_try(request: int, number: int, replica: int, outcome: str = "ok", **more: Any) -> dict[str, Any]:
    base = {"request": request, "client_attempt": 1, "router_try": number, "stage": "serve", "replica": replica}
    base |= {
        "prefill": None,
        "reason": "turn",
        "scores": [1],
        "sent_s": EPOCH_S + 0.1 * number,
        "ended_s": EPOCH_S + 0.1 * number + 0.05,
    }
    return (
        base | {"outcome": outcome, "status": 200 if outcome == "ok" else 503, "error": "" if outcome == "ok" else "full"} | more
    )


def joined(rows: list[OpenAttempt], tries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    log = RowLog(Attempt, settled=lambda row: True)
    for row in rows:
        log.append(row)
    table = with_tries(log.table(), tries, EPOCH_S)
    assert table.schema == log.table().schema
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def short(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[n] for n in ("attempt", "client_attempt", "router_try", "replica_id", "outcome", "status")) for row in rows]


def test_a_try_that_failed_is_a_row_before_the_clients() -> None:
    rows = joined([client_row(0, "ok", replica=1)], [a_try(0, 1, 0, "failed"), a_try(0, 2, 1)])
    assert short(rows) == [(1, 1, 1, 0, "refused", 503), (2, 1, 2, 1, "ok", 0)]
    first, last = rows
    assert (first["sent_us"], first["ended_us"], first["first_token_us"], first["error"]) == (100_000, 150_000, None, "full")
    assert first["scheduled_us"] == last["scheduled_us"] == 100_000


def test_a_client_that_gave_up_before_the_first_byte_is_told_its_replica() -> None:
    rows = joined([client_row(0, "timeout")], [a_try(0, 1, 3, "aborted", status=0)])
    assert short(rows) == [(1, 1, 1, 3, "timeout", 0)]


def test_a_client_that_gave_up_between_two_tries_has_a_row_of_no_attempt() -> None:
    rows = joined([client_row(0, "timeout")], [a_try(0, 1, 3, "failed", status=500)])
    assert short(rows) == [(1, 1, 1, 3, "error", 500), (2, 0, 0, None, "timeout", 0)]


def test_what_reached_no_replica_and_what_was_never_sent() -> None:
    refused, abandoned = client_row(0, "refused"), client_row(1, "abandoned", attempt=0, number=0)
    assert short(joined([refused, abandoned], [])) == [(1, 1, 0, None, "refused", 0), (0, 0, None, None, "abandoned", 0)]


def test_a_pairs_two_parts_are_one_try() -> None:
    parts = [a_try(0, 1, 0, stage="prefill", prefill=0), a_try(0, 1, 2, stage="decode", prefill=0)]
    (row,) = joined([client_row(0, "ok", replica=2)], parts)
    assert (row["replica_id"], row["prefill_id"], row["router_try"]) == (2, 0, 1)


def test_decisions_count_what_was_in_flight_before_them(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    tries = [a_try(0, 1, 0, ended_s=EPOCH_S + 0.35), a_try(1, 2, 1), a_try(2, 3, 0), a_try(3, 4, 1)]
    log.write_text("".join(json.dumps(one) + "\n" for one in reversed(tries)))
    write_decisions(read_tries(log), 2, EPOCH_S, tmp_path / "decisions.parquet")
    rows = pq.read_table(tmp_path / "decisions.parquet").to_pylist()
    assert [row["in_flight"] for row in rows] == [[0, 0], [1, 0], [1, 0], [0, 0]]
    assert next((row["t_us"], row["request_id"], row["replica_id"], row["scores"]) for row in rows) == (100_000, 0, 0, [1.0])


def test_a_broken_log_is_said(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    log.write_text('{"sent_s": 1}\n{"sent')
    with pytest.raises(ValueError, match=r"requests.jsonl:2: not a line of JSON"):
        read_tries(log)
    assert read_tries(None) == []


def test_series_are_read_without_buckets() -> None:
    text = '# HELP a b\na{x="1 2"} 3\nb_bucket{le="1"} 4\nc NaN\nd 5e2\nnonsense\n'
    assert series_of(text) == {'a{x="1 2"}': 3.0, "d": 500.0}
