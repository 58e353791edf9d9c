"""Who plays in a study and on what stage: routers with their colours, conditions, phases, SLO. It holds no results."""

from dataclasses import dataclass


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
    kind: str
    k: float
    d_s: float

    @property
    def placebo(self) -> bool:
        return self.kind == "placebo" or self.d_s <= 0

    @property
    def words(self) -> str:
        """The trigger as a noun phrase, such as `a 3× burst of 20 s`."""
        if self.placebo:
            return "a placebo (no burst)"
        kind = "burst" if self.kind == "spike" else self.kind.replace("_", " ")
        return f"a {self.k:g}× {kind} of {self.d_s:g} s"


@dataclass(frozen=True, slots=True)
class Scene:
    """What all charts, tables and sentences share. Times in seconds; SLO limits may be None (not limited)."""

    title: str
    routers: tuple[Router, ...]
    conditions: tuple[Condition, ...]
    stages: tuple[Stage, ...]
    trigger: Trigger
    slo: dict[str, float | None]
    seeds: tuple[int, ...]
    replicas: int

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
    def end_s(self) -> float:
        return max((s.end_s for s in self.stages), default=0.0)

    def router(self, key: str) -> Router:
        return next(r for r in self.routers if r.key == key)

    def condition(self, key: str) -> Condition:
        return next(c for c in self.conditions if c.key == key)
