"""JSON lines: exact places, and nothing but ValueError for whatever a file may hold."""

from pathlib import Path

import pytest

from workloads.sources.json_lines import Record, json_lines, json_records


def written(folder: Path, content: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}\n\n{"a": 2}\n',
        b'{"a": 1}\r\n\r\n{"a": 2}',
        b'\xef\xbb\xbf{"a": 1}\n \t\n{"a": 2}\n',
        b'{"a": 1}\n\n  {"a": 2}  ',
    ],
)
def test_every_line_that_is_not_blank_keeps_its_number(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    assert list(json_records(path)) == [Record(f"{path}:1", {"a": 1}), Record(f"{path}:3", {"a": 2})]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"a": 1', "not JSON: "),
        (b'{"a": NaN}', "not JSON: NaN is not a JSON number"),
        (b'{"a": -Infinity}', "not JSON: -Infinity is not a JSON number"),
        (b'{"a": "\xff"}', "not UTF-8 text: "),
        (b'{"a": "\\ud800"}', "not UTF-8 text: surrogates not allowed"),
        (b'{"a": "\x00"}', "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON: "),
        (b"{\x00}\x00", "not JSON: "),
        (b"[1, 2]", "expected an object, found list"),
        (b"null", "expected an object, found NoneType"),
    ],
)
def test_a_line_that_holds_no_object_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"rows.jsonl:2: {said}") as raised:
        list(json_records(written(tmp_path, b'{"a": 1}\n' + line + b"\n")))
    assert type(raised.value) is ValueError
    assert "\n" not in str(raised.value)


def test_pairs_of_surrogates_are_text(tmp_path: Path) -> None:
    assert next(json_lines(written(tmp_path, b'{"a": "\\ud83d\\ude00"}'))) == (1, {"a": "\U0001f600"})


def test_a_line_over_the_bound_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a": 1}\n' + b" " * 200 + b'{"a": 2}\n')
    assert [n for n, _ in json_lines(path, 300)] == [1, 2]
    with pytest.raises(ValueError, match=r"rows.jsonl:2: a line of more than 100 bytes"):
        list(json_lines(path, 100))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_a_record_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"rows.jsonl:1: no record; expected a JSON object a line"):
        list(json_records(written(tmp_path, content)))
    with pytest.raises(ValueError, match="a folder; expected a file of JSON lines"):
        list(json_records(tmp_path))


@pytest.mark.parametrize("value", [True, -1, 7, 1.0, "1", None, [1], 10**400])
def test_whole_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"^F:1: n is .*; expected a whole number ≥ 0 and < 7$"):
        Record("F:1", {"n": value}).whole("n", 7)
    assert Record("F:1", {"n": 6}).whole("n", 7) == 6


@pytest.mark.parametrize("value", [True, -0.1, 7, float("inf"), float("nan"), "1", None, 10**400])
def test_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"^F:1: n is .*; expected a number ≥ 0 and < 7$"):
        Record("F:1", {"n": value}).number("n", 7)
    assert Record("F:1", {"n": 6}).number("n", 7) == 6.0


@pytest.mark.parametrize("value", [None, 1, "12", [True], [1.0], [-1], [1 << 62], [[1]], [None]])
def test_block_ids(value: object) -> None:
    with pytest.raises(ValueError, match=r"^F:1: ids is .*; expected a list of block ids"):
        Record("F:1", {"ids": value}).ids("ids")
    assert Record("F:1", {"ids": []}).ids("ids") == []


def test_a_missing_value_is_called_missing() -> None:
    with pytest.raises(ValueError, match=r"^F:1: n is missing; expected a text$"):
        Record("F:1", {}).text("n")
