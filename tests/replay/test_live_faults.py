"""What replicas can do to the wall-clock driver, each shown on a small server that misbehaves: every request has one outcome."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from replay.live import LiveRun
from replay.recorder import Recorder
from replay.stream import NoGauges, fetch_gauges
from tests.replay.scenes import cell, single_turns

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNK = b'data: {"choices": [{"text": " t"}]}\n\n'


async def read_request(reader: asyncio.StreamReader) -> None:
    """Takes in one whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = re.search(rb"content-length: (\d+)", head)
    await reader.readexactly(int(size[1]) if size else 0)


def misbehaving(answer: bytes, hang: bool = False) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        if hang:
            await reader.read()
        writer.close()

    return handle


def replay(handler: Handler | None, **parameters: object) -> tuple[Recorder, dict[str, int]]:
    async def go() -> tuple[Recorder, dict[str, int]]:
        server = await asyncio.start_server(handler or misbehaving(b""), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if handler is None:
            server.close()
            await server.wait_closed()
        recorder = Recorder()
        a_cell = cell(replicas=1, **parameters)  # type: ignore[arg-type]
        run = LiveRun(a_cell, single_turns([0.0]), [port], recorder, asyncio.get_running_loop().time())
        async with asyncio.timeout(20):
            await run.run()
        server.close()
        return recorder, run.client.counts

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("handler", "outcome", "status", "error"),
    [
        (None, "error", 0, "connect"),
        (misbehaving(b""), "error", 0, "closed without an answer"),
        (misbehaving(b"not HTTP at all\r\n\r\n"), "error", 0, "stream"),
        (misbehaving(HEAD + CHUNK), "error", 0, "truncated stream"),
        (misbehaving(HEAD + b"data: {not json\n\n"), "error", 0, "stream"),
        (misbehaving(HEAD + CHUNK + b"data: [DONE]\n\n"), "error", 200, "no usage"),
        (misbehaving(HEAD + b'data: {"error": {"message": "full", "code": 503}}\n\ndata: [DONE]\n\n'), "refused", 503, "full"),
        (misbehaving(b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n"), "refused", 429, "HTTP 429"),
    ],
)
def test_a_bad_answer_has_one_outcome(handler: Handler | None, outcome: str, status: int, error: str) -> None:
    recorder, counts = replay(handler)
    (row,) = recorder.attempts
    assert (row.outcome, row.status) == (outcome, status)
    assert error in row.error
    assert counts["failed"] == counts["scheduled"] == 1


@pytest.mark.parametrize("answer", [HEAD + CHUNK, HEAD + b'data: {"error": {"code": 503}}\n\ndata: [DONE]\n\n'])
def test_what_the_guards_hear_is_retried(answer: bytes) -> None:
    """A lost connection counts as status 0, an error event as its code; nothing is retried once a token was relayed."""
    recorder, _ = replay(misbehaving(answer), guards=(("retry", {"max_attempts": 3, "backoff_s": 0.01}),))
    assert max(r.router_try or 0 for r in recorder.attempts) == (1 if CHUNK in answer else 3)


def test_a_replica_that_hangs_is_given_up_by_the_client() -> None:
    from replay.retry import RetryRule

    recorder, counts = replay(misbehaving(HEAD, hang=True), client=RetryRule("r", ttft_timeout_s=0.3, max_attempts=1))
    assert [r.outcome for r in recorder.attempts] == ["timeout"]
    assert counts["failed"] == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\nnonsense\n", b"\xff\xfe\r\n\r\n\xff\xfe"])
def test_gauges_that_cannot_be_read_are_one_kind_of_error(answer: bytes) -> None:
    async def go() -> dict[str, float]:
        server = await asyncio.start_server(misbehaving(answer), "127.0.0.1", 0)
        async with server:
            return await fetch_gauges(server.sockets[0].getsockname()[1])

    if answer == b"":
        assert asyncio.run(go()) == {}
    else:
        with pytest.raises(NoGauges):
            asyncio.run(go())
