"""Specifications of gateways for tests that start none, and a gateway whose program is a few lines of Python."""

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
