"""The plan of a run: arrivals, phases, trigger and how sessions think. It does not know the trace or the load."""

from dataclasses import dataclass, field, fields
from typing import Any

from workloads.arrivals import check_arrival
from workloads.request import Phase

TRIGGERS = ("spike", "placebo")


def _poisson() -> dict[str, Any]:
    return {"process": "poisson"}


def _spike() -> dict[str, Any]:
    return {"kind": "spike", "k": 3.0, "d_s": 20.0}


@dataclass(frozen=True)
class Plan:
    """When sessions come and for how long. ValueError on a bad value names the key, the value and what is allowed.

    Phases: warmup, steady, trigger (`trigger.d_s` long, load × `trigger.k`; a placebo has the phase and k 1), recovery.
    `stationary_start` lets sessions exist at t=0 in mid-life. A session's nominal course takes `nominal_tpot_s` an answer token
    and its think times; where the trace has none they are log-normal (`think_median_s`, `think_sigma`). Turns whose prompt and
    answer exceed `max_context_tokens` are left out, with the rest of their session (None = no limit).
    """

    arrival: dict[str, Any] = field(default_factory=_poisson)
    warmup_s: float = 30.0
    steady_s: float = 30.0
    recovery_s: float = 60.0
    trigger: dict[str, Any] = field(default_factory=_spike)
    stationary_start: bool = True
    nominal_tpot_s: float = 0.02
    think_median_s: float = 10.0
    think_sigma: float = 1.0
    max_context_tokens: int | None = 131_072
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        check_arrival(self.arrival)
        for name in ("warmup_s", "steady_s", "recovery_s", "nominal_tpot_s", "think_median_s", "think_sigma"):
            _check_number(name, getattr(self, name), 0.0)
        if self.deadline_s is not None:
            _check_number("deadline_s", self.deadline_s, 1e-6)
        if self.max_context_tokens is not None and self.max_context_tokens < 2:
            raise ValueError(f"max_context_tokens is {self.max_context_tokens!r}; expected ≥ 2, or null for no limit")
        kind = self.trigger.get("kind")
        if kind not in TRIGGERS:
            raise ValueError(f"trigger.kind is {kind!r}; allowed: {', '.join(TRIGGERS)}")
        for key in self.trigger:
            if key not in ("kind", "k", "d_s"):
                raise ValueError(f"trigger.{key} is unknown; allowed: kind, k, d_s")
        _check_number("trigger.d_s", self.trigger.get("d_s"), 0.0)
        if kind == "spike":
            _check_number("trigger.k", self.trigger.get("k"), 1.0)

    @property
    def spike_factor(self) -> float:
        """Load in the trigger phase over the base load: k, or 1 for a placebo."""
        return float(self.trigger["k"]) if self.trigger["kind"] == "spike" else 1.0

    def phases(self, load_rps: float) -> tuple[Phase, ...]:
        """warmup, steady, trigger, recovery with their planned loads."""
        return (
            Phase("warmup", float(self.warmup_s), load_rps),
            Phase("steady", float(self.steady_s), load_rps),
            Phase("trigger", float(self.trigger["d_s"]), load_rps * self.spike_factor),
            Phase("recovery", float(self.recovery_s), load_rps),
        )

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _check_number(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}; expected a number ≥ {least:g}")
