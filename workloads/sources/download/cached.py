"""The cache of downloaded files: each is whole or not there, with a record of its origin. It does not know their formats."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from workloads.sources.download.folder import cache_folder
from workloads.sources.download.hub import hub_cached, hub_target
from workloads.sources.download.origin import Origin, read_origin, write_origin
from workloads.sources.download.reach import check_reachable
from workloads.sources.download.remote_file import RemoteFile
from workloads.sources.download.shown import TransferShown, bytes_text
from workloads.sources.download.transfer import AccessDenied, Target, TransferError, forget, receive


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file lies, in its source's folder or in the folder of its set; its record and its part are beside that."""

    source: str
    file: RemoteFile
    home: Path
    folder: Path
    set_name: str = ""

    @property
    def path(self) -> Path:
        return self.folder / self.file.file_name

    @property
    def label(self) -> str:
        return f"{self.set_name}.{self.file.file_name}" if self.set_name else self.file.file_name

    @property
    def record(self) -> Path:
        return self.home / f"{self.label}.origin.json"

    @property
    def part(self) -> Path:
        return self.home / f".{self.label}.part"


def fetch(source: str, files: Sequence[RemoteFile]) -> Path:
    """The file behind `files`, or for several a folder that holds exactly them, from the cache or downloaded.

    What lies in the cache is taken unless its record tells of another address, size or content: then it is fetched anew, and a
    line says so. An interrupted download goes on where it ended. Raises ValueError in one line when the files cannot be had.
    """
    if not files or len({file.file_name for file in files}) != len(files):
        raise ValueError(f"{source}: give one file, or several of different names; found {[f.file_name for f in files]}")
    home = cache_folder() / source
    name = "" if len(files) == 1 else _set_name(source, files)
    whole = home / name
    places = [_Place(source, file, home, whole, name) for file in files]
    if all(_problem(place) == "" for place in places):
        return whole if name else places[0].path
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(source, name or files[0].file_name):
            folder = whole if whole.is_dir() else home / f".{name}.part"  # a set is whole or not there, like a file
            for place in places:
                _ensure(replace(place, folder=folder))
            if folder != whole:
                os.replace(folder, whole)
    except OSError as error:
        raise _cannot(places[0], f"{error.filename or home}: {error.strerror or error}") from error
    return whole if name else places[0].path


def check_content(path: Path) -> None:
    """Compare all of a fetched file with its record; ValueError in one line where its sha256 is another or none is recorded."""
    records = (path.with_name(f"{path.name}.origin.json"), path.parent.parent / f"{path.parent.name}.{path.name}.origin.json")
    origin = next((found for found in map(read_origin, records) if found), None)
    if origin is None:
        raise ValueError(f"{path}: no record of its origin beside it")
    if (found := _sha256(path)) != origin.sha256:
        raise ValueError(f"{path}: its sha256 is {found}, it was {origin.sha256} when it came from {origin.address}")


def _set_name(source: str, files: Sequence[RemoteFile]) -> str:
    addresses = "\n".join(file.address for file in files)
    return f"{source}-{hashlib.sha256(addresses.encode()).hexdigest()[:8]}"


def _ensure(place: _Place) -> None:
    """The file is in its place, good and recorded, or ValueError."""
    shown = TransferShown(place.source, place.file.file_name, place.file.address)
    problem = _problem(place)
    if problem == "":
        return
    if problem:
        shown.said(f"{place.path} {problem}: fetching it anew")
    if place.file.licence:
        shown.said(f"licence: {place.file.licence}")
    if not (place.file.repo and _linked(place, shown)):
        _download(place, shown)


def _problem(place: _Place) -> str | None:
    """Why what lies in the cache is not good; "" when it is, None when nothing lies there.

    A file without a record (put there by hand, or by an earlier version) is good unless something else is known of it.
    """
    file, path = place.file, place.path
    if not path.is_file():
        return None
    size, mtime_ns = path.stat().st_size, path.stat().st_mtime_ns
    origin = read_origin(place.record)
    if origin is not None and size != origin.size_bytes:
        return f"has {size} bytes, it had {origin.size_bytes} when it was fetched"
    if origin is None or mtime_ns != origin.mtime_ns:
        found = Origin(file.address, None, None, size, _sha256(path), mtime_ns, None, file.licence)
        if origin is not None and found.sha256 != origin.sha256:
            return "was changed since it was fetched"
        origin = replace(origin or found, mtime_ns=mtime_ns)
        write_origin(place.record, origin)
    if file.sha256 is not None:
        return "" if origin.sha256 == file.sha256 else f"has the sha256 {origin.sha256}, expected {file.sha256}"
    if file.size_bytes not in (None, size):
        return f"has {size} bytes, expected {file.size_bytes}"
    return "" if origin.address == file.address else f"came from {origin.address}, now it is {file.address}"


def _linked(place: _Place, shown: TransferShown) -> bool:
    """Whether the file was found in the hub client's cache; then it is linked from there and recorded."""
    found = hub_cached(place.file)
    if found is None:
        return False
    sha256 = _sha256(found)
    if place.file.sha256 not in (None, sha256):
        shown.said(f"{found} has the sha256 {sha256}, expected {place.file.sha256}: not taken")
        return False
    place.folder.mkdir(exist_ok=True)
    place.path.unlink(missing_ok=True)
    place.path.symlink_to(found.resolve())
    _record(place, found, sha256, None, None)
    shown.said(f"{place.file.file_name}: taken from the hub's cache, sha256 {sha256[:16]}")
    return True


def _download(place: _Place, shown: TransferShown) -> None:
    try:
        target, commit = hub_target(place.file) if place.file.repo else (_url_target(place.file), None)
        with shown:
            received = receive(target, place.part, shown)
    except TransferError as error:
        denied = isinstance(error, AccessDenied) and place.file.gated
        raise _cannot(place, place.file.way_in if denied else str(error)) from error
    _record(place, place.part, received.sha256, target.version or received.etag, commit)
    place.folder.mkdir(exist_ok=True)
    os.replace(place.part, place.path)
    forget(place.part)
    shown.end(received.size_bytes, received.sha256)


def _url_target(file: RemoteFile) -> Target:
    check_reachable(file.url)
    return Target(file.address, file.url, size_bytes=file.size_bytes, sha256=file.sha256)


def _record(place: _Place, path: Path, sha256: str, etag: str | None, commit: str | None) -> None:
    stat, now = path.stat(), datetime.now(UTC).isoformat(timespec="seconds")
    origin = Origin(place.file.address, commit, etag, stat.st_size, sha256, stat.st_mtime_ns, now, place.file.licence)
    write_origin(place.record, origin)


def _cannot(place: _Place, reason: str) -> ValueError:
    kept = place.part.stat().st_size if place.part.is_file() else 0
    again = f"{bytes_text(kept)} are kept, the same command goes on from there; or " if kept else ""
    return ValueError(
        f"cannot download {place.source} ({place.file.address}): {reason}; {again}get the file by other means, then: "
        f"stampede trace import {place.source} --from FILE"
    )


@contextmanager
def _locked(source: str, name: str) -> Iterator[None]:
    """One process at a time; the lock files stay in a folder of their own, since removing one is a race."""
    from filelock import FileLock, Timeout

    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{source}-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        TransferShown(source, name, "").said(f"another process is fetching {name}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
