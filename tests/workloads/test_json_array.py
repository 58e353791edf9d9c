"""A JSON array read record by record: places, windows, and what is no array."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.sources import json_array
from workloads.sources.json_array import array_records


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "array.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "records"),
    [
        ("[]", []),
        ("\ufeff [ ] \r\n", []),
        ("[1, 2,\n\n3]", [(1, 1, 1), (1, 2, 2), (3, 3, 3)]),
        ('[\r\n{"a": 1}\r\n,\r\n{"b": [2,\r\n3]},"c"\r\n]', [(2, 1, {"a": 1}), (4, 2, {"b": [2, 3]}), (5, 3, "c")]),
    ],
)
def test_each_record_with_its_line_and_number(tmp_path: Path, content: str, records: list[object]) -> None:
    assert list(array_records(written(tmp_path, content))) == records


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values=st.lists(JSON, max_size=8), chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_any_array_is_read_whole_whatever_the_window(
    tmp_path_factory: pytest.TempPathFactory, values: list[object], chunk: int, indent: int | None, ascii_only: bool
) -> None:
    """A window may end inside a number, an escape, a literal or a character."""
    path = written(tmp_path_factory.getbasetemp(), json.dumps(values, indent=indent, ensure_ascii=ascii_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_CHUNK_BYTES", chunk)
        assert [value for _, _, value in array_records(path)] == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: found nothing; expected a JSON array of records"),
        ("\n\n", ":3: found nothing; expected"),
        ('\n{"a": 1}', ":2: found '{\"a\": 1}'; expected a JSON array"),
        (b"\x00\x01", r":1: found '\\x00\\x01'; expected a JSON array"),
        ("[1, 2] 3", ":1: '3' stands behind the end of the array"),
        ("[1\n2]", ":2: broken JSON at record 1: expected ',' or '\\]' behind it, found '2'$"),
        ("[1,\n]", ":2: broken JSON at record 2: Expecting value$"),
        ("[,1]", ":1: broken JSON at record 1: Expecting value$"),
        ("[1", ":1: broken JSON at record 1: .* found the end; the file looks cut off$"),
        ("[1,", ":1: broken JSON at record 2: Expecting value; the file looks cut off$"),
        ("[", ":1: broken JSON at record 1: Expecting value; the file looks cut off$"),
        ('[1, {"a":\n"cut he', ":2: broken JSON in record 2, character 7: Unterminated string .*; the file looks cut off$"),
        ('[{"a": tru', ":1: broken JSON in record 1, character 7: Expecting value; the file looks cut off$"),
        ('[1,\n{"a" 1}, {"b": 1}, {"c": 1}, {"d": 1}]', ":2: broken JSON in record 2, character 6: Expecting ':' delimiter$"),
        ('["a\tb"]', ":1: broken JSON in record 1, character 3: Invalid control character at$"),
        ("[1,\n-Infinity]", ":2: record 2: -Infinity is no JSON$"),
        ('[{"a": NaN}]', ":1: record 1: NaN is no JSON$"),
        ("[" * 100_000, ":1: record 1: .*recursion"),
        ("[" + "9" * 6000 + "]", ":1: record 1: .*4300 digits"),
        (b'[1,\n"\xff"]', r":2: not UTF-8 \(byte 0xff\)$"),
        ('[1,\n"é'.encode()[:-1], r":2: not UTF-8 \(byte 0xc3\); the file looks cut off$"),
        ("[]".encode("utf-16"), r":1: not UTF-8 \(byte 0xff\)"),
    ],
)
def test_what_is_no_array_is_one_clear_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"array\.json" + message) as raised:
        list(array_records(written(tmp_path, content)))
    assert "\n" not in str(raised.value)


def test_records_before_the_broken_one_are_given(tmp_path: Path) -> None:
    records = array_records(written(tmp_path, '[{"a": 1}, {"b": 2}, {"c"'))
    assert [next(records)[2], next(records)[2]] == [{"a": 1}, {"b": 2}]
    with pytest.raises(ValueError, match="record 3"):
        next(records)


@pytest.mark.parametrize("record", ['"' + "é" * 200 + '"', "[" + "1, " * 66 + "1]"])
def test_a_record_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str) -> None:
    path = written(tmp_path, f"[1,\n{record}]")
    monkeypatch.setattr(json_array, "_CHUNK_BYTES", 16)
    monkeypatch.setattr(json_array, "LONGEST_CHARACTERS", len(record))
    assert len(list(array_records(path))) == 2
    monkeypatch.setattr(json_array, "LONGEST_CHARACTERS", len(record) - 1)
    with pytest.raises(ValueError, match=r":2: record 2 has more than"):
        list(array_records(path))


def test_a_string_that_never_ends_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "endless.json"
    with path.open("wb") as file:
        file.write(b'["')
        for _ in range(300):
            file.write(b"a" * (1 << 20))
    code = (
        "import sys\nfrom pathlib import Path\nfrom workloads.sources.json_array import array_records\n"
        "try:\n    list(array_records(Path(sys.argv[1])))\n"
        "except ValueError as error:\n    print(error)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True, check=True)
    said, peak_kib = done.stdout.splitlines()
    assert said == f"{path}:1: record 1 has more than 64 Mi characters"
    assert int(peak_kib) < 600 << 10
