"""One row of the comparison, and when two numbers count as the same. It does not know what is compared."""

from collections.abc import Callable
from typing import Any

TOLERANCE = 0.01
"""Differences below 1% are called the same, however many requests there are."""
CHANCE = 2.6
"""Standard errors that chance alone may take: 99% of cases."""
COARSE = 0.3
"""A relative distance that chance hides though it is larger than this says nothing: the run is too short to tell."""
SAME, DIFFERS, BY_DESIGN, UNTOLD = "same", "differs", "by design", "cannot be told"


def row(
    metric: str,
    source: float | None,
    synthesized: float | None,
    *,
    unit: str = "",
    noise: float | None = None,
    design: str = "",
    why: str = "",
    scale: float | None = None,
) -> dict[str, Any]:
    """A number beside a number: their relative distance (over `scale` where given), judged unless there is a `design`."""
    distance = None
    if source is not None and synthesized is not None:
        over = scale if scale is not None else abs(source)
        distance = abs(synthesized - source) / over if over else abs(synthesized - source)
    return _judged(metric, source, synthesized, unit, "relative", distance, noise, design, why)


def distance_row(metric: str, kind: str, distance: float, noise: float, design: str = "") -> dict[str, Any]:
    """A distance between two whole distributions, judged unless there is a `design`."""
    return _judged(metric, None, None, "", kind, distance, noise, design, "")


def explained(rows: list[dict[str, Any]], reason: Callable[[], str]) -> list[dict[str, Any]]:
    """The rows, those that differ without a word with the reason; it is asked only then."""
    bare = [r for r in rows if r["verdict"] == DIFFERS and not r["why"]]
    said = reason() if bare else ""
    return [{**r, "why": said} if r in bare else r for r in rows]


def _judged(
    metric: str,
    source: float | None,
    synthesized: float | None,
    unit: str,
    kind: str,
    distance: float | None,
    noise: float | None,
    design: str,
    why: str,
) -> dict[str, Any]:
    verdict = BY_DESIGN if design or distance is None else SAME if distance <= max(noise or 0.0, TOLERANCE) else DIFFERS
    if verdict == SAME and kind == "relative" and distance is not None and distance > COARSE:
        verdict = UNTOLD
    return {
        "metric": metric,
        "source": source,
        "synthesized": synthesized,
        "unit": unit,
        "distance": distance,
        "distance_kind": kind,
        "noise": noise,
        "verdict": verdict,
        "why": design or why,
    }
