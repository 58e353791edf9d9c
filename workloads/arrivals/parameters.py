"""What a parameter of a process or a shape may be. It does not know which parameters there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

_REQUIRED = object()
LONGEST_S = 1e9


class Parameter(Protocol):
    """One parameter's values: `default` where there is one, and what is allowed."""

    @property
    def default(self) -> Any: ...

    @property
    def allowed(self) -> str: ...

    def fits(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number above `above` and up to `most`; `from_zero` allows 0 too, `whole` allows integers only."""

    default: Any = _REQUIRED
    above: float = 0.0
    most: float = inf
    from_zero: bool = False
    whole: bool = False

    @property
    def allowed(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        least = "≥ 0" if self.from_zero else f"> {self.above:g}"
        return f"expected {kind} {least}" + (f" and ≤ {self.most:g}" if self.most < inf else "")

    def fits(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return (value > self.above or (self.from_zero and value == 0)) and value <= self.most and value < inf


@dataclass(frozen=True, slots=True)
class Numbers:
    """A list of one or more numbers from 0 to `most`."""

    default: Any = _REQUIRED
    most: float = inf

    @property
    def allowed(self) -> str:
        return f"expected a list of numbers ≥ 0 and ≤ {self.most:g}, at least one"

    def fits(self, value: object) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(Number(from_zero=True, most=self.most).fits(v) for v in value)
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]
    default: Any = _REQUIRED

    @property
    def allowed(self) -> str:
        return f"allowed: {', '.join(self.options)}"

    def fits(self, value: object) -> bool:
        return value in self.options


def check_parameters(given: Mapping[str, Any], parameters: Mapping[str, Parameter], key: str) -> dict[str, Any]:
    """Every parameter with its value or default; ValueError names `key`.parameter, the value and what is allowed."""
    checked: dict[str, Any] = {}
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default)
        if value is _REQUIRED:
            raise ValueError(f"{key}.{name} is missing; {parameter.allowed}")
        if not parameter.fits(value):
            raise ValueError(f"{key}.{name} is {value!r}; {parameter.allowed}")
        checked[name] = list(value) if isinstance(value, list | tuple) else value
    return checked
