"""What a policy may see of a replica. Only the router writes it; policies read."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["both", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One reading of a replica's own gauges (engine `/metrics` or a probe's answer).

    `latency_s`: how long a short request would take now, by the replica's own estimate, or else the reading's round trip.
    """

    waiting: int
    running: int
    kv_used: float
    latency_s: float = 0.0


@dataclass(slots=True)
class ReplicaView:
    """A live view: `in_flight*` are the router's own counts (exact), the rest is the last *observed* news of age
    `now_s - observed_s` (`observed_s` is -inf before the first one)."""

    replica_id: int
    role: Role = "both"
    healthy: bool = True
    in_flight: int = 0
    in_flight_tokens: int = 0
    waiting: int = 0
    running: int = 0
    kv_used: float = 0.0
    observed_s: float = float("-inf")
