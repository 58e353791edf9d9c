"""Which headers a proxy may not pass on (RFC 9110, section 7.6.1). It does not know what the others mean."""

from collections.abc import Iterable

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
Header = tuple[bytes, bytes]


def listed(values: Iterable[bytes]) -> frozenset[bytes]:
    """The names in `Connection` headers, in small letters."""
    return frozenset(name.strip().lower() for value in values for name in value.split(b","))


def lines(headers: Iterable[Header]) -> bytes:
    """As they go over the wire."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
