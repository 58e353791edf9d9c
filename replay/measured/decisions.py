"""The decision log of a live cell, from what our router wrote of each try. It knows no policy."""

import json
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replay.row_log import RowLog
from replay.rows import DecisionRow


def read_tries(log: Path | None) -> list[dict[str, Any]]:
    """Our router's log, a row a try in order of sending; none where there is no such log. ValueError for a broken line."""
    return sorted(_rows(log), key=lambda row: float(row["sent_s"])) if log is not None else []


def write_decisions(tries: list[dict[str, Any]], replicas: int, epoch_s: float, path: Path) -> None:
    """decisions.parquet: one row a choice. `t_us` is when its try was sent; `in_flight` counts the tries that the router had
    open at each replica of the pool then (all of them: which were eligible is not in the log)."""
    log = RowLog(DecisionRow)
    open_at = [_Open([row for row in tries if row["replica"] == replica]) for replica in range(replicas)]
    chosen = set[tuple[int, int, int]]()
    for row in tries:
        key = row["request"], row["client_attempt"], row["router_try"]
        if key in chosen:
            continue  # the decode of a pair: the same choice
        chosen.add(key)
        in_flight = [one.at(float(row["sent_s"])) for one in open_at]
        chose = row["replica"], row["prefill"], row["reason"], [float(score) for score in row["scores"]]
        log.append((round((row["sent_s"] - epoch_s) * 1e6), *key, *chose, in_flight))
    log.write(path)


class _Open:
    """How many of some tries were under way at a moment, those sent before it."""

    def __init__(self, tries: list[dict[str, Any]]) -> None:
        self._sent = sorted(float(row["sent_s"]) for row in tries)
        self._ended = sorted(float(row["ended_s"]) for row in tries)

    def at(self, now_s: float) -> int:
        """Sent before `now_s` and not ended by then."""
        before = bisect_right(self._sent, now_s - 1e-9)
        return before - bisect_right(self._ended, now_s - 1e-9)


def _rows(log: Path) -> Iterator[dict[str, Any]]:
    with log.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{log}:{number}: not a line of JSON: {error}") from None
