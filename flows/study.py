"""The study file as types: every key, its bounds and its defaults. It does not know where a study comes from or how it runs."""

import hashlib
import json
import unicodedata
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from flows.probe.study import ProbeChoice
from replay.cell import Named, PoolSpec, SessionRule
from replay.retry import RetryRule
from replicas.profile import EngineProfile
from replicas.view import Role

MIN_STEADY_REQUESTS = 10
"""A load that plans fewer first attempts than this in the steady phase of a seed says nothing of a normal day."""
MAX_PLANNED_REQUESTS = 20_000_000
"""A study that plans more first attempts than this (over all cells) is refused: it would not fit one machine's day."""

Seconds = Annotated[float, Field(ge=0, le=1e7)]
PositiveSeconds = Annotated[float, Field(gt=0, le=1e7)]


def _one_line(text: str) -> str:
    if not text.strip() or any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text):
        raise ValueError("must be one line of text without control characters")
    return text


Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_one_line)]


class StudyError(ValueError):
    """A study that cannot be run: one line naming the place, the key, the value and what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=False)


class WorkloadChoice(_Strict):
    """What is sent: a trace by name or file, which of its sessions, and how they arrive.

    `columns` maps the columns of a file of your own, `select` holds the conditions of `workloads.selection.Selection`, `arrival`
    is an arrival of `workloads.arrivals`. `max_tokens` is what clients ask for at most, `deadline_s` when a request is given up
    for good.
    """

    trace: Annotated[str, Field(min_length=1)] = "synthetic"
    source: str | None = None
    columns: dict[str, str] = {}
    select: dict[str, Any] = {}
    arrival: dict[str, Any] = {"process": "poisson"}
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_context_tokens: Annotated[int, Field(ge=2)] | None = None
    stationary_start: bool = True
    deadline_s: Annotated[float, Field(ge=1e-6, le=1e7)] | None = None

    @field_validator("arrival")
    @classmethod
    def _poisson_unless_said(cls, value: dict[str, Any]) -> dict[str, Any]:
        return value if value.keys() & {"process", "superpose", "concatenate"} else {"process": "poisson", **value}


class Load(_Strict):
    """First attempts due per second: a `fraction` of the reference capacity C_ref, or `rps` outright."""

    fraction: Annotated[float, Field(gt=0, le=5)] | None = None
    rps: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.fraction is None) == (self.rps is None):
            raise ValueError("give exactly one of fraction, rps")
        return self


class Phases(_Strict):
    """Lengths of the phases around the trigger; `drain_s` follows the last, without arrivals."""

    warmup_s: PositiveSeconds = 30.0
    steady_s: PositiveSeconds = 60.0
    recovery_s: PositiveSeconds = 120.0
    drain_s: Seconds = 60.0


class Trigger(_Strict):
    """What disturbs the pool for `d_s`: a kind of `workloads.triggers` with its parameters; `placebo` = nothing."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    kind: str = "spike"
    d_s: PositiveSeconds = 20.0

    def described(self) -> dict[str, Any]:
        """As workloads and cells carry it, defaults filled in. ValueError names the parameter, the value and what is allowed."""
        from workloads.triggers import check_trigger

        return check_trigger({"kind": self.kind, "d_s": self.d_s, **(self.model_extra or {})})


class Pool(_Strict):
    """`replicas` copies of one engine profile (by name or .json file), with some of its fields changed.

    `roles` makes a prefill/decode pool: one of both, prefill, decode for each replica.
    """

    replicas: Annotated[int, Field(ge=1, le=4096)] = 4
    profile: str = "h100-vllm-llama8b"
    changes: dict[str, Any] = {}
    roles: list[Role] = []

    @model_validator(mode="after")
    def _roles_for_all(self) -> Self:
        if self.roles and len(self.roles) != self.replicas:
            raise ValueError(f"roles must be empty or name one role for each of the {self.replicas} replicas")
        return self

    def spec(self) -> PoolSpec:
        """The pool as a cell holds it; a profile's file is named in full, so that the cell runs from anywhere."""
        named = Path(self.profile)
        return PoolSpec(
            label=f"{self.replicas} × {named.stem}" + "".join(f", {key} {value}" for key, value in self.changes.items()),
            replicas=self.replicas,
            profile=str(named.absolute()) if named.suffix == ".json" else self.profile,
            profile_hash=EngineProfile.load(self.profile).content_hash,
            changes=dict(self.changes),
            roles=tuple(self.roles),
        )


class NamedChoice(_Strict):
    """A router or guard by name with its parameters; the label defaults to the name."""

    name: Annotated[str, Field(min_length=1)]
    label: Label | None = None
    parameters: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    def named(self) -> Named:
        return Named(self.name, self.label or self.name, dict(self.parameters))


class GuardSet(_Strict):
    """Guards in their order, under one label."""

    label: Label
    guards: list[NamedChoice] = []


class Client(_Strict):
    """One arm of client behaviour: the fields of `replay.retry.RetryRule`, bounded."""

    name: Label
    ttft_timeout_s: PositiveSeconds | None = 10.0
    idle_timeout_s: PositiveSeconds | None = None
    total_timeout_s: PositiveSeconds | None = None
    max_attempts: Annotated[int, Field(ge=1)] | None = 3
    backoff_s: Seconds = 1.0
    backoff_factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    backoff_max_s: Seconds = 10.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    budget: Annotated[float, Field(ge=0, le=100)] | None = None
    budget_burst: Annotated[float, Field(ge=0)] = 10.0
    cancel: bool = True

    @model_validator(mode="after")
    def _holds_as_a_rule(self) -> Self:
        self.rule()
        return self

    def rule(self) -> RetryRule:
        return RetryRule(**{f.name: getattr(self, f.name) for f in fields(RetryRule)})


class ObservationChoice(_Strict):
    """What a router knows of a replica and how late (see `replay.observation`): polls every age_s ± jitter_s, a share `loss` of
    which brings nothing; `routers` side by side, each with its share of the requests; KV events late or lost."""

    age_s: Seconds = 1.0
    jitter_s: Seconds = 0.0
    loss: Annotated[float, Field(ge=0, le=1)] = 0.0
    routers: Annotated[int, Field(ge=1, le=1000)] = 1
    kv_lag_s: Seconds = 0.0
    kv_loss: Annotated[float, Field(ge=0, le=1)] = 0.0


class Session(_Strict):
    """When later turns come (`mode` think: their think time after the answer; absolute: at the trace's own times), what a session
    does after a failed turn, and whose replies later prompts carry."""

    mode: Literal["think", "absolute"] = "think"
    after_failure: Literal["continue", "quit"] = "continue"
    history: Literal["engine", "trace"] = "engine"

    @model_validator(mode="after")
    def _can_quit(self) -> Self:
        if self.mode == "absolute" and self.after_failure == "quit":
            raise ValueError("after_failure quit needs mode think: at absolute times later turns do not wait for an answer")
        return self

    def rule(self) -> SessionRule:
        return SessionRule(self.after_failure, self.history)


class Slo(_Strict):
    """What counts as good: seconds to the first token, per further token, and in total; null = not judged."""

    ttft_s: PositiveSeconds | None = 2.0
    tpot_s: PositiveSeconds | None = 0.1
    e2e_s: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _any(self) -> Self:
        if self.ttft_s is None and self.tpot_s is None and self.e2e_s is None:
            raise ValueError("give at least one of ttft_s, tpot_s, e2e_s")
        return self


class Report(_Strict):
    title: Label | None = None


class Study(_Strict):
    """One whole study. `seeds` may be a number n: 1 … n; `events` happen to replicas, at `at_s` from the run's start."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)] = "study"
    workload: WorkloadChoice = WorkloadChoice()
    load: Load = Load(fraction=0.7)
    phases: Phases = Phases()
    trigger: Trigger = Trigger()
    events: list[dict[str, Any]] = []
    pool: Pool = Pool()
    routers: Annotated[list[NamedChoice], Field(min_length=1)]
    guards: Annotated[list[GuardSet], Field(min_length=1)] = [GuardSet(label="none")]
    client: Annotated[list[Client], Field(min_length=1)] = [Client(name="3 attempts")]
    observation: ObservationChoice = ObservationChoice()
    session: Session = Session()
    slo: Slo = Slo()
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=1000)] = [1, 2, 3, 4, 5]
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
        return load_rps * (self.horizon_s * bent + extra_s) * self.arms * len(self.seeds)

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
        """The study with every default written out, seeds listed, the engine profile's hash and the hash of all that."""
        profile = EngineProfile.load(self.pool.profile)
        content = {**self.model_dump(mode="json"), "profile_hash": profile.content_hash}
        return {**content, "content_hash": content_hash(content)}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)


DERIVED_KEYS = ("profile_hash", "content_hash")
"""Keys that `resolved` adds; a study read back ignores them and computes them anew."""


def content_hash(content: dict[str, Any]) -> str:
    """16 hex digits over the canonical JSON of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
