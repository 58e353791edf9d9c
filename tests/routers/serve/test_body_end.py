"""Where a body ends: the same place that llhttp finds, however the bytes are cut."""

from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.serve.body_end import BadFraming, ChunkedEnd, CloseEnd, LengthEnd, payload_of

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(parts: list[bytes], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in parts if p) + b"0\r\n" + trailer + b"\r\n"


def fed(end: Any, data: bytes, cuts: list[int]) -> int | None:
    """Where `data`, cut in pieces, ends; None: not at all. Pieces after the end are not fed."""
    at = 0
    for to in [*sorted({c % (len(data) + 1) for c in cuts}), len(data)]:
        if to > at:
            found = end.feed(data[at:to])
            if found >= 0:
                return at + int(found)
            at = to
    return None


class Reference:
    """llhttp's word on the same bytes."""

    def __init__(self) -> None:
        self.complete = False
        self.body = b""
        self.parser: Any = httptools.HttpResponseParser(self)
        self.parser.feed_data(HEAD)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True

    def end(self, data: bytes) -> int | None:
        """None: it is not whole; raises HttpParserError."""
        for i in range(len(data)):
            self.parser.feed_data(data[i : i + 1])
            if self.complete:
                return i + 1
        return None


parts = st.lists(st.binary(max_size=40), max_size=6)
extensions = st.sampled_from([b"", b";a=b", b" ;x"])
trailers = st.sampled_from([b"", b"x: y\r\n", b"a: b\r\nc: d\r\n"])
cuts = st.lists(st.integers(0, 400), max_size=8)


@given(
    parts,
    cuts,
    st.sampled_from([b"", b";a=b", b" ;x"]),
    st.sampled_from([b"", b"x: y\r\n", b"a: b\r\nc: d\r\n"]),
    st.binary(max_size=9),
)
@settings(deadline=None)
def test_a_chunked_body_ends_where_it_ends(
    parts: list[bytes], cuts: list[int], extension: bytes, trailer: bytes, rest: bytes
) -> None:
    body = chunked(parts, extension, trailer)
    assert fed(ChunkedEnd(), body + rest, cuts) == len(body)
    assert payload_of(body) == b"".join(parts)


@given(parts, cuts, st.integers(0, 400), st.binary(min_size=1, max_size=3))
@settings(deadline=None, max_examples=300)
def test_what_llhttp_refuses_never_ends_well(parts: list[bytes], cuts: list[int], at: int, put: bytes) -> None:
    """Damaged bodies: either both find the same end, or it is refused, or it is never whole. Never another end."""
    body = chunked(parts)
    at %= len(body)
    damaged = body[:at] + put + body[at + 1 :]
    reference = Reference()
    try:
        expected = reference.end(damaged)
    except httptools.HttpParserError:
        expected = None
    try:
        found = fed(ChunkedEnd(), damaged, cuts)
    except BadFraming:
        found = None
    if found is not None and expected is not None:
        assert found == expected
    if expected is not None and b"\r\n" * 2 not in put:
        assert found in (expected, None)


@pytest.mark.parametrize(
    "bad",
    [
        b"\r\n",
        b"+1\r\na\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"g\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\rb",
        b"ffffffffffffffff\r\n",
        b"1" * 5000,
        b"0\r\n" + b"x: y\r\n" * 5000,
    ],
)
@pytest.mark.parametrize("dribble", [False, True])
def test_what_is_no_chunk_is_refused(bad: bytes, dribble: bool) -> None:
    with pytest.raises(BadFraming):
        fed(ChunkedEnd(), bad, list(range(len(bad))) if dribble else [])


@given(st.integers(0, 50), st.binary(max_size=80), cuts)
def test_a_body_of_known_length(length: int, data: bytes, cuts: list[int]) -> None:
    end = LengthEnd(length)
    assert end.feed(b"") == (0 if length == 0 else -1)
    if length:
        assert fed(end, data, cuts) == (length if len(data) >= length else None)


def test_a_body_that_ends_with_its_connection() -> None:
    assert CloseEnd().feed(b"whatever") == -1
    assert CloseEnd().ends_with_connection
