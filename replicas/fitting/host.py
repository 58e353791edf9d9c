"""Fits what only open-loop traffic shows of a host: how long it launches steps outside CUDA graphs. No GPU work."""

from collections.abc import Sequence as Seq
from dataclasses import replace

from scipy.optimize import minimize_scalar

from replicas.fitting.measurements import Run
from replicas.fitting.replayed import compare
from replicas.profile import EngineProfile

_WEIGHTS = {"ttft_p50": 5.0, "ttft_p90": 5.0, "tpot_p50": 11.0, "tpot_p90": 10.0}  # 1 / the error that repeats of a run show
_GRID_S = tuple(1e-3 * ms for ms in (6, 9, 12, 15, 18, 21, 24, 27, 30, 34, 40, 50))
_TOLERANCE_S = 1e-4


def with_launch(profile: EngineProfile, eager_launch_s: float) -> EngineProfile:
    return replace(profile, step=replace(profile.step, eager_launch_s=eager_launch_s))


def fit_launch(runs: Seq[Run], profile: EngineProfile) -> EngineProfile:
    """`profile` with `eager_launch_s` by least squares on the relative errors of TTFT's and TPOT's p50 and p90 in `runs`;
    unchanged where all its steps with a prefill run with graphs, so that no run shows it.

    Brent, between the neighbours of the best of a grid: the cost is not smooth.
    """
    if not profile.step.graph_tokens:
        return profile

    def cost(eager_launch_s: float) -> float:
        return sum(_cost(run, with_launch(profile, float(eager_launch_s))) for run in runs)

    best = min(range(1, len(_GRID_S) - 1), key=lambda i: cost(_GRID_S[i]))
    bounds = (_GRID_S[best - 1], _GRID_S[best + 1])
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": _TOLERANCE_S})
    return with_launch(profile, float(found.x))


def _cost(run: Run, profile: EngineProfile) -> float:
    table = compare(run, profile, draws=1)
    return float(sum((weight * table[name]["error"]) ** 2 for name, weight in _WEIGHTS.items()))
