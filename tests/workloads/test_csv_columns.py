"""CSV files in blocks: what is read does not depend on where the blocks are cut, and a row's line is exact."""

from pathlib import Path

import pytest

from workloads.sources import csv_columns
from workloads.sources.csv_columns import csv_blocks, csv_format

QUOTED = 'a,b\n1,"two\nlines, ""said"""\n2,plain\n3,"more\n\n"\n4,x\n'


def rows_of(path: Path, size: int) -> tuple[list[str], list[str], list[str]]:
    form = csv_format(path, quote='"')
    blocks = list(csv_blocks(path, form, form.names, size=size))
    firsts, seconds = ([v for block in blocks for v in block.columns[name].to_pylist()] for name in form.names)
    return firsts, seconds, [block.where(row).split(":")[-1] for block in blocks for row in range(len(block))]


@pytest.mark.parametrize("size", [1, 3, 7, 16, 1000])
def test_quoted_line_ends_belong_to_their_row_wherever_a_block_is_cut(tmp_path: Path, size: int) -> None:
    path = tmp_path / "q.csv"
    path.write_text(QUOTED)
    firsts, seconds, lines = rows_of(path, size)
    assert firsts == ["1", "2", "3", "4"]
    assert seconds == ['two\nlines, "said"', "plain", "more\n\n", "x"]
    assert lines == ["2", "4", "5", "8"]


def test_a_quote_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('a,b\n1,2\n3,"4\n')
    with pytest.raises(ValueError, match=r"q.csv:3: not a CSV row"):
        rows_of(path, 4)


def test_a_row_beyond_the_bound_is_refused_before_memory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_columns, "ROW_BYTES", 1 << 20)
    path = tmp_path / "long.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,2\n3,")
        file.truncate(16 << 20)
    with pytest.raises(ValueError, match=r"long.csv:3: a row of more than 1 MiB"):
        rows_of(path, 1 << 18)


@pytest.mark.parametrize(("header", "delimiter"), [("a;b", ";"), ("a\tb", "\t"), ("a|b,c|d", "|"), ("a", ",")])
def test_the_delimiter_is_the_one_that_divides_the_header_most(tmp_path: Path, header: str, delimiter: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(header + "\n")
    assert csv_format(path, ",\t;|").delimiter == delimiter


def test_a_file_without_line_ends_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    with path.open("wb") as file:
        file.write(b"a,b")
        file.seek(1 << 40)
        file.write(b"x")
    with pytest.raises(ValueError, match=r"one.csv:1: a header of more than 1 MiB"):
        csv_format(path)


def test_blank_lines_at_the_end_are_no_rows_and_elsewhere_they_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text("a,b\n1,2\n\n\r\n")
    assert rows_of(path, 2)[0] == ["1"]
    path.write_text("a,b\n1,2\n\n3,4\n")
    with pytest.raises(ValueError, match=r"b.csv:3: expected a,b, found ''"):
        rows_of(path, 2)
