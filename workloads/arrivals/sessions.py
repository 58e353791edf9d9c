"""A whole arrival → the session starts of a run, and the mean of its modulation. It does not know what a session holds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

from workloads.arrivals.grammar import check_arrival
from workloads.arrivals.intensity import Intensity, steady
from workloads.arrivals.processes import ARRIVALS, Window
from workloads.arrivals.shapes import SHAPES
from workloads.arrivals.trace_clock import Arrivals, TraceClock, joined
from workloads.draws import generator

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Factor:
    """One shape at one place of the arrival; its random numbers are named by `purpose` and `path`."""

    shape: str
    parameters: Mapping[str, Any]
    purpose: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One process over [begin_s, end_s) at `share` of the rate; `origin_s` is where its concatenation counts from."""

    node: Mapping[str, Any]
    key: str
    path: Path
    share: float
    begin_s: float
    end_s: float
    origin_s: float
    factors: tuple[_Factor, ...]


def session_arrivals(
    arrival: Mapping[str, Any],
    rate_rps: float,
    past_s: float,
    horizon_s: float,
    seed: int,
    clock: TraceClock | None,
    offset: float = 0.0,
) -> Arrivals:
    """Session starts in [−past_s, horizon_s) at the base rate `rate_rps`, the same for one seed; a longer horizon only appends.

    `clock` holds the trace's own starts; a `trace` process begins `offset` (a share, 0 to 1) of its period in. Every trace
    arrival has another (place, copy). Raises ValueError in one line.
    """
    for name, value, least in (("rate_rps", rate_rps, "> 0"), ("past_s", past_s, "≥ 0"), ("horizon_s", horizon_s, "≥ 0")):
        if not 0 <= value < inf or (least == "> 0" and value == 0):
            raise ValueError(f"{name} is {value!r}; expected a number {least}")
    checked = check_arrival(arrival)
    traces = [leaf.path for leaf in _leaves(checked, -inf, inf) if leaf.node["process"] == "trace"]
    parts: list[Arrivals] = []
    for leaf in _leaves(checked, -float(past_s), float(horizon_s)):
        if leaf.node["process"] == "trace" and clock is None:
            others = ", ".join(name for name in ARRIVALS if name != "trace")
            raise ValueError(f"{leaf.key}.process is 'trace', but this trace has no timestamps; allowed: {others}")
        factor = _factor(leaf, seed)
        window = Window(leaf.node, rate_rps * leaf.share, factor, leaf.end_s, seed, leaf.path, clock, offset)
        part = ARRIVALS[leaf.node["process"]].fill(window)
        number = traces.index(leaf.path) if leaf.path in traces else 0
        parts.append(replace(part, copy=part.copy * max(len(traces), 1) + number))
    return joined(parts)


def needs_clock(arrival: Mapping[str, Any]) -> bool:
    """True where some part of the arrival takes the trace's own times."""
    return any(leaf.node["process"] == "trace" for leaf in _leaves(check_arrival(arrival), -inf, inf))


def is_steady(arrival: Mapping[str, Any]) -> bool:
    """True where nothing bends the rate on purpose or at random: no shape, no concatenation, no process with states."""
    leaves = list(_leaves(check_arrival(arrival), -inf, inf))
    return not any(leaf.factors for leaf in leaves) and '"concatenate"' not in json.dumps(check_arrival(arrival))


def mean_factor(arrival: Mapping[str, Any], begin_s: float, end_s: float, seed: int) -> float:
    """The rate over [begin, end) as a multiple of the base rate, for the random shapes that this seed draws.

    An empty window counts as its first microsecond. The random path of the processes mmpp2 and on_off is a modulation too.
    """
    end_s = max(end_s, begin_s + 1e-6)
    leaves = _leaves(check_arrival(arrival), begin_s, end_s)
    weighted = [(leaf, leaf.share * (leaf.end_s - leaf.begin_s) / (end_s - begin_s)) for leaf in leaves]
    return sum(weight * _factor(leaf, seed).mean(leaf.begin_s, leaf.end_s) for leaf, weight in weighted)


def _leaves(node: Mapping[str, Any], begin_s: float, end_s: float) -> Iterator[_Leaf]:
    yield from _within(_Leaf(node, "arrival", (), 1.0, begin_s, end_s, 0.0, ()))


def _within(at: _Leaf) -> Iterator[_Leaf]:
    """The processes below a node, in the order of the arrival. Path elements begin with 1: see `two_state.Draw`."""
    shapes = enumerate(at.node.get("modulate", ()), 1)
    own = tuple(_Factor(s["shape"], s, "arrival-modulation", (*at.path, i)) for i, s in shapes)
    at = replace(at, factors=(*at.factors, *own))
    if "superpose" in at.node:
        for i, part in enumerate(at.node["superpose"]):
            key = f"{at.key}.superpose[{i}]"
            yield from _within(replace(at, node=part, key=key, path=(*at.path, i + 1), share=at.share * part["share"]))
    elif "concatenate" in at.node:
        yield from _pieces(at)
    else:
        shape = ARRIVALS[at.node["process"]].own_shape
        state = (_Factor(shape, at.node, "arrival-state", at.path),) if shape else ()
        yield replace(at, factors=(*at.factors, *state))


def _pieces(at: _Leaf) -> Iterator[_Leaf]:
    """One arrival after the other, `for_s` each from the origin on; all that is before belongs to the first."""
    origin_s = at.origin_s
    for i, part in enumerate(at.node["concatenate"]):
        begin_s = at.begin_s if i == 0 else max(at.begin_s, origin_s)
        end_s = min(at.end_s, origin_s + part.get("for_s", inf))
        key = f"{at.key}.concatenate[{i}]"
        if begin_s < end_s:
            yield from _within(
                replace(at, node=part, key=key, path=(*at.path, i + 1), begin_s=begin_s, end_s=end_s, origin_s=origin_s)
            )
        origin_s += part.get("for_s", inf)


def _factor(leaf: _Leaf, seed: int) -> Intensity:
    """The product of all that modulates a process, from where it begins."""
    product = steady(leaf.begin_s)
    for factor in leaf.factors:
        draw = partial(generator, seed, factor.purpose, *factor.path)
        product = product.times(SHAPES[factor.shape].make(factor.parameters, leaf.begin_s, leaf.end_s, draw))
    return product
