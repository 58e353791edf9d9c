"""Packed files (.gz, .bz2, .xz, .zst, .zip) as plain ones, within bounds. It does not know what is in them."""

import bz2
import gzip
import lzma
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workloads.sources.download.folder import cache_folder
from workloads.sources.source import clause

CHUNK_BYTES = 1 << 20
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
_TAR_AT = 257  # a tar file says "ustar" there
_UNPACKS = ("zip", "gz", "bz2", "xz", "zst")
_DAMAGE = (
    EOFError,
    NotImplementedError,
    OverflowError,
    UnicodeDecodeError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_SUFFIXES = {".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What may come out of an archive: `ratio` × its size + `slack_bytes`, at most `total_bytes`, in at most `members` files."""

    ratio: int = 200
    slack_bytes: int = 64 << 20
    total_bytes: int = 256 << 30
    members: int = 10_000

    def of(self, packed_bytes: int) -> int:
        return min(self.ratio * packed_bytes + self.slack_bytes, self.total_bytes)


class Unpacked:
    """Writes unpacked bytes to files below one folder and counts them against the limit while they come."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self._archive, self._folder = archive, folder
        self._allowed_bytes = limits.of(archive.stat().st_size)
        self._written_bytes = 0

    def write(self, name: str, file: IO[bytes], shown: str = "") -> int:
        """Everything that `file` yields, as `name` below the folder; returns the bytes, raises ValueError over the limit."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = self._written_bytes
        with path.open("xb") as out:
            while chunk := file.read(CHUNK_BYTES):
                if self._written_bytes == before and (kind := archive_kind(chunk)):
                    raise ValueError(f"{self._archive}{_member(shown)}: holds another archive ({kind}); unpack it first")
                self._written_bytes += len(chunk)
                if self._written_bytes > self._allowed_bytes:
                    raise ValueError(
                        f"{self._archive}{_member(shown)}: unpacks to more than {self._allowed_bytes} bytes, the limit for an "
                        f"archive of {self._archive.stat().st_size}; unpack it by other means if you trust it"
                    )
                out.write(chunk)
        return self._written_bytes - before


def archive_kind(head: bytes) -> str | None:
    """What the first bytes of a file (≥ 262 to tell a tar) say it is: zip, gz, bz2, xz, zst, 7z, rar, tar; None for plain."""
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "tar"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


@contextmanager
def opened(path: Path, limits: Limits = Limits()) -> Iterator[Path]:
    """The plain file behind `path`, or a folder for a zip of several; what is no archive is itself. Gone after use.

    Recognised by content, unpacked in a stream into a temporary folder below the cache. A ValueError that names what was unpacked
    names the archive instead (and the member of a zip). Raises ValueError in one line that names
    the archive, the member and what is allowed: unknown kinds, damaged or cut archives, names that lead elsewhere, links,
    encrypted, repeated or nested members, too many of them, too many bytes, no room left.
    """
    if path.is_dir():
        yield path
        return
    with path.open("rb") as file:
        kind = archive_kind(file.read(512))
    if kind is None:
        yield path
        return
    if kind not in _UNPACKS:
        raise ValueError(f"{path}: is a {kind} archive; allowed: a plain file or one of {', '.join(_UNPACKS)}: unpack it first")
    with ExitStack() as stack:
        folder = _temporary_folder(path, stack)
        plain = _unpacked(path, kind, limits, folder)
        try:
            yield plain
        except ValueError as error:
            unpacked = folder if kind == "zip" else plain
            raise ValueError(str(error).replace(str(unpacked), str(path))) from error


def _temporary_folder(path: Path, stack: ExitStack) -> Path:
    home = cache_folder() / "unpacked"
    try:
        home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=home))
    except OSError as error:
        raise ValueError(f"{path}: cannot be unpacked into {home}: {error.strerror or error}") from error
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _unpacked(path: Path, kind: str, limits: Limits, folder: Path) -> Path:
    try:
        sink = Unpacked(path, folder, limits)
        if kind == "zip":
            from workloads.sources.zip_members import unpack_zip

            return unpack_zip(path, folder, sink, limits.members)
        name = path.stem if path.suffix.lower() in _SUFFIXES else path.name
        with _STREAMS[kind](path) as file:
            sink.write(name, file)
        return folder / name
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged or cut {kind} archive: {_clause(error)}") from error
    except OSError as error:
        # the decompressors raise a bare OSError for bad data; one from the system carries its number
        what = "cannot be unpacked" if error.errno else f"damaged or cut {kind} archive"
        raise ValueError(f"{path}: {what}: {error.strerror or _clause(error)}") from error


def _clause(error: Exception) -> str:
    return clause(error) if str(error) else "it ends too early"


def _zstd(path: Path) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


_STREAMS: dict[str, Callable[[Path], Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": _zstd}


def _member(name: str) -> str:
    return f": {name[:80]!r}" if name else ""
