"""Joins our router's tries to the senders' rows, so that live rows are those of virtual time: one a try. It knows no policy.

A sender sees a client attempt; what the router tried for it is in the router's log, under the name that the sender gave it.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from replay.rows import Attempt
from replay.send.verdict import REFUSALS

_NAMES = [f.name for f in fields(Attempt)]
Row = dict[str, Any]


def with_tries(table: Any, tries: list[Row], epoch_s: float) -> Any:
    """The table of attempts with a row for every earlier try of the router, numbered anew by request.

    A try that failed and was tried again ends where the router's log says so; its client hears of the last one only. An attempt
    that reached no replica has `router_try` 0.
    """
    import pyarrow as pa

    of_attempt: dict[tuple[int, int], dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for one in tries:
        of_attempt[one["request"], one["client_attempt"]][one["router_try"]].append(one)
    rows: list[Row] = []
    for row in table.to_pylist():
        known = of_attempt.get((row["request_id"], row["client_attempt"]), {})
        rows += _joined(row, [known[number] for number in sorted(known)], epoch_s) if row["client_attempt"] else [row]
    numbers: dict[int, int] = defaultdict(int)
    for row in rows:
        if row["attempt"]:
            row["attempt"] = numbers[row["request_id"]] = numbers[row["request_id"]] + 1
    return pa.table({name: [row[name] for row in rows] for name in _NAMES}, schema=table.schema)


def _joined(row: Row, tries: list[list[Row]], epoch_s: float) -> Iterator[Row]:
    """The rows of one client attempt, of which the sender's is the last."""
    if not tries:
        yield {**row, "router_try": 0}
        return
    between = row["outcome"] in ("timeout", "censored") and tries[-1][-1]["outcome"] == "failed"
    for parts in tries if between else tries[:-1]:
        yield _failed(row, parts, epoch_s)
    if between:  # the client gave up, or the run ended, while the router waited to try again
        yield {**row, "client_attempt": 0, "router_try": 0, "replica_id": None}
        return
    last = tries[-1][-1]
    replica = row["replica_id"] if row["replica_id"] is not None else last["replica"]
    yield {**row, "router_try": last["router_try"], "replica_id": replica, "prefill_id": last["prefill"]}


def _failed(row: Row, parts: list[Row], epoch_s: float) -> Row:
    """One that the router gave up, by its log (of a pair's two parts the last tells how it ended)."""
    last = parts[-1]
    ended_us = round((last["ended_s"] - epoch_s) * 1e6)
    return {
        **row,
        "router_try": last["router_try"],
        "replica_id": last["replica"],
        "prefill_id": last["prefill"],
        "sent_us": round((parts[0]["sent_s"] - epoch_s) * 1e6),
        "first_token_us": None,
        "ended_us": ended_us,
        "engine_ended_us": ended_us,
        "max_gap_us": None,
        "cached_tokens": 0,
        "prefilled_tokens": 0,
        "decoded_tokens": 0,
        "output_tokens": 0,
        "outcome": "refused" if last["status"] in REFUSALS else "error",
        "status": last["status"],
        "error": last["error"],
    }
