"""A growing table: the order of beginning, late writes, and objects that go when nobody writes them any more."""

import gc
import weakref
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from replay import row_log
from replay.row_log import RowLog


@dataclass
class Row:
    """Some of every kind of column."""

    number: int
    name: str
    late_us: int | None
    scores: list[float]
    open: bool = True  # no column: see `Columns`


@dataclass
class Columns:
    number: int
    name: str
    late_us: int | None
    scores: list[float]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_log, "BLOCK_ROWS", 4)


def log_of(n: int) -> tuple[RowLog[Columns], list[Row]]:
    log = RowLog(Columns, settled=lambda row: not row.open)
    rows = [Row(i, f"row {i}", None, [0.5] * (i % 3)) for i in range(n)]
    for row in rows:
        log.append(row)
    return log, rows


@pytest.mark.parametrize("n", [0, 1, 4, 5, 8, 11])
def test_rows_come_back_in_the_order_they_were_begun(n: int, tmp_path: Path) -> None:
    log, rows = log_of(n)
    for row in reversed(rows):  # the last one is settled first
        row.late_us, row.open = row.number * 10, False
    expected = [Columns(i, f"row {i}", i * 10, [0.5] * (i % 3)) for i in range(n)]
    assert list(log) == expected
    assert len(log) == n
    log.write(tmp_path / "rows.parquet")
    assert [Columns(**row) for row in pq.read_table(tmp_path / "rows.parquet").to_pylist()] == expected


def test_what_is_written_after_its_block_is_full_is_in_the_table() -> None:
    log, rows = log_of(9)
    rows[2].late_us, rows[2].open = 7, False
    assert log.table()["late_us"].to_pylist() == [None, None, 7, *[None] * 6]
    rows[3].late_us = 8  # its block was read, and is still open
    assert log.table()["late_us"].to_pylist() == [None, None, 7, 8, *[None] * 5]


def test_a_full_block_of_settled_rows_is_kept_as_columns_only() -> None:
    log, rows = log_of(4)
    kept = [weakref.ref(row) for row in rows]
    for row in rows[:3]:
        row.open = False
    last, row = rows[3], None  # type: ignore[assignment]
    rows.clear()
    log.append(Row(4, "", None, []))
    gc.collect()
    assert all(ref() is not None for ref in kept), "one of the block may still be written"
    last.late_us, last.open = 99, False
    del last
    for i in range(5, 9):
        log.append(Row(i, "", None, []))
    gc.collect()
    assert [ref() for ref in kept] == [None] * 4
    assert next(r.late_us for r in log if r.number == 3) == 99


def test_values_may_be_given_instead_of_objects() -> None:
    log = RowLog(Columns)
    for i in range(6):
        log.append((i, "x", None, (1.0, 2.0)))
    assert list(log) == [Columns(i, "x", None, [1.0, 2.0]) for i in range(6)]
