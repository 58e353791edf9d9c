"""The plan of a run: arrivals, phases, trigger, events and how sessions think. It does not know the trace or the load."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from workloads.arrivals import check_arrival
from workloads.events import Event, check_event, event_of
from workloads.lengths import Pace
from workloads.triggers import check_trigger, trigger_events

MODES = ("think", "absolute")


def _poisson() -> dict[str, Any]:
    return {"process": "poisson"}


def _spike() -> dict[str, Any]:
    return {"kind": "spike", "k": 3.0, "d_s": 20.0}


@dataclass(frozen=True)
class Plan:
    """When sessions come and for how long. ValueError on a bad value names the key, the value and what is allowed.

    Phases: warmup, steady, trigger (`trigger.d_s` long; a placebo has the phase too), recovery. `arrival` is an arrival of
    `workloads.arrivals`, `trigger` one of `workloads.triggers`; `events` are events of the pool with their `at_s` from the
    run's start. `stationary_start` lets sessions exist at t=0 in mid-life.

    `mode` think: a later turn comes its think time after the previous answer. absolute: every turn comes at the trace's own
    distance from its session's start, answered or not. A session's nominal course takes `nominal_tpot_s` an answer token
    and its think times; where the trace has none they are log-normal (`think_median_s`, `think_sigma`). Turns whose prompt and
    answer exceed `max_context_tokens` are left out, with the rest of their session (None = no limit).
    """

    arrival: dict[str, Any] = field(default_factory=_poisson)
    warmup_s: float = 30.0
    steady_s: float = 30.0
    recovery_s: float = 60.0
    trigger: dict[str, Any] = field(default_factory=_spike)
    events: tuple[dict[str, Any], ...] = ()
    stationary_start: bool = True
    mode: str = "think"
    nominal_tpot_s: float = 0.02
    think_median_s: float = 10.0
    think_sigma: float = 1.0
    max_context_tokens: int | None = 131_072
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrival", check_arrival(self.arrival))
        object.__setattr__(self, "trigger", check_trigger(self.trigger))
        object.__setattr__(self, "events", tuple(_checked(event, f"events[{i}]") for i, event in enumerate(self.events)))
        for name in ("warmup_s", "steady_s", "recovery_s", "nominal_tpot_s", "think_median_s", "think_sigma"):
            _check_number(name, getattr(self, name), 0.0)
        if self.deadline_s is not None:
            _check_number("deadline_s", self.deadline_s, 1e-6)
        if self.max_context_tokens is not None and self.max_context_tokens < 2:
            raise ValueError(f"max_context_tokens is {self.max_context_tokens!r}; expected ≥ 2, or null for no limit")
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; allowed: {', '.join(MODES)}")

    @property
    def trigger_s(self) -> float:
        """When the trigger strikes."""
        return float(self.warmup_s + self.steady_s)

    @property
    def pace(self) -> Pace:
        return Pace(**{f.name: getattr(self, f.name) for f in fields(Pace)})

    def durations(self) -> dict[str, float]:
        """The phases in their order."""
        named = {"warmup": self.warmup_s, "steady": self.steady_s, "trigger": self.trigger["d_s"], "recovery": self.recovery_s}
        return {name: float(duration_s) for name, duration_s in named.items()}

    def pool_events(self) -> tuple[Event, ...]:
        """All that happens to replicas, the trigger included, in time order."""
        own = [event_of({k: v for k, v in e.items() if k != "at_s"}, float(e["at_s"])) for e in self.events]
        return tuple(
            sorted([*own, *trigger_events(self.trigger, self.trigger_s)], key=lambda e: (e.at_s, e.kind, e.replica_id or 0))
        )

    def to_json(self) -> dict[str, Any]:
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


def _checked(event: Mapping[str, Any], where: str) -> dict[str, Any]:
    _check_number(f"{where}.at_s", event.get("at_s"), 0.0)
    return {"at_s": float(event["at_s"]), **check_event({k: v for k, v in event.items() if k != "at_s"}, where)}


def _check_number(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}; expected a number ≥ {least:g}")
