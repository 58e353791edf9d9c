"""A server on loopback whose answers a test writes, in a thread, and one sender's run against it. It knows no engine."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from replay.cell import Cell, SessionRule
from replay.retry import RetryRule
from replay.rows import Attempt
from replay.send.sender import Sender
from replay.send.spec import SendSpec
from tests.replay.scenes import cell
from workloads.workload import Workload

CLOSE = object()
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n%b\r\n"


@dataclass
class Asked:
    """One request as it came: head lines by name, body, on which connection and as which of its requests."""

    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    number: int
    at_s: float = field(default_factory=time.monotonic)

    @property
    def prompt(self) -> list[int]:
        ids: list[int] = self.body["prompt"]
        return ids


# What is written, piece by piece: bytes, seconds to wait, or CLOSE.
Script = Iterator[bytes | float | object] | list[Any]
Answering = Callable[[Asked], Script]


def event(text: str = " t", ids: list[int] | None = None, reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": reason} | ({} if ids is None else {"token_ids": ids})
    return framed(json.dumps({"choices": [choice], "usage": None}, separators=(",", ":")).encode())


def framed(data: bytes) -> bytes:
    out = b"data: %b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(out), out)


def ending(asked: Asked, tokens: int | None = None) -> bytes:
    count = asked.body["max_tokens"] if tokens is None else tokens
    usage = {"prompt_tokens": len(asked.prompt), "completion_tokens": count}
    return framed(json.dumps({"choices": [], "usage": usage}).encode()) + framed(b"[DONE]") + b"0\r\n\r\n"


def well(asked: Asked, headers: bytes = b"") -> Script:
    """An answer as it should be."""
    tokens = asked.body["max_tokens"]
    return [STREAM % headers, *(event(ids=[i]) for i in range(tokens - 1)), event(ids=[9], reason="length") + ending(asked)]


@contextmanager
def server(answer: Answering, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Asked]]]:
    """(URL, what was asked so far)."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[Asked] = []
    open_sockets: list[socket.socket] = [listening]
    numbers = iter(range(1_000_000))

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            open_sockets.append(connection)
            threading.Thread(target=serve, args=(connection, next(numbers)), daemon=True).start()

    def serve(connection: socket.socket, number: int) -> None:
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as reader:
                for count in range(1_000_000):
                    if not (line := reader.readline()):
                        return
                    headers = {"": line.decode().strip()}
                    while (line := reader.readline().strip()) and line:
                        name, _, value = line.decode().partition(": ")
                        headers[name.lower()] = value
                    body = json.loads(reader.read(int(headers["content-length"])))
                    asked.append(Asked(headers, body, number, count))
                    for piece in answer(asked[-1]):
                        if piece is CLOSE:
                            return
                        if isinstance(piece, bytes):
                            connection.sendall(piece)
                        else:
                            time.sleep(piece)  # type: ignore[arg-type]
        except OSError:
            return  # hung up

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http{'s' * (tls is not None)}://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        for one in open_sockets:
            one.close()


def send_cell(client: RetryRule | None = None, session: SessionRule | None = None, drain_s: float = 3.0) -> Cell:
    return replace(cell(client=client, replicas=1), session=session or SessionRule(), drain_s=drain_s)


def played(workload: Workload, urls: str | list[str], a_cell: Cell | None = None, **spec: Any) -> tuple[list[Attempt], Sender]:
    """All rows of one sender's run, by request and attempt."""
    given = SendSpec(a_cell or send_cell(), (urls,) if isinstance(urls, str) else tuple(urls), "", **spec)
    sender = Sender(given, workload)
    sender.prepare()
    sender.run(time.monotonic() + 0.05)
    columns = sender.books.rows.table().sort_by([("request_id", "ascending"), ("attempt", "ascending")]).to_pylist()
    return [Attempt(**row) for row in columns], sender
