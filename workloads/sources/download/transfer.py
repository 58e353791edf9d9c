"""The bytes behind a URL into a part file, going on where an earlier try ended. It does not know what the file is for."""

import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workloads.sources.download.shown import TransferShown, bytes_text

TIMEOUT_S = 30.0
TRIES = 5
PAUSE_S = 1.0
CHUNK_BYTES = 1 << 18
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class TransferError(Exception):
    """What went wrong, in a clause."""


class AccessDenied(TransferError):
    """The other side wants to know who asks."""


class _Dropped(TransferError):
    """The connection ended early; what came so far is kept."""


class _Mismatch(TransferError):
    """All came, but it is not what was expected."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to get: `address` and `version` identify the content over several tries, `url` is where it is today.

    `headers` go to the first host only (a token must not follow a redirect). Known `size_bytes` and `sha256` are enforced.
    """

    address: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    size_bytes: int
    sha256: str
    etag: str | None


def receive(target: Target, part: Path, shown: TransferShown) -> Received:
    """Fill `part` and say what it is. A dropped connection is taken up again while it makes progress, at most `TRIES` times.

    Raises TransferError (the part stays for the next try, unless it proved wrong) and OSError where `part` cannot be written.
    """
    for tries_left in range(TRIES - 1, -1, -1):
        before = _size(part)
        try:
            return _checked(target, part, _one_try(target, part, shown))
        except _Dropped:
            if not tries_left or _size(part) <= before:
                raise
            time.sleep(PAUSE_S)
        except _Mismatch:
            forget(part)
            if not tries_left or not before:
                raise
            shown.said("what was resumed did not fit: starting anew")
    raise AssertionError("unreachable: the last try returns or raises")


def forget(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _one_try(target: Target, part: Path, shown: TransferShown) -> Received:
    answer, offset = _answer(target, part)
    with answer:
        total = _total(target, answer, offset)
        _check_room(part, offset, total)
        shown.begin(total, offset)
        with part.open("r+b" if offset else "wb") as file:
            digest = hashlib.sha256()
            while file.tell() < offset:
                digest.update(file.read(min(CHUNK_BYTES, offset - file.tell())))
            _write_state(part, target, _validator(answer.headers))
            done = offset
            while total is None or done < total:
                chunk = _read(answer, CHUNK_BYTES if total is None else min(CHUNK_BYTES, total - done))
                if not chunk:
                    break
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                shown.advance(len(chunk))
    if total is not None and done < total:
        raise _Dropped(f"the connection ended after {done} of {total} bytes")
    return Received(done, digest.hexdigest(), answer.headers.get("ETag"))


def _answer(target: Target, part: Path) -> tuple[Any, int]:
    """The open answer and the byte it begins with: the rest where a part can be taken up, else the whole file."""
    if resume := _resume_headers(target, part):
        try:
            answer = _open(target, resume)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise _refusal(error) from error
            error.close()
        else:
            if answer.status != 206:
                return answer, 0
            if answer.headers.get("Content-Range", "").startswith(f"bytes {_size(part)}-"):
                return answer, _size(part)
            answer.close()
        forget(part)  # the other side knows no such range
    try:
        return _open(target, {}), 0
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error


def _refusal(error: urllib.error.HTTPError) -> TransferError:
    error.close()
    return (AccessDenied if error.code in (401, 403) else TransferError)(str(error))


def _open(target: Target, extra: Mapping[str, str]) -> Any:
    request = urllib.request.Request(target.url, headers={"User-Agent": "stampede", **extra})
    for name, value in target.headers.items():
        request.add_unredirected_header(name, value)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TransferError(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__) from error
    if urllib.parse.urlsplit(target.url).scheme == "https" and urllib.parse.urlsplit(answer.url).scheme != "https":
        answer.close()
        raise TransferError(f"led to {answer.url[:100]}, which is not https")
    return answer


def _read(answer: Any, size: int) -> bytes:
    try:
        return bytes(answer.read1(size))
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"the connection broke: {str(error) or type(error).__name__}") from error


def _total(target: Target, answer: Any, offset: int) -> int | None:
    """The size of the whole file, as told or as known (None: neither); TransferError where what comes is not the file."""
    if answer.headers.get_content_type() == "text/html" and not target.url.endswith((".html", ".htm")):
        raise TransferError("a web page came instead of the file")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError(f"the file came with Content-Encoding {answer.headers['Content-Encoding']!r}, not asked for")
    told = answer.headers.get("Content-Length", "")
    total = offset + int(told) if told.isdigit() else target.size_bytes
    if target.size_bytes not in (None, total):
        raise TransferError(f"the other side offers {total} bytes, expected {target.size_bytes}")
    return total


def _checked(target: Target, part: Path, received: Received) -> Received:
    with part.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise _Mismatch("a Git LFS pointer came instead of the file; nothing is kept")
    if target.size_bytes is not None and received.size_bytes != target.size_bytes:
        raise _Mismatch(f"{received.size_bytes} bytes came, expected {target.size_bytes}; nothing is kept")
    if target.sha256 is not None and received.sha256 != target.sha256:
        raise _Mismatch(f"its sha256 is {received.sha256}, expected {target.sha256}; nothing is kept")
    return received


def _resume_headers(target: Target, part: Path) -> dict[str, str]:
    """Range, with If-Range where the other side gave a strong validator; without one only a known sha256 makes it safe."""
    size = _size(part)
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
        same = (state["address"], state["version"]) == (target.address, target.version)
        validator = state["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        same, validator = False, None
    if not size or not same or not (validator or target.sha256):
        return {}
    return {"Range": f"bytes={size}-", **({"If-Range": validator} if validator else {})}


def _validator(headers: Any) -> str | None:
    """A strong ETag, else the Last-Modified date: RFC 9110, 13.1.5, wants no weak tag in If-Range."""
    etag: str | None = headers.get("ETag")
    dated: str | None = headers.get("Last-Modified")
    return etag if etag and not etag.startswith("W/") else dated


def _write_state(part: Path, target: Target, validator: str | None) -> None:
    state = {"address": target.address, "version": target.version, "validator": validator}
    _state_path(part).write_text(json.dumps(state), encoding="utf-8")


def _check_room(part: Path, offset: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - offset > free:
        raise TransferError(f"{bytes_text(total - offset)} are to come, {bytes_text(free)} are free in {part.parent}")


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
