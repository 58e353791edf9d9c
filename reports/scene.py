"""Who plays in a study and on what stage: routers with their colours, conditions, phases, SLO. It holds no results."""

from dataclasses import dataclass
from math import nextafter

LOAD_TRIGGERS = ("spike", "long_prompts", "session_stampede", "tenant_hotspot")
"""Kinds of trigger that bring more requests; the others (placebo apart) happen to replicas."""


@dataclass(frozen=True, slots=True)
class Router:
    """One router of the study. `key` (r0, r1 …) stands for it in chart data, so its name is only ever shown as text.

    `reference` marks an oracle, which is told the truth: drawn grey and never ranked.
    """

    key: str
    label: str
    colour: str
    dash: list[int]
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """Everything of an arm but its router: client × guard (× whatever else varies in the study).

    `timeout_s` is the client's patience for a first token and `patience` the rule in words; both None if unknown.
    """

    key: str
    label: str
    colour: str
    dash: list[int]
    client: str
    guard: str
    load_rps: float
    timeout_s: float | None = None
    patience: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase of the run, in seconds from its start."""

    name: str
    start_s: float
    end_s: float
    load_rps: float | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """What disturbed the pool: `said` is the run's own noun phrase for it. Kind `several`: each condition has its own."""

    kind: str
    k: float | None
    d_s: float
    said: str = ""

    @property
    def placebo(self) -> bool:
        return self.kind == "placebo" or self.d_s <= 0

    @property
    def adds_load(self) -> bool:
        """True where more requests come; the others happen to replicas."""
        return self.kind in LOAD_TRIGGERS

    @property
    def at_once(self) -> bool:
        """True where it strikes when its phase begins, and the phase's length says nothing of it."""
        return self.kind in ("session_stampede", "flush")

    @property
    def words(self) -> str:
        """The trigger as a noun phrase, such as `a 3× burst of 20 s`."""
        if self.placebo:
            return "a placebo (no burst)"
        unsaid = f"“{self.kind}” for {self.d_s:g} s" if self.k is None else f"a {self.k:g}× burst of {self.d_s:g} s"
        return self.said or unsaid


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """One thing that happens to replicas (`replica_id` None: to all), alike in every run; `number` counts from 1 in time order.

    `parameters` are those of its kind besides `for_s` (0: at once). `is_trigger`: the study's trigger, no further event.
    """

    number: int
    t_s: float
    kind: str
    replica_id: int | None
    for_s: float
    parameters: dict[str, float]
    is_trigger: bool

    @property
    def end_s(self) -> float:
        return self.t_s + self.for_s

    @property
    def last_s(self) -> float:
        """The last instant at which it holds: its own where it strikes at once, else just before its end."""
        return self.t_s if self.for_s == 0 else nextafter(self.end_s, 0.0)


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of a scene: `served_by` is `simulated` or what runs there (vllm, sglang …); `live` pools were measured.

    `key` (p0, p1 …) stands for it on the page. `twin_of`: the label of the live pool that a simulated one imitates.
    """

    key: str
    label: str
    served_by: str
    live: bool
    twin_of: str | None = None

    @property
    def words(self) -> str:
        """The label, and whether its numbers were measured."""
        how = "measured" if self.live else "simulated"
        return self.label if how in self.label else f"{self.label}, {how}"


WHOLE_RUN = Pool("p0", "", "simulated", live=False)


@dataclass(frozen=True, slots=True)
class Scene:
    """What all charts, tables and sentences of one pool share. Times in seconds; SLO limits may be None (not limited).

    `repeats` is how often each seed was run; without repeats 1.
    """

    title: str
    routers: tuple[Router, ...]
    conditions: tuple[Condition, ...]
    stages: tuple[Stage, ...]
    trigger: Trigger
    slo: dict[str, float | None]
    seeds: tuple[int, ...]
    replicas: int
    events: tuple[PoolEvent, ...] = ()
    pool: Pool = WHOLE_RUN
    repeats: int = 1

    @property
    def ranked(self) -> tuple[Router, ...]:
        return tuple(r for r in self.routers if not r.reference)

    @property
    def references(self) -> tuple[Router, ...]:
        return tuple(r for r in self.routers if r.reference)

    @property
    def trigger_start_s(self) -> float:
        """Start of the trigger phase; the end of the run where there is none."""
        return next((s.start_s for s in self.stages if s.name == "trigger"), self.end_s)

    @property
    def trigger_end_s(self) -> float:
        return next((s.end_s for s in self.stages if s.name == "trigger"), self.end_s)

    @property
    def before_trigger(self) -> tuple[PoolEvent, ...]:
        """Further events that strike, or last, while the steady phase is measured."""
        steady_s = next((s.start_s for s in self.stages if s.name == "steady"), self.trigger_start_s)
        return tuple(e for e in self.events if not e.is_trigger and e.t_s < self.trigger_start_s and e.last_s >= steady_s)

    @property
    def after_trigger(self) -> tuple[PoolEvent, ...]:
        """Further events that strike, or last, while recovery is judged."""
        horizon_s = max((s.end_s for s in self.stages if s.name != "drain"), default=0.0)
        return tuple(e for e in self.events if not e.is_trigger and e.t_s < horizon_s and e.last_s >= self.trigger_end_s)

    @property
    def end_s(self) -> float:
        return max((s.end_s for s in self.stages), default=0.0)

    def router(self, key: str) -> Router:
        return next(r for r in self.routers if r.key == key)

    def condition(self, key: str) -> Condition:
        return next(c for c in self.conditions if c.key == key)
