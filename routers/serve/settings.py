"""What the HTTP router allows and how long it waits. Plain numbers: it does not know who keeps to them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    body_bytes: int = 32 << 20
    header_bytes: int = 64 << 10
    headers: int = 100
    connections: int = 16_384
    buffered_bytes: int = 1 << 30  # request bodies held at one time, all clients together


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `head_s` and `body_s`: until a request's head, and its body, are whole, from its first byte.

    `keep_alive_s`: a client's connection without a request. `connect_s`, `first_byte_s` (of the body, from the send), `idle_s`
    (between two reads) and `total_s` (from the request's arrival, retries and queues included) are for the replica's answer;
    `stalled_s`: for a client that reads nothing while there is something to read. `pooled_s`: an unused connection to a replica
    is closed after so long, before uvicorn does so after 5 s.
    """

    head_s: float = 10.0
    body_s: float = 60.0
    keep_alive_s: float = 75.0
    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    total_s: float = 3600.0
    stalled_s: float = 60.0
    pooled_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Health:
    """`GET path` every `every_s`, to be answered 2xx within `timeout_s`.

    `failures` in a row hide a replica, `successes` in a row bring it back."""

    path: str = "/health"
    every_s: float = 2.0
    timeout_s: float = 2.0
    failures: int = 2
    successes: int = 1


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """`observe_s`: how often each replica's `/metrics` is read (0: never). `session_headers`: the first one present names the
    session. `tell_replica`: answers say who gave them (`x-stampede-replica`, its id). `pairs`: how prefill and decode replicas
    are told of each other, `vllm` or `sglang`."""

    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    health: Health = field(default_factory=Health)
    observe_s: float = 1.0
    session_headers: tuple[str, ...] = ("x-session-id",)
    forwarded_for: bool = False
    tell_replica: bool = False
    pairs: str = "vllm"
    bootstrap_port: int = 8998
    shutdown_s: float = 30.0
