"""Where requests go: a URL as a socket address and the fixed part of every request's head. It opens nothing."""

import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Address = tuple[Any, ...]
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """One replica or router. `head` is what every request to it begins with; it may hold the API key, so it is never shown.

    `session_header` is the header by which it knows a request's session.
    """

    url: str
    host: str
    family: int
    address: Address
    tls: bool
    head: bytes
    session_header: bytes = b"x-session-id"

    def __repr__(self) -> str:
        return f"Target({self.url})"


def read_target(url: str, endpoint: str, api_key: str = "", session_header: str = "x-session-id") -> Target:
    """A target from `http[s]://host[:port][/prefix]`, its name looked up once; ValueError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"urls: {url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"urls: {url!r}; allowed: http[s]://host[:port][/prefix]")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"urls: {url!r}; allowed: printable ASCII without spaces")
    tls = parts.scheme == "https"
    try:
        found = socket.getaddrinfo(parts.hostname, port or (443 if tls else 80), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"urls: {url!r}: {error}") from None
    family, address = _that_answers([(one[0], one[4]) for one in found])
    lines = [
        f"POST {parts.path.rstrip('/')}{endpoint} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        "accept: text/event-stream",
    ]
    if api_key:
        lines.append(f"authorization: Bearer {api_key}")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n"
    return Target(url, parts.hostname, family, address, tls, head, session_header.encode())


def _that_answers(found: list[tuple[int, Address]]) -> tuple[int, Address]:
    """Of several addresses (`localhost` is IPv6 too) the first that takes a connection; the first of all where none does."""
    for family, address in found if len(found) > 1 else ():
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.settimeout(_LOOK_S)
            if attempt.connect_ex(address) == 0:
                return family, address
    return found[0]


def whole_head(target: Target, size: int, request_id: int, attempt: int, session_id: int, tenant: int) -> bytes:
    """The head of one request: who sends it for whom, so that a router can be sticky and its log joined to ours."""
    return b"%bcontent-length: %d\r\nx-stampede-request: %d.%d\r\n%b: %d\r\nx-tenant-id: %d\r\n\r\n" % (
        target.head,
        size,
        request_id,
        attempt,
        target.session_header,
        session_id,
        tenant,
    )
