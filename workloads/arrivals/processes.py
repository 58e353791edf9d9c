"""The known arrival processes by name: which parameters each has, and how it fills a window of the run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workloads.arrivals.client_mix import CLIENT_MIX, client_mix
from workloads.arrivals.intensity import Floats, Intensity
from workloads.arrivals.parameters import Choice, Parameter
from workloads.arrivals.renewal import CV, constant, gamma_gaps, poisson, weibull_gaps
from workloads.arrivals.trace_clock import Arrivals, TraceClock, compressed, users
from workloads.arrivals.two_state import MMPP2, ON_OFF, Draw
from workloads.draws import generator


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What one process has to fill: `factor` begins where the window does, the rate before modulation is `rate_rps`."""

    parameters: Mapping[str, Any]
    rate_rps: float
    factor: Intensity
    end_s: float
    seed: int
    path: tuple[int, ...]
    clock: TraceClock | None
    offset: float


@dataclass(frozen=True, slots=True)
class Process:
    """An arrival process; `own_shape` names the shape that its parameters belong to, which then modulates it."""

    fill: Callable[[Window], Arrivals]
    parameters: Mapping[str, Parameter]
    own_shape: str | None = None


def _operational(make: Callable[[Mapping[str, Any], float, Draw], Floats]) -> Callable[[Window], Arrivals]:
    """A process of mean rate 1 in operational time ∫ rate · factor dt, taken back to seconds by the inverse of that integral."""

    def fill(window: Window) -> Arrivals:
        until = float(window.factor.mass(np.array([window.end_s]))[0]) * window.rate_rps
        times = make(window.parameters, until, partial(generator, window.seed, "arrivals", *window.path))
        start_s = window.factor.time(times / window.rate_rps)
        start_s = start_s[start_s < window.end_s]
        return Arrivals(start_s, np.full(len(start_s), -1, dtype=np.int64), np.zeros(len(start_s), dtype=np.int64))

    return fill


def _trace(window: Window) -> Arrivals:
    assert window.clock is not None  # session_arrivals has asked for it
    if window.parameters["scale"] == "compress":
        return compressed(window.clock, window.offset, window.rate_rps, window.factor, window.end_s)
    return users(window.clock, window.offset, window.rate_rps, window.factor, window.end_s, window.seed, window.path)


ARRIVALS: dict[str, Process] = {
    "constant": Process(_operational(constant), {}),
    "poisson": Process(_operational(poisson), {}),
    "gamma": Process(_operational(gamma_gaps), CV),
    "weibull": Process(_operational(weibull_gaps), CV),
    "mmpp2": Process(_operational(poisson), MMPP2, own_shape="mmpp2"),
    "on_off": Process(_operational(poisson), ON_OFF, own_shape="on_off"),
    "client_mix": Process(_operational(client_mix), CLIENT_MIX),
    "trace": Process(_trace, {"scale": Choice(("users", "compress"), "users")}),
}
