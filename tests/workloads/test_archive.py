"""Archives: unpacked in a stream and gone after use; bombs, paths that lead elsewhere and damage are refused in one line."""

import bz2
import errno
import gzip
import io
import lzma
import random
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from workloads.sources.archive import Limits, opened
from workloads.sources.download import cache_folder

TEXT = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"2023-11-16 18:17:03.9799600,4808,10\n" * 500
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return bytes(sink.getvalue())


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "zip": lambda content: zipped(("trace.csv", content)),
}


def written(tmp_path: Path, content: bytes, name: str = "packed") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


USUAL = Limits()


def refusal(path: Path, limits: Limits = USUAL) -> str:
    with pytest.raises(ValueError, match=f"^{path}: ") as raised, opened(path, limits):
        pass
    assert "\n" not in str(raised.value)
    assert left_over() == []
    return str(raised.value)


def left_over() -> list[str]:
    return [p.name for p in (cache_folder() / "unpacked").glob("*")]


class TestPlain:
    @pytest.mark.parametrize("kind", PACKERS)
    def test_a_packed_file_is_there_while_used_and_gone_after(self, tmp_path: Path, kind: str) -> None:
        path = written(tmp_path, PACKERS[kind](TEXT), "conv.csv.data")  # the content tells the kind, not the name
        with opened(path) as plain:
            assert plain.read_bytes() == TEXT
            assert plain.is_relative_to(cache_folder())
        assert not plain.exists()
        assert left_over() == []

    def test_a_suffix_goes_and_the_name_stays(self, tmp_path: Path) -> None:
        with opened(written(tmp_path, gzip.compress(TEXT), "conv_1week.csv.gz")) as plain:
            assert plain.name == "conv_1week.csv"

    @pytest.mark.parametrize("content", [TEXT, b"", b"P", b"PAR1....PAR1", b'{"a": 1}\n', b"\xef\xbb\xbf[]"])
    def test_what_is_no_archive_is_itself(self, tmp_path: Path, content: bytes) -> None:
        path = written(tmp_path, content, "trace.gz")
        with opened(path) as plain:
            assert plain == path
        assert path.exists()

    def test_a_folder_is_itself(self, tmp_path: Path) -> None:
        with opened(tmp_path) as plain:
            assert plain == tmp_path

    @pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
    def test_parts_in_a_row_are_one_file(self, tmp_path: Path, kind: str) -> None:
        with opened(written(tmp_path, PACKERS[kind](TEXT) + PACKERS[kind](TEXT))) as plain:
            assert plain.read_bytes() == TEXT + TEXT

    def test_a_reader_s_error_passes_and_the_file_goes(self, tmp_path: Path) -> None:
        path = written(tmp_path, gzip.compress(TEXT))
        with pytest.raises(OSError, match="of the reader"), opened(path):
            raise OSError("of the reader")
        assert left_over() == []


class TestZip:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_the_one_data_file_is_yielded(self, tmp_path: Path, method: int) -> None:
        names = ("data/", "README.md", "LICENSE-APACHE", "__MACOSX/._conv.csv", "data/.DS_Store")
        rest = [(name, b"") for name in names]
        with opened(written(tmp_path, zipped(("data/conv.csv", TEXT), *rest, method=method))) as plain:
            assert (plain.name, plain.read_bytes()) == ("conv.csv", TEXT)

    def test_several_are_a_folder_without_their_common_top(self, tmp_path: Path) -> None:
        top = "ServeGen-f8/data"
        members = [(f"{top}/m/chunk-0-trace.csv", b"0"), (f"{top}/n/chunk-1.json", b"1"), ("ServeGen-f8/README.md", b"")]
        with opened(written(tmp_path, zipped(*members))) as folder:
            found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert found == {"m/chunk-0-trace.csv": b"0", "n/chunk-1.json": b"1"}
        assert left_over() == []

    def test_names_from_windows_are_folders_too(self, tmp_path: Path) -> None:
        with opened(written(tmp_path, zipped(("d\\a.csv", b"a"), ("d\\b.csv", b"b")))) as folder:
            assert sorted(p.name for p in folder.iterdir()) == ["a.csv", "b.csv"]

    def test_large_directories_are_read_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # as if it held more than 65,535: zip64 records
        content = zipped(("a.csv", b"a"), ("b.csv", b"b"))
        assert b"PK\x06\x06" in content
        with opened(written(tmp_path, content)) as folder:
            assert sorted(p.name for p in folder.iterdir()) == ["a.csv", "b.csv"]
        assert "2 members" in refusal(written(tmp_path, content), Limits(members=1))

    @pytest.mark.parametrize(
        "name", ["../x.csv", "a/../../x.csv", "/etc/x", "C:\\x", "c:x", "\\\\host\\x", "..\\x", "..", "./../x", "a/..", "/"]
    )
    def test_a_name_that_leads_elsewhere(self, tmp_path: Path, name: str) -> None:
        assert "leads out of the archive" in refusal(written(tmp_path, zipped(("a.csv", b"a"), (name, b"x"))))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "packed"]

    @pytest.mark.parametrize("name", ["a\x00b.csv", "a\nb.csv", "\x1b[2Ja.csv"])
    def test_a_name_with_control_characters(self, tmp_path: Path, name: str) -> None:
        content = zipped(("a#b.csv", b"x")).replace(b"a#b.csv", b"a\x00b.csv") if "\x00" in name else zipped((name, b"x"))
        assert "control characters" in refusal(written(tmp_path, content))

    @pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
    def test_a_link_or_a_device(self, tmp_path: Path, mode: int) -> None:
        link = zipfile.ZipInfo("a.csv")
        link.create_system, link.external_attr = 3, (mode | 0o777) << 16
        assert "'a.csv': is a link or a device" in refusal(written(tmp_path, zipped((link, b"/etc/passwd"))))

    def test_an_encrypted_member(self, tmp_path: Path) -> None:
        content = bytearray(zipped(("a.csv", TEXT)))
        content[6] |= 1
        content[content.index(b"PK\x01\x02") + 8] |= 1
        assert "'a.csv': is encrypted" in refusal(written(tmp_path, bytes(content)))

    @pytest.mark.parametrize(
        "names", [("a.csv", "a.csv"), ("a.csv", "./a.csv"), ("d/a.csv", "d\\a.csv"), ("d//a.csv", "d/a.csv")]
    )
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_name_twice(self, tmp_path: Path, names: tuple[str, str]) -> None:
        assert "is there twice" in refusal(written(tmp_path, zipped((names[0], b"1"), (names[1], b"2"))))

    def test_a_file_that_is_a_folder_too(self, tmp_path: Path) -> None:
        assert "cannot be unpacked" in refusal(written(tmp_path, zipped(("x/a", b"1"), ("x/a/b", b"2"), ("y", b""))))

    def test_a_name_longer_than_files_have(self, tmp_path: Path) -> None:
        assert "File name too long" in refusal(written(tmp_path, zipped(("a" * 300, b"1"))))

    def test_too_many_members(self, tmp_path: Path) -> None:
        many = zipped(*((f"{i}.csv", b"") for i in range(11)))
        assert "11 members in a directory" in refusal(written(tmp_path, many), Limits(members=10))
        # an end record that says less than there is
        at = many.rindex(b"PK\x05\x06")
        liar = many[: at + 8] + struct.pack("<2H", 1, 1) + many[at + 12 :]
        assert "11 members" in refusal(written(tmp_path, liar), Limits(members=10))

    @pytest.mark.parametrize("members", [[], [("README", b"x"), ("d/", b""), (".hidden", b"x")]])
    def test_no_data(self, tmp_path: Path, members: list[Any]) -> None:
        assert "holds no data file" in refusal(written(tmp_path, zipped(*members)))


class TestBombs:
    BOMB = 16 << 20  # bytes of zeros; packed they are some 16 kB, so limits of 200 × are far behind
    LIMITS = Limits(slack_bytes=1 << 20)

    @pytest.mark.parametrize("kind", PACKERS)
    def test_zeros(self, tmp_path: Path, kind: str) -> None:
        path = written(tmp_path, PACKERS[kind](bytes(self.BOMB)))
        assert f"unpacks to more than {self.LIMITS.of(path.stat().st_size)} bytes" in refusal(path, self.LIMITS)
        with opened(path) as plain:  # within the slack of the usual limits
            assert plain.stat().st_size == self.BOMB

    def test_many_members_count_together(self, tmp_path: Path) -> None:
        each = [(f"{i}.csv", bytes(400 << 10)) for i in range(8)]  # packed ~4 kB: 200 × 4 kB + 1 MiB are four and a half
        assert "'4.csv': unpacks to more than" in refusal(written(tmp_path, zipped(*each)), self.LIMITS)

    def test_members_that_overlap_count_each_time(self, tmp_path: Path) -> None:
        """One kernel of data, listed by many directory entries."""
        kernel = zipped(("a.csv", bytes(1 << 20)))
        start = kernel.index(b"PK\x01\x02")
        entry, end = kernel[start : kernel.rindex(b"PK\x05\x06")], kernel[kernel.rindex(b"PK\x05\x06") :]
        entries = b"".join(entry.replace(b"a.csv", name) for name in (b"a.csv", b"b.csv", b"c.csv", b"d.csv"))
        bomb = kernel[:start] + entries + end[:8] + struct.pack("<2HL", 4, 4, len(entries)) + end[16:]
        assert refusal(written(tmp_path, bomb), self.LIMITS)  # by zipfile itself, or by the count

    def test_the_absolute_limit(self, tmp_path: Path) -> None:
        path = written(tmp_path, gzip.compress(random.Random(1).randbytes(100_000)))
        assert "unpacks to more than 50000 bytes" in refusal(path, Limits(total_bytes=50_000))

    @pytest.mark.parametrize("said", [1, 5, len(TEXT) - 1, len(TEXT) + 1, 1 << 31])
    def test_a_header_that_lies_about_the_size(self, tmp_path: Path, said: int) -> None:
        content = bytearray(zipped(("a.csv", TEXT)))
        for at in (22, content.index(b"PK\x01\x02") + 24):
            content[at : at + 4] = struct.pack("<L", said)
        assert "a.csv" in refusal(written(tmp_path, bytes(content)))

    def test_the_header_of_a_bomb_lies(self, tmp_path: Path) -> None:
        content = bytearray(zipped(("a.csv", bytes(self.BOMB))))
        for at in (22, content.index(b"PK\x01\x02") + 24):
            content[at : at + 4] = struct.pack("<L", 1000)
        refusal(written(tmp_path, bytes(content)), self.LIMITS)

    @pytest.mark.parametrize("outer", PACKERS)
    @pytest.mark.parametrize("inner", PACKERS)
    def test_archives_in_archives(self, tmp_path: Path, outer: str, inner: str) -> None:
        path = written(tmp_path, PACKERS[outer](PACKERS[inner](TEXT)))
        assert f"holds another archive ({inner}); unpack it first" in refusal(path)

    def test_a_tar(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.csv"))
        assert "holds another archive (tar)" in refusal(written(tmp_path, gzip.compress(buffer.getvalue())))
        assert "is a tar archive; allowed" in refusal(written(tmp_path, buffer.getvalue()))

    @pytest.mark.parametrize("head", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\x00"])
    def test_kinds_that_are_not_unpacked(self, tmp_path: Path, head: bytes) -> None:
        assert "unpack it first" in refusal(written(tmp_path, head + bytes(100)))


class TestDamage:
    @pytest.mark.parametrize("kind", PACKERS)
    def test_a_cut_archive(self, tmp_path: Path, kind: str) -> None:
        packed = PACKERS[kind](random.Random(2).randbytes(5_000))
        for size in (len(packed) - 1, len(packed) // 2, 30, 7):
            assert f"damaged or cut {kind} archive" in refusal(written(tmp_path, packed[:size]))

    @pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
    def test_a_wrong_checksum(self, tmp_path: Path, kind: str) -> None:
        packed = bytearray(PACKERS[kind](TEXT))
        at = {"gz": -8, "bz2": 10, "xz": -20, "zip": packed.index(b"PK\x01\x02") + 16 if kind == "zip" else 0}[kind]
        packed[at] ^= 0xFF
        assert f"damaged or cut {kind} archive" in refusal(written(tmp_path, bytes(packed)))

    @pytest.mark.parametrize("kind", PACKERS)
    def test_flipped_bytes_never_do_more_than_be_refused(self, tmp_path: Path, kind: str) -> None:
        packed, rng = PACKERS[kind](TEXT), random.Random(3)
        refused = 0
        for _ in range(300):
            mutated = bytearray(packed)
            for _ in range(rng.choice((1, 1, 2, 8))):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            path = written(tmp_path, bytes(mutated))
            try:
                with opened(path) as plain:
                    assert plain == path or plain.is_relative_to(cache_folder())
            except ValueError as error:
                refused += 1
                assert str(error).startswith(f"{path}: ")  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
            assert left_over() == []
        assert refused > 50  # zstd frames need not carry a checksum

    def test_a_disk_without_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Full(io.BytesIO):
            def write(self, content: Any, /) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        path = written(tmp_path, gzip.compress(TEXT))
        plain_open = Path.open
        monkeypatch.setattr(Path, "open", lambda p, mode="r", **kw: Full() if mode == "xb" else plain_open(p, mode, **kw))
        assert "cannot be unpacked: No space left on device" in refusal(path)

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path, cache: Path) -> None:
        cache.write_text("a file where the folder should be")
        assert "cannot be unpacked into" in refusal(written(tmp_path, gzip.compress(TEXT)))


_CHILD = """
import sys
from pathlib import Path
from workloads.sources.archive import opened
def peak_kib():  # ru_maxrss would begin with the parent's
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
with opened(Path(sys.argv[1])):
    pass
before = peak_kib()
with opened(Path(sys.argv[2])) as plain:
    print(plain.stat().st_size, peak_kib() - before)
"""


@pytest.mark.parametrize("kind", PACKERS)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    # a random megabyte, 300 times: too far apart for the packers, so within 200 × and yet quickly made
    block = random.Random(4).randbytes(1 << 20)
    packed = {"gz": gzip.compress(block, 1) * 300, "bz2": bz2.compress(block, 1) * 60, "zst": zstd(block) * 300}
    packed |= {"xz": lzma.compress(block, preset=0) * 60}
    content = zipped(("a.bin", block * 300), method=zipfile.ZIP_STORED) if kind == "zip" else packed[kind]
    small, large = written(tmp_path, PACKERS[kind](TEXT), "small"), written(tmp_path, content, "large")
    command = [sys.executable, "-c", _CHILD, str(small), str(large)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    size, grown_kib = map(int, done.stdout.split())
    assert size >= 60 << 20
    assert grown_kib < 50 << 10
