"""A cell: one combination of router × guard × pool × workload × client × seed, as plain data that survives JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from replay.observation import ObservationRule
from replay.retry import RetryRule
from replicas.view import Role

SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Named:
    """A router or guard by name with its parameters; `label` is how reports call it.

    `gateway` is what stands in front of a live pool: "" our own router, `direct` nothing (the sender takes turns), else a gateway
    by name, of which `name` is the policy and `arm` the configuration (default or bare).
    """

    name: str
    label: str
    parameters: dict[str, Any] = field(default_factory=dict)
    gateway: str = ""
    arm: str = ""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """`replicas` copies of one engine profile (by name or file) with some fields changed.

    `profile_hash` names the profile's content (the file's place is no part of an arm). `roles` gives each replica's part in a
    prefill/decode pool; empty = every replica does both. `engine` is `simulated` (virtual time), or what serves a live pool, with
    `live` saying all of it that results depend on (engines, versions, model, limits); where it runs is no part of a cell. A live
    pool's profile is what policies that forecast are told, and what its simulated twin uses.
    """

    label: str
    replicas: int
    profile: str
    profile_hash: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    roles: tuple[Role, ...] = ()
    engine: str = SIMULATED
    live: dict[str, Any] = field(default_factory=dict)

    def all_roles(self) -> tuple[Role, ...]:
        both: Role = "both"
        return self.roles or (both,) * self.replicas


@dataclass(frozen=True, slots=True)
class SessionRule:
    """What a session does: `after_failure` continue | quit; `history` engine | trace (whose replies later prompts carry)."""

    after_failure: str = "continue"
    history: str = "engine"


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything that decides what happens in one run. `workload` is a file; `workload_hash` is its content.

    `load_rps` is the planned base load, `trigger` what disturbs it (shown in reports; the workload already contains it).
    `plan` is how the workload was made (trace content, arrivals, phases): what the seeds of an arm share. `repeat` counts runs of
    one seed again (on a live pool: what differs between them is noise).
    """

    router: Named
    guards: tuple[Named, ...]
    guard_label: str
    pool: PoolSpec
    client: RetryRule
    session: SessionRule
    workload: str
    workload_hash: str
    workload_label: str
    load_rps: float
    trigger: dict[str, Any]
    observation: ObservationRule
    max_tokens: int
    drain_s: float
    seed: int
    record_decisions: bool = True
    repeat: int = 0
    plan: dict[str, Any] = field(default_factory=dict)

    def arm(self) -> dict[str, Any]:
        """All that the arm shares over its seeds (no seed, no file's place, no workload hash)."""
        content = asdict(self)
        for key in ("seed", "repeat", "workload", "workload_hash"):
            del content[key]
        if self.pool.profile_hash:
            del content["pool"]["profile"]
        return content

    @property
    def arm_id(self) -> str:
        """A hash of the resolved cell without its seed (12 hex digits)."""
        return hashlib.sha256(json.dumps(self.arm(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def cell_id(self) -> str:
        return f"{self.arm_id}-s{self.seed}" + (f"-r{self.repeat}" if self.repeat else "")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Cell":
        data = json.loads(text)
        return Cell(
            **{
                **data,
                "router": Named(**data["router"]),
                "guards": tuple(Named(**g) for g in data["guards"]),
                "pool": PoolSpec(**{**data["pool"], "roles": tuple(data["pool"]["roles"])}),
                "client": RetryRule(**data["client"]),
                "session": SessionRule(**data["session"]),
                "observation": ObservationRule(**data["observation"]),
            }
        )
