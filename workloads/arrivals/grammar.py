"""What an arrival may say, checked and completed: a process, a superposition or a concatenation, each perhaps modulated."""

from collections.abc import Mapping
from math import fsum
from typing import Any

from workloads.arrivals.parameters import Number, check_parameters
from workloads.arrivals.processes import ARRIVALS
from workloads.arrivals.shapes import SHAPES

_KINDS = ("process", "superpose", "concatenate")
_DEEPEST = 8
_SHARE, _FOR_S = {"share": Number()}, {"for_s": Number()}


def check_arrival(arrival: Mapping[str, Any]) -> dict[str, Any]:
    """The whole arrival with defaults filled in and `modulate` as a list.

    An arrival has exactly one of `process` (and its parameters), `superpose` (arrivals with a `share`, which sum to 1) and
    `concatenate` (arrivals with `for_s` seconds, the last one without), and may have `modulate` (a shape or a list of them).
    ValueError names the key's path, the value and what is allowed.
    """
    return _node(arrival, "arrival", {}, 0)


def _node(node: object, key: str, given_by_parent: Mapping[str, Number], depth: int) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        raise ValueError(f"{key} is {node!r}; expected a mapping with one of {', '.join(_KINDS)}")
    if depth > _DEEPEST:
        raise ValueError(f"{key} is nested deeper than {_DEEPEST} arrivals")
    kinds = [kind for kind in _KINDS if kind in node]
    if len(kinds) != 1:
        raise ValueError(f"{key} has {' and '.join(kinds) or 'no process'}; expected exactly one of {', '.join(_KINDS)}")
    if kinds == ["process"]:
        checked = _named(node, "process", ARRIVALS, key, ("modulate", *given_by_parent))
    else:
        _refuse_others(node, key, (kinds[0], "modulate", *given_by_parent))
        checked = {kinds[0]: (_superpose if kinds == ["superpose"] else _concatenate)(node[kinds[0]], f"{key}.{kinds[0]}", depth)}
    if "modulate" in node:
        checked["modulate"] = _modulate(node["modulate"], f"{key}.modulate")
    return {**checked, **check_parameters(node, given_by_parent, key)}


def _superpose(value: object, key: str, depth: int) -> list[dict[str, Any]]:
    parts = [_node(part, f"{key}[{i}]", _SHARE, depth + 1) for i, part in enumerate(_some(value, key, "arrivals"))]
    total = fsum(part["share"] for part in parts)
    if abs(total - 1) > 1e-9:
        raise ValueError(f"{key} has shares that sum to {total:.10g}; expected 1")
    return parts


def _concatenate(value: object, key: str, depth: int) -> list[dict[str, Any]]:
    parts = _some(value, key, "arrivals")
    last = len(parts) - 1
    return [_node(part, f"{key}[{i}]", _FOR_S if i < last else {}, depth + 1) for i, part in enumerate(parts)]


def _modulate(value: object, key: str) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        return [_shape(value, key)]
    return [_shape(part, f"{key}[{i}]") for i, part in enumerate(_some(value, key, "shapes"))]


def _shape(value: object, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is {value!r}; expected a mapping with a shape")
    return _named(value, "shape", SHAPES, key, ())


def _named(node: Mapping[str, Any], kind: str, known: Mapping[str, Any], key: str, also: tuple[str, ...]) -> dict[str, Any]:
    """A process or a shape with its parameters."""
    name = node.get(kind)
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{key}.{kind} is {name!r}; allowed: {', '.join(known)}")
    parameters = known[name].parameters
    for other in node:
        if other not in (kind, *parameters, *also):
            allowed = ", ".join([*parameters, *also]) or "none"
            raise ValueError(f"{key}.{other} is no parameter of {name!r}; allowed: {allowed}")
    return {kind: name, **check_parameters(node, parameters, key)}


def _some(value: object, key: str, what: str) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{key} is {value!r}; expected a list of {what}, at least one")
    return list(value)


def _refuse_others(node: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> None:
    for other in node:
        if other not in allowed:
            raise ValueError(f"{key}.{other} is unknown; allowed: {', '.join(allowed)}")
