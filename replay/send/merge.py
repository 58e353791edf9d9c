"""Makes a cell out of its senders' parts: all rows in one canonical order, counted again. It knows no target and no clock."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from replay.code import code_hash
from replay.recorder import Recorder
from replay.send.part import ATTEMPTS, FACTS, send_lag, void_reason
from replay.virtual_cell import check_conservation


@dataclass(frozen=True)
class Merged:
    """`table`: the rows of all senders by request and attempt (columns of `Attempt`). `senders`: each one's `sender.json`."""

    cell_id: str
    table: Any
    counts: dict[str, int]
    senders: list[dict[str, Any]]

    def facts(self) -> dict[str, Any]:
        """The part of cell.json that is known after the run; `void` says why the run does not count, "" where it does."""
        reasons = [f"sender {s['sender']}: {why}" for s in self.senders if (why := void_reason(s))]
        return {
            "driver": "wall",
            "counts": self.counts,
            "conserved": True,
            "ended_s": max(s["ended_s"] for s in self.senders),
            "attempts": self.table.num_rows,
            "code_hash": code_hash(),
            "cpu_s": sum(s["cpu_s"] for s in self.senders),
            "senders": self.senders,
            "void": "; ".join(reasons),
            **send_lag(self.table),
        }


def merge_parts(parts: Sequence[Path]) -> Merged:
    """Read the parts of one cell's senders; ValueError unless all are there and of one cell, NotConserved if rows were lost."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    senders = sorted((_facts(part) for part in parts), key=lambda s: int(s["sender"]))
    numbers = [s["sender"] for s in senders]
    cells = sorted({s["cell_id"] for s in senders})
    asked = {s["senders"] for s in senders}
    if len(cells) != 1 or asked != {len(senders)} or numbers != list(range(len(senders))):
        raise ValueError(f"parts: senders {numbers} of cells {cells}; allowed: all senders of one cell, each once")
    table = pa.concat_tables([pq.read_table(part / ATTEMPTS) for part in parts])
    table = table.sort_by([("request_id", "ascending"), ("attempt", "ascending")])
    counts = Counter[str]()
    for sender in senders:
        counts.update(sender["counts"])
    check_rows(dict(counts), table)
    return Merged(cells[0], table, dict(counts), senders)


def check_rows(counts: dict[str, int], table: Any) -> None:
    """NotConserved unless the rows say what the counts say."""
    check_conservation(counts, cast(Recorder, _Rows(table)))


def write_merged(merged: Merged, known: dict[str, Any], folder: Path) -> None:
    """Write attempts.parquet and, last, cell.json (`known` = what was known before the run) into a folder that exists."""
    import pyarrow.parquet as pq

    pq.write_table(merged.table, folder / ATTEMPTS, compression="zstd")
    (folder / "cell.json").write_text(json.dumps(known | merged.facts(), indent=1))


def _facts(part: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((part / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{part}: no whole part of a sender: {' '.join(str(error).split())}") from error
    return facts


class _Rows:
    """A finished table where a recorder's log is looked at."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def attempt_log(self) -> "_Rows":
        return self

    def table(self) -> Any:
        return self._table
