"""What a gateway is to a study: a program, a specification, and how the one is started by the other. It starts nothing."""

import os
import resource
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from routers.gateways.programs import python_of
from routers.parameters import one_of, within

ARMS = ("default", "bare")  # as it comes; breaker and retries off
ROLES = ("both", "prefill", "decode")
IDLE_S = 4  # a kept connection to a replica is closed before uvicorn closes it (5 s) and takes a request with it


@dataclass(frozen=True, slots=True)
class Upstream:
    """One replica behind a gateway. `engine` is "vllm", "sglang" or unknown; `bootstrap_port` for SGLang's prefill replicas."""

    url: str
    role: str = "both"
    engine: str = ""
    bootstrap_port: int | None = None

    def __post_init__(self) -> None:
        one_of("role", self.role, ROLES)
        try:
            address = urlsplit(self.url)
            fits = address.scheme in ("http", "https") and address.hostname and address.path in ("", "/") and address.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"url = {self.url!r} is not allowed; it must be http://host:port")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a plain HTTP replica; raises ValueError for https, which the generated proxies do not speak."""
        parts = urlsplit(self.url)
        if parts.scheme != "http":
            raise ValueError(f"url = {self.url!r} is not allowed behind this gateway; it must be http://host:port")
        return parts.hostname or "", parts.port or 80


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """What a study asks of a gateway: listen on 127.0.0.1:`port`, give numbers on `metrics_port`, spread over `replicas`.

    `timeout_s` bounds one request (or, where the program knows no such bound, the silence within one).
    """

    policy: str
    replicas: tuple[Upstream, ...]
    port: int
    metrics_port: int
    arm: str = "default"
    timeout_s: float = 1800.0
    parameters: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("arm", self.arm, ARMS)
        within("timeout_s", self.timeout_s, 1.0)
        if not self.replicas:
            raise ValueError("replicas = () is not allowed; a gateway needs at least one replica")
        if self.pairs and {r.role for r in self.replicas} != {"prefill", "decode"}:
            roles = ", ".join(sorted({r.role for r in self.replicas}))
            raise ValueError(f"roles = {roles} is not allowed; all both, or prefill and decode")

    @property
    def pairs(self) -> bool:
        """Whether the pool serves prefill and decode on replicas of their own."""
        return any(r.role != "both" for r in self.replicas)

    @property
    def bare(self) -> bool:
        return self.arm == "bare"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start it: `files` (name → text) are written into the folder first. `ready_path` answers 200 once it can serve,
    `ready_counts` are the fields of that answer (nested ones with dots) whose sum must be the number of replicas. `metrics_url`
    speaks Prometheus.
    """

    command: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    ready_path: str = "/v1/models"
    ready_counts: tuple[str, ...] = ()
    metrics_url: str = ""


class Gateway(ABC):
    """One gateway program. `policies` are its routing rules under our names where the rule is the same, else under its own;
    `session_header` is the header by which its affinity rules know a session; `takes_token_ids`: whether it lets a completion's
    prompt be token ids."""

    name: ClassVar[str]
    program: ClassVar[str]
    policies: ClassVar[tuple[str, ...]]
    session_header: ClassVar[str] = "x-session-id"
    serves_pairs: ClassVar[bool] = False
    takes_token_ids: ClassVar[bool] = True

    @abstractmethod
    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        """The command and the configuration for a specification; raises ValueError in one line for what it cannot do."""

    @abstractmethod
    def version(self, program: Path) -> str:
        """What the program says of itself."""

    def reported_policy(self, spec: GatewaySpec) -> str:
        """The rule that is really at work in front of these replicas, for the report."""
        return spec.policy

    def check(self, spec: GatewaySpec) -> None:
        """Raises ValueError for a rule or a pool that this gateway does not have."""
        if spec.policy not in self.policies:
            raise ValueError(
                f"{self.name}: policy = {spec.policy!r} is not allowed; it must be one of: {', '.join(self.policies)}"
            )
        if spec.pairs and not self.serves_pairs:
            raise ValueError(f"{self.name}: it cannot serve a pool of prefill and decode replicas")


def said_version(command: list[str]) -> str:
    """The first line of what a program answers when asked for its version (some answer on stderr)."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = (done.stdout + done.stderr).split("\n")
    return next((line.strip() for line in lines if line.strip()), "unknown")


def wheel_version(program: Path, distribution: str) -> str:
    """A wheel's version, asked of the Python that its console script belongs to."""
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return f"{distribution} {said_version([str(python_of(program)), '-I', '-c', code])}"


def connections_allowed(most: int = 16384) -> int:
    """How many requests a proxy may hold, two descriptors each, within this host's hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return most if hard == resource.RLIM_INFINITY else max(64, min(most, hard // 2 - 64))


def runs_as_root() -> bool:
    return os.geteuid() == 0
