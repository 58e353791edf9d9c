"""Reads a rule's parameters from a study into its settings dataclass. It does not know what any of them means."""

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, TypeVar, get_args

Settings = TypeVar("Settings")

_WANTED: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    int | None: "a whole number or null",
    float | None: "a number or null",
    tuple[int, ...]: "a list of whole numbers",
}


@dataclass(frozen=True, slots=True)
class NoSettings:
    """A rule without parameters."""


def settings_of(kind: type[Settings], given: dict[str, object], owner: str) -> Settings:
    """`kind(**given)`, after checking names and types against the dataclass's fields (an int passes for a float).

    Raises ValueError in one line naming the owner, the parameter, the value and what is allowed; `kind`'s own
    `__post_init__` may raise ValueError for a range, and its line is given the owner's name too.
    """
    allowed = {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in allowed:
            raise ValueError(f"{owner}: unknown parameter {name!r}; allowed: {', '.join(allowed) or 'none'}")
        if not _fits(value, allowed[name]):
            raise ValueError(f"{owner}: {name} = {value!r} is not allowed; it must be {_WANTED[allowed[name]]}")
    converted: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from error


def no_parameters(given: dict[str, object], owner: str) -> None:
    """Raises ValueError where a rule without parameters is given one."""
    settings_of(NoSettings, given, owner)


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} = {value!r} is not allowed; it must be one of: {', '.join(allowed)}")


def within(name: str, value: float | None, least: float, most: float = float("inf")) -> None:
    """Raises ValueError where a given number is outside [least, most]; None (no limit) passes."""
    if value is not None and not least <= value <= most:
        limit = f"at least {least}" if most == float("inf") else f"from {least} to {most}"
        raise ValueError(f"{name} = {value!r} is not allowed; it must be {limit}")


def _fits(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind == tuple[int, ...]:
        return isinstance(value, list | tuple) and all(_fits(x, int) for x in value)
    kinds = get_args(kind) or (kind,)
    if value is None:
        return type(None) in kinds
    if isinstance(value, int):
        return int in kinds or float in kinds
    if isinstance(value, float):
        return float in kinds and isfinite(value)
    return isinstance(value, str) and str in kinds
