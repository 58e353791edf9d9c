"""The members of a zip file: which are data, which are refused, and how they are unpacked. It does not know their formats."""

import re
import stat
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads.sources.archive import Unpacked

_END = struct.Struct("<4s4H2LH")  # end of central directory: …, entries, its size, its offset, comment length
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY_BYTES = 1024  # generous: a fixed part of 46, a name, two extras
_DOCUMENT = re.compile(r"(readme|licen[cs]e|notice|citation|copying)([-.](md|txt|rst|cff|apache|mit|data))*", re.IGNORECASE)


def unpack_zip(path: Path, folder: Path, sink: "Unpacked", most_members: int) -> Path:
    """The one data file of a zip, or the folder of its several; a common top folder is stripped.

    Not data: hidden files, `__MACOSX/`, and README, LICENSE and the like. Raises ValueError in one line for what is refused, and
    the errors of `zipfile` and of the decompressors for what is damaged.
    """
    _check_directory_size(path, most_members)
    with zipfile.ZipFile(path) as archive:
        members = _data_members(path, archive.infolist(), most_members)
        for name, member in members.items():
            with archive.open(member) as file:
                size = sink.write(name, file, member.filename)
            if size != member.file_size:
                raise ValueError(f"{path}: {member.filename[:80]!r}: {size} bytes, its header says {member.file_size}")
    return folder / next(iter(members)) if len(members) == 1 else folder


def _check_directory_size(path: Path, most_members: int) -> None:
    """`zipfile` reads the whole directory into memory before anything can be asked of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (_END.size + 65_535)))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(tail):
            raise ValueError(f"{path}: damaged or cut zip archive: it has no end record")
        _, _, _, _, entries, directory_bytes, _, _ = _END.unpack_from(tail, at)
        locator = tail[max(0, at - _LOCATOR64.size) : at]
        if len(locator) == _LOCATOR64.size and locator.startswith(b"PK\x06\x07"):
            file.seek(min(_LOCATOR64.unpack(locator)[2], size))
            record = file.read(_END64.size)
            if len(record) == _END64.size and record.startswith(b"PK\x06\x06"):
                entries, directory_bytes = _END64.unpack(record)[7:9]
    if entries > most_members or directory_bytes > most_members * _ENTRY_BYTES:
        raise ValueError(f"{path}: {entries} members in a directory of {directory_bytes} bytes; allowed: {most_members} members")


def _data_members(path: Path, members: list[zipfile.ZipInfo], most_members: int) -> dict[str, zipfile.ZipInfo]:
    if len(members) > most_members:
        raise ValueError(f"{path}: {len(members)} members; allowed: {most_members}")
    found: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    for member in members:
        parts = _checked_parts(path, member)
        if parts in found:
            raise ValueError(f"{path}: {member.filename!r}: is there twice")
        found[parts] = member
    data = {p: m for p, m in found.items() if not m.is_dir() and _is_data(p)}
    if not data:
        raise ValueError(f"{path}: holds no data file")
    top = 0
    while all(len(p) > top + 1 for p in data) and len({p[top] for p in data}) == 1:
        top += 1
    return {"/".join(p[top:]): m for p, m in sorted(data.items())}


def _checked_parts(path: Path, member: zipfile.ZipInfo) -> tuple[str, ...]:
    """The path of a member, part by part; ValueError where it leads elsewhere or is no plain file."""
    raw = member.orig_filename
    parts = tuple(part for part in re.split(r"[/\\]", raw) if part not in ("", "."))
    mode = member.external_attr >> 16
    problem = ""
    if raw.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", raw) or not parts:
        problem = "leads out of the archive; allowed: relative paths without '..'"
    elif any(ord(c) < 32 or ord(c) == 127 for c in raw):
        problem = "a name with control characters"
    elif stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        problem = "is a link or a device; allowed: plain files"
    elif member.flag_bits & 0x1:
        problem = "is encrypted; allowed: plain files"
    if problem:
        raise ValueError(f"{path}: {raw[:80]!r}: {problem}")
    return parts


def _is_data(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and not _DOCUMENT.fullmatch(parts[-1])
