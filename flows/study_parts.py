"""The parts of a study file but its pools: keys, bounds and defaults. It does not know how a study runs."""

import unicodedata
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from replay.cell import Named, SessionRule
from replay.retry import RetryRule

Seconds = Annotated[float, Field(ge=0, le=1e7)]
PositiveSeconds = Annotated[float, Field(gt=0, le=1e7)]


def _one_line(text: str) -> str:
    if not text.strip() or any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text):
        raise ValueError("must be one line of text without control characters")
    return text


DIRECT, TURNS = "direct", "round_robin"
Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_one_line)]


class StudyError(ValueError):
    """A study that cannot be run: one line naming the place, the key, the value and what is allowed."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=False)


class WorkloadChoice(Strict):
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


class Load(Strict):
    """First attempts due per second: a `fraction` of the reference capacity C_ref, or `rps` outright."""

    fraction: Annotated[float, Field(gt=0, le=5)] | None = None
    rps: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.fraction is None) == (self.rps is None):
            raise ValueError("give exactly one of fraction, rps")
        return self


class Phases(Strict):
    """Lengths of the phases around the trigger; `drain_s` follows the last, without arrivals."""

    warmup_s: PositiveSeconds = 30.0
    steady_s: PositiveSeconds = 60.0
    recovery_s: PositiveSeconds = 120.0
    drain_s: Seconds = 60.0


class Trigger(Strict):
    """What disturbs the pool for `d_s`: a kind of `workloads.triggers` with its parameters; `placebo` = nothing."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    kind: str = "spike"
    d_s: PositiveSeconds = 20.0

    def described(self) -> dict[str, Any]:
        """As workloads and cells carry it, defaults filled in. ValueError names the parameter, the value and what is allowed."""
        from workloads.triggers import check_trigger

        return check_trigger({"kind": self.kind, "d_s": self.d_s, **(self.model_extra or {})})


class NamedChoice(Strict):
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


class RouterChoice(NamedChoice):
    """A policy of our own router, or on a live pool (`gateway`) of a real one, or nothing at all (`direct`: senders take turns).

    `arm` of a gateway: `default` (as it comes) or `bare` (its breaker and retries off).
    """

    gateway: str | None = None
    arm: Literal["default", "bare"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _direct(cls, value: object) -> object:
        if value == DIRECT:
            value = {"gateway": DIRECT}
        if isinstance(value, dict) and value.get("gateway") == DIRECT:
            return {"name": TURNS, **value}
        return value

    @model_validator(mode="after")
    def _arm_of_a_gateway(self) -> Self:
        if self.gateway == DIRECT and (self.name != TURNS or self.parameters):
            raise ValueError(f"gateway direct takes no policy and no parameters: senders go to the replicas in turn ({TURNS})")
        if self.arm is not None and self.gateway in (None, DIRECT):
            raise ValueError("arm is for a real gateway only; our router and direct have none")
        return self

    def named(self) -> Named:
        if self.gateway is None:
            return super().named()
        bare = ", bare" if self.arm == "bare" else ""
        label = self.label or (DIRECT if self.gateway == DIRECT else f"{self.gateway}: {self.name}{bare}")
        arm = "" if self.gateway == DIRECT else self.arm or "default"
        return Named(self.name, label, dict(self.parameters), self.gateway, arm)


class GuardSet(Strict):
    """Guards in their order, under one label."""

    label: Label
    guards: list[NamedChoice] = []


class Client(Strict):
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


class ObservationChoice(Strict):
    """What a router knows of a replica and how late (see `replay.observation`): polls every age_s ± jitter_s, a share `loss` of
    which brings nothing; `routers` side by side, each with its share of the requests; KV events late or lost."""

    age_s: Seconds = 1.0
    jitter_s: Seconds = 0.0
    loss: Annotated[float, Field(ge=0, le=1)] = 0.0
    routers: Annotated[int, Field(ge=1, le=1000)] = 1
    kv_lag_s: Seconds = 0.0
    kv_loss: Annotated[float, Field(ge=0, le=1)] = 0.0


class Session(Strict):
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


class Slo(Strict):
    """What counts as good: seconds to the first token, per further token, and in total; null = not judged."""

    ttft_s: PositiveSeconds | None = 2.0
    tpot_s: PositiveSeconds | None = 0.1
    e2e_s: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _any(self) -> Self:
        if self.ttft_s is None and self.tpot_s is None and self.e2e_s is None:
            raise ValueError("give at least one of ttft_s, tpot_s, e2e_s")
        return self


class Report(Strict):
    title: Label | None = None
