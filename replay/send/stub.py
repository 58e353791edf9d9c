"""A server whose timing is known: it answers completions with paced chunks and notes when what happened. It is no engine.

`python -m replay.send.stub` prints its URL and serves on loopback until its stdin ends. `GET /log` gives, by the sender's
`x-stampede-request`, when the request was there, when its first chunk was written, and when its last was (CLOCK_MONOTONIC).
"""

import json
import socket
import sys
import time
from dataclasses import dataclass
from heapq import heappop, heappush

from replay.send.wire import READ, Wire, wake_on_time

TTFT_S, GAP_S = 0.020, 0.010
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class Stub:
    """All connections of one server; `log` is what `GET /log` tells. It answers well-formed requests of our own sender only."""

    def __init__(self) -> None:
        self.log: dict[str, list[float]] = {}
        self._wire = Wire()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._socket.setblocking(False)
        self._wire.watch(self._socket.fileno(), READ, self._accept)
        self._due: list[tuple[float, int, _Answer]] = []
        self._planned = 0
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def serve(self, until_ends: int) -> None:
        """Serve until the descriptor `until_ends` has something to read, or its end."""
        going = True

        def stop(events: int) -> None:
            nonlocal going
            going = False
            self._wire.call_off()

        self._wire.watch(until_ends, READ, stop)
        while going:
            while self._due and self._due[0][0] <= time.monotonic():
                at_s, _, answer = heappop(self._due)
                self._write(at_s, answer)
            self._wire.serve(self._due[0][0] if self._due else float("inf"))
        self._socket.close()
        self._wire.close()

    def _accept(self, events: int) -> None:
        connection, _ = self._socket.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending = bytearray()
        self._wire.watch(connection.fileno(), READ, lambda events: self._read(connection, pending))

    def _read(self, connection: socket.socket, pending: bytearray) -> None:
        try:
            data = connection.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self._wire.forget(connection.fileno())
            connection.close()
            return
        pending += data
        head, _, body = bytes(pending).partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if len(body) < int(headers.get("content-length", 0)):
            return
        pending.clear()
        if first.startswith("GET"):
            log = json.dumps(self.log).encode()
            connection.setblocking(True)
            connection.sendall(_JSON % (len(log), log))
            return
        arrived_s = self._wire.now_s
        times = self.log[headers["x-stampede-request"]] = [arrived_s]
        asked = json.loads(body)
        self._plan(arrived_s + TTFT_S, _Answer(connection, times, asked["max_tokens"], len(asked["prompt"])))

    def _plan(self, at_s: float, answer: "_Answer") -> None:
        self._planned += 1
        self._wire.call_off()
        heappush(self._due, (at_s, self._planned, answer))

    def _write(self, at_s: float, answer: "_Answer") -> None:
        """The next chunk of an answer."""
        out = answer.next_events()
        if answer.made in (1, answer.chunks):
            answer.times.append(time.monotonic())
        try:
            answer.connection.send(out)
        except OSError:
            return  # the client has hung up
        if answer.made < answer.chunks:
            self._plan(at_s + GAP_S, answer)


@dataclass(slots=True)
class _Answer:
    """One stream; `times`: when it was asked for, and when its first and last chunks were written."""

    connection: socket.socket
    times: list[float]
    chunks: int
    prompt_tokens: int
    made: int = 0

    def next_events(self) -> bytes:
        self.made += 1
        last = self.made == self.chunks
        out = b"" if self.made > 1 else _STREAM
        reason = b'"length"' if last else b"null"
        out += _framed(b'{"choices":[{"index":0,"text":" t","token_ids":[5],"finish_reason":%b}]}' % reason)
        if last:
            usage = b'{"prompt_tokens":%d,"completion_tokens":%d}' % (self.prompt_tokens, self.chunks)
            out += _framed(b'{"choices":[],"usage":%b}' % usage) + _framed(b"[DONE]") + b"0\r\n\r\n"
        return out


def _framed(data: bytes) -> bytes:
    event = b"data: %b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(event), event)


def main() -> None:
    wake_on_time()
    stub = Stub()
    print(stub.url, flush=True)
    stub.serve(sys.stdin.fileno())


if __name__ == "__main__":
    main()
