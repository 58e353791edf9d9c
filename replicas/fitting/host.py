"""Fits what only open-loop traffic shows: launching steps outside CUDA graphs, and the front end's jitter. No GPU work."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from replicas.fitting.measurements import Run
from replicas.fitting.replayed import compare
from replicas.profile import EngineProfile

_WEIGHTS = {"ttft_p50": 5.0, "ttft_p90": 5.0, "tpot_p50": 11.0, "tpot_p90": 10.0}  # 1 / the error that repeats of a run show
_START = (25e-3, 8e-3)
_DRAWS = 2


@dataclass(frozen=True, slots=True)
class HostFit:
    """Seconds the host takes to launch a prefill step without graphs; mean of the exponential delay in the front end."""

    eager_launch_s: float
    frontend_jitter_s: float

    def on(self, profile: EngineProfile) -> EngineProfile:
        step = replace(profile.step, eager_launch_s=self.eager_launch_s)
        return replace(profile, step=step, frontend_jitter_s=self.frontend_jitter_s)


def fit_host(runs: Seq[Run], profile: EngineProfile, start: tuple[float, float] = _START) -> HostFit:
    """Least squares on the relative errors of TTFT's and TPOT's p50 and p90 in all `runs` (Nelder & Mead: no gradient)."""

    def cost(scaled: np.ndarray) -> float:
        if scaled.min() < 0:
            return float(1e6 * (1 - scaled.min()))
        return sum(_cost(run, _host_of(scaled, start).on(profile)) for run in runs)

    simplex = [[1.0, 1.0], [1.25, 1.0], [1.0, 1.5]]
    found = minimize(cost, [1.0, 1.0], method="Nelder-Mead", options={"maxfev": 60, "initial_simplex": simplex, "xatol": 5e-3})
    return _host_of(found.x, start)


def _host_of(scaled: np.ndarray, start: tuple[float, float]) -> HostFit:
    return HostFit(*(float(a * b) for a, b in zip(scaled, start, strict=True)))


def _cost(run: Run, profile: EngineProfile) -> float:
    table = compare(run, profile, _DRAWS)
    return float(sum((weight * table[name]["error"]) ** 2 for name, weight in _WEIGHTS.items()))
