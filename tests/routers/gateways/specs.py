"""Specifications of gateways for tests that start none, and a gateway whose program is a few lines of Python."""

import json
import sys
from pathlib import Path
from typing import Any

from routers.gateways.gateway import Gateway, GatewaySpec, Launch, Upstream

POOL = (Upstream("http://127.0.0.1:8001"), Upstream("http://127.0.0.1:8002"))
PAIRS = (
    Upstream("http://127.0.0.1:8001", "prefill", "sglang", 8998),
    Upstream("http://127.0.0.1:8002", "prefill", "sglang"),
    Upstream("http://127.0.0.1:8003", "decode", "sglang"),
)


def spec(policy: str, replicas: tuple[Upstream, ...] = POOL, arm: str = "default", **parameters: Any) -> GatewaySpec:
    return GatewaySpec(policy, replicas, 9101, 9102, arm, 60.0, parameters)


class Scripted(Gateway):
    """Runs Python code with `port` set; `ready_counts` as given."""

    name = "scripted"
    program = "python3"
    policies = ("any",)

    def __init__(self, code: str, ready_counts: tuple[str, ...] = ()) -> None:
        self.code, self.ready_counts = code, ready_counts

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        command = (sys.executable, "-c", f"port = {spec.port}\n{self.code}")
        return Launch(command, {"note.txt": "generated"}, "/ready", self.ready_counts)

    def version(self, program: Path) -> str:
        return "scripted 1"


_PASSING = """
import json, socket, sys, threading
urls, taken = json.loads(sys.argv[1]), 0
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
with socket.create_server(("127.0.0.1", port), backlog=128) as server:
    while True:
        client, _ = server.accept()
        head = client.recv(4, socket.MSG_PEEK)
        place = taken % len(urls) if head == b"POST" else 0
        taken += head == b"POST"
        replica = socket.create_connection(urls[place])
        for s in (client, replica):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((client, replica), (replica, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
"""


class PassingBytes(Scripted):
    """Passes bytes on, each connection that begins with a POST to the next replica: a gateway without any fault."""

    name = "passing"
    policies = ("in_turn",)

    def __init__(self) -> None:
        super().__init__(_PASSING)

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        addresses = json.dumps([replica.address for replica in spec.replicas])
        return Launch((sys.executable, "-c", f"port = {spec.port}\n{self.code}", addresses))
