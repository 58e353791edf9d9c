"""The study key `probe`: what a probe varies and how much it may spend. It knows neither arms nor how a cell is run."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0, le=1e5)]
Size = Annotated[float, Field(gt=1, le=1000)]
Count = Annotated[int, Field(ge=1, le=1000)]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SizeRange(_Strict):
    """The sizes of a spike that may be tried: `count` of them, evenly spaced in ln k."""

    least: Size = 1.25
    most: Size = 8.0
    count: Annotated[int, Field(ge=2, le=100)] = 25

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if not self.least < self.most:
            raise ValueError(f"least {self.least:g} must be below most {self.most:g}")
        return self


class Wanted(_Strict):
    """What a cure must survive: a spike of size `k` at `fraction` of C_ref."""

    k: Size = 4.0
    fraction: Annotated[float, Field(gt=0, le=2)] = 0.7


class CureGuard(_Strict):
    """A guard of a cure by name, with its parameters."""

    name: Name
    parameters: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class CureSet(_Strict):
    """A guard set that may be recommended, under its label."""

    label: Name
    guards: Annotated[list[CureGuard], Field(min_length=1)]


class ProbeChoice(_Strict):
    """Loads are `fractions` of C_ref; `pulses` the triggers of P2, `lengths_s` and `sizes` the spikes of P3; `steps` the factors
    of C_ref on the way up, each for `dwell_s`; `cures` guard sets to search, cheapest first; `variants` the loops to take away
    (all that apply, by default). `calm_s`: how long a run without trigger goes on behind where its trigger would have been;
    `longest_s`: how long after its trigger any other is looked at, at the most.
    """

    fractions: Annotated[list[Annotated[float, Field(gt=0, le=2)]], Field(min_length=1, max_length=20)] = [0.5, 0.7, 0.9]
    pulses: list[dict[str, Any]] = []
    lengths_s: Annotated[list[Seconds], Field(min_length=1, max_length=10)] = [20.0]
    sizes: SizeRange = SizeRange()
    variants: list[Name] | None = None
    cures: list[CureSet] = []
    wanted: Wanted = Wanted()
    steps: Annotated[list[Annotated[float, Field(gt=0, le=5)]], Field(min_length=2, max_length=30)] = [0.5, 0.7, 0.9, 1.1]
    dwell_s: Seconds = 60.0
    calm_s: Seconds = 50.0
    longest_s: Annotated[float, Field(ge=300, le=1e5)] = 1200.0
    placebo_seeds: Count = 20
    pulse_seeds: Count = 3
    frontier_tries: Count = 10
    attribution_seeds: Count = 5
    cure_seeds: Count = 10

    @field_validator("fractions", "lengths_s", "steps")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if sorted(set(value)) != value:
            raise ValueError(f"must ascend and name nothing twice, is {value}")
        return value

    @field_validator("cures")
    @classmethod
    def _distinct(cls, value: list[CureSet]) -> list[CureSet]:
        labels = [cure.label for cure in value]
        if len(set(labels)) < len(labels):
            raise ValueError("must not use a label twice")
        return value
