"""The study file as types: every key, its bounds and its defaults. It does not know where a study comes from or how it runs."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, field_validator

from flows.probe.study import ProbeChoice
from flows.study_parts import (
    Client,
    GuardSet,
    Load,
    NamedChoice,
    ObservationChoice,
    Phases,
    Report,
    RouterChoice,
    Session,
    Slo,
    Strict,
    Trigger,
    WorkloadChoice,
)
from flows.study_pool import ONE, SEVERAL, Pool, how_many
from replicas.profile import EngineProfile

__all__ = ["Client", "GuardSet", "NamedChoice", "Pool", "RouterChoice", "Study", "StudyError", "Trigger", "WorkloadChoice"]

MIN_STEADY_REQUESTS = 10
"""A load that plans fewer first attempts than this in the steady phase of a seed says nothing of a normal day."""
MAX_PLANNED_REQUESTS = 20_000_000
"""A study that plans more first attempts than this (over all cells) is refused: it would not fit one machine's day."""
MAX_SENDERS = 64

Pools = Annotated[
    Annotated[Pool, Tag(ONE)] | Annotated[list[Pool], Tag(SEVERAL), Field(min_length=1, max_length=32)], Discriminator(how_many)
]


class StudyError(ValueError):
    """A study that cannot be run: one line naming the place, the key, the value and what is allowed."""


class Study(Strict):
    """One whole study. `seeds` may be a number n: 1 … n; `events` happen to replicas, at `at_s` from the run's start.

    `pool` is one, or a list of them: each runs all that the study says, one after the other. On live pools every cell runs
    `repeats` times, from so many `senders` (processes; auto: by the load).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)] = "study"
    workload: WorkloadChoice = WorkloadChoice()
    load: Load = Load(fraction=0.7)
    phases: Phases = Phases()
    trigger: Trigger = Trigger()
    events: list[dict[str, Any]] = Field(default=[])
    pool: Pools = Pool()
    routers: Annotated[list[RouterChoice], Field(min_length=1)]
    guards: Annotated[list[GuardSet], Field(min_length=1)] = Field(default=[GuardSet(label="none")])
    client: Annotated[list[Client], Field(min_length=1)] = Field(default=[Client(name="3 attempts")])
    observation: ObservationChoice = ObservationChoice()
    session: Session = Session()
    slo: Slo = Slo()
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=1000)] = Field(
        default=[1, 2, 3, 4, 5]
    )
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    senders: Annotated[int, Field(ge=1, le=MAX_SENDERS)] | Literal["auto"] = "auto"
    report: Report = Report()
    probe: ProbeChoice = ProbeChoice()

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= 1000:
                raise ValueError("must be a number of seeds from 1 to 1000, or a list of seeds")
            return list(range(1, value + 1))
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a seed twice")
        return value

    @field_validator("routers", "guards", "client")
    @classmethod
    def _labels(cls, value: list[Any]) -> list[Any]:
        seen: set[str] = set()
        for item in value:
            label = item.named().label if isinstance(item, NamedChoice) else getattr(item, "label", None) or item.name
            if label in seen:
                raise ValueError(f"{label!r} appears twice: give each its own label")
            seen.add(label)
        return value

    @field_validator("pool")
    @classmethod
    def _own_labels(cls, value: Pool | list[Pool]) -> Pool | list[Pool]:
        titles = [pool.title for pool in value] if isinstance(value, list) else []
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} appears twice: give each pool its own label")
        return value

    @property
    def pools(self) -> list[Pool]:
        return self.pool if isinstance(self.pool, list) else [self.pool]

    @property
    def is_live(self) -> bool:
        """Whether any pool is."""
        return any(pool.is_live for pool in self.pools)

    @property
    def arms(self) -> int:
        """Router × guards × client: the arms that share one plan for one seed."""
        return len(self.routers) * len(self.guards) * len(self.client)

    @property
    def horizon_s(self) -> float:
        return self.phases.warmup_s + self.phases.steady_s + self.trigger.d_s + self.phases.recovery_s

    def planned_requests(self, load_rps: float) -> float:
        """First attempts due over all cells at a base load of `load_rps`."""
        from workloads.arrivals import mean_factor

        trigger = self.trigger.described()
        extra_s = (max(0.0, float(trigger.get("k", 1.0)) - 1) + float(trigger.get("share", 0.0))) * self.trigger.d_s
        bent = max(1.0, mean_factor(self.workload.arrival, 0.0, self.horizon_s, self.seeds[0]))
        return load_rps * (self.horizon_s * bent + extra_s) * self.arms * len(self.seeds) * self.runs_a_seed

    @property
    def runs_a_seed(self) -> int:
        """How often an arm runs a seed: on every pool, live ones `repeats` times and once more as their twin."""
        return sum(self.repeats + pool.has_twin if pool.is_live else 1 for pool in self.pools)

    def check_size(self, load_rps: float) -> None:
        """StudyError when the study would plan more than MAX_PLANNED_REQUESTS."""
        planned = self.planned_requests(load_rps)
        if planned > MAX_PLANNED_REQUESTS:
            raise StudyError(
                f"load of {load_rps:g} rps over {self.horizon_s:g} s, {self.arms} arms and {len(self.seeds)} seeds plans "
                f"{planned:.3g} requests; at most {MAX_PLANNED_REQUESTS:.0e} are allowed: lower load, phases, arms or seeds"
            )

    def check_enough(self, load_rps: float) -> None:
        """StudyError when the steady phase of a seed would see fewer than MIN_STEADY_REQUESTS."""
        from workloads.arrivals import mean_factor

        begin_s, for_s = self.phases.warmup_s, self.phases.steady_s
        planned = load_rps * for_s * mean_factor(self.workload.arrival, begin_s, begin_s + for_s, self.seeds[0])
        if planned < MIN_STEADY_REQUESTS:
            raise StudyError(
                f"load of {load_rps:g} rps over phases.steady_s = {for_s:g} plans {planned:.2g} requests a seed; "
                f"at least {MIN_STEADY_REQUESTS} are needed: raise either (or what workload.arrival makes of it)"
            )

    def resolved(self) -> dict[str, Any]:
        """The study with every default written out, seeds listed, the engine profiles' hashes and the hash of all that."""
        hashes = [None if pool.profile is None else EngineProfile.load(pool.profile).content_hash for pool in self.pools]
        profile_hash: object = hashes if isinstance(self.pool, list) else hashes[0]
        content = {**self.model_dump(mode="json"), "profile_hash": profile_hash}
        return {**content, "content_hash": content_hash(content)}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)


DERIVED_KEYS = ("profile_hash", "content_hash")
"""Keys that `resolved` adds; a study read back ignores them and computes them anew."""


def without_tags(path: Sequence[str | int]) -> tuple[str | int, ...]:
    """A key path of pydantic's as people write it: nothing says whether one or several were given."""
    return tuple(part for part in path if part not in (ONE, SEVERAL))


def content_hash(content: dict[str, Any]) -> str:
    """16 hex digits over the canonical JSON of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
