"""Kaplan–Meier survival curves: what share has not come back yet, where some were watched too briefly. It knows times alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.statistics import CONFIDENCE


@dataclass(frozen=True, slots=True)
class Step:
    """From `at_s` on, `share` of the runs is still down; `low` and `high` are its pointwise limits (None where undefined).

    `at_risk`: runs watched and still down just before `at_s`; `back`: those that came back then; `lost`: those last seen then.
    """

    at_s: float
    share: float
    low: float | None
    high: float | None
    at_risk: int
    back: int
    lost: int


def survival(times: Sequence[tuple[float, bool]], confidence: float = CONFIDENCE) -> list[Step]:
    """The curve of `times` (seconds, came back then or was last seen then), from 0 s on; empty for no times.

    Product-limit estimate (Kaplan and Meier 1958); limits: Greenwood's variance on the log(−log) scale (Kalbfleisch and Prentice
    1980), which stay within 0 and 1. Where both happen at one time, those who came back count first. Raises ValueError for a time
    that is negative or not finite.
    """
    from scipy import special

    wrong = next((t for t, _ in times if not 0 <= t < math.inf), None)
    if wrong is not None:
        raise ValueError(f"survival: a time of {wrong!r} s; allowed: finite and at least 0")
    if not times:
        return []
    z = float(special.ndtri(0.5 + confidence / 2))
    steps = [Step(0.0, 1.0, 1.0, 1.0, len(times), 0, 0)]
    share, variance, at_risk = 1.0, 0.0, len(times)
    for at_s in sorted({t for t, _ in times}):
        back = sum(came for t, came in times if t == at_s)
        lost = sum(not came for t, came in times if t == at_s)
        if back:
            share *= 1 - back / at_risk
            variance += back / (at_risk * (at_risk - back)) if at_risk > back else math.inf
        steps.append(Step(at_s, share, *_limits(share, variance, z), at_risk, back, lost))
        at_risk -= back + lost
    return steps


def _limits(share: float, variance: float, z: float) -> tuple[float | None, float | None]:
    if variance == 0:
        return share, share
    if share == 0 or math.isinf(variance):
        return None, None
    reach = z * math.sqrt(variance) / abs(math.log(share))
    return share ** math.exp(reach), share ** math.exp(-reach)
