"""How a response is taken out of its framing, however the bytes are cut."""

import pytest

from replay.send.response import BadResponse, Response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Stampede-Replica: 3\r\n\r\n"
BODY = b"5;ext=1\r\nhello\r\n1\r\n,\r\nA\r\n0123456789\r\n0\r\n"


def fed(data: bytes, step: int) -> tuple[Response, bytes]:
    response = Response()
    pieces = [piece for i in range(0, len(data), step) for piece in response.feed(data[i : i + step])]
    return response, b"".join(pieces)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize(
    ("data", "body", "status", "complete", "reusable"),
    [
        (CHUNKED + BODY + b"\r\n", b"hello,0123456789", 200, True, True),
        (CHUNKED + BODY + b"trailer: x\r\nother: y\r\n\r\n", b"hello,0123456789", 200, True, True),
        (CHUNKED + BODY, b"hello,0123456789", 200, False, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + BODY + b"\r\n", b"hello,0123456789", 200, True, True),
        (b"HTTP/1.1 503 Full\r\ncontent-length: 4\r\n\r\nfull", b"full", 503, True, True),
        (b"HTTP/1.1 503 Full\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfull", b"full", 503, True, False),
        (b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", b"", 429, True, True),
        (b"HTTP/1.1 204 No\r\n\r\n", b"", 204, True, True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", 200, True, False),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end", 200, False, False),
    ],
)
def test_every_cut_gives_the_same(data: bytes, body: bytes, status: int, complete: bool, reusable: bool, step: int) -> None:
    response, found = fed(data, step)
    assert (found, response.status, response.complete, response.reusable) == (body, status, complete, reusable)


def test_headers_are_known_in_small_letters() -> None:
    response, _ = fed(CHUNKED, 1000)
    assert response.headers[b"x-stampede-replica"] == b"3"


def test_the_peers_end_completes_only_a_body_without_a_length() -> None:
    for data, complete in ((b"HTTP/1.1 200 OK\r\n\r\nx", True), (CHUNKED + BODY, False), (b"HTTP/1.1 2", False)):
        response, _ = fed(data, 1000)
        response.on_eof()
        assert response.complete is complete
        assert not response.reusable


def test_more_than_was_asked_for_spoils_the_connection() -> None:
    for data in (CHUNKED + BODY + b"\r\nHTTP/1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy"):
        response, _ = fed(data, 1000)
        assert response.complete
        assert not response.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-5\r\nx",
        CHUNKED + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_what_is_no_response_is_said(data: bytes) -> None:
    with pytest.raises(BadResponse):
        fed(data, 100_000)
