"""The A/A noise floor: how much repeats of one arm and seed differ. It knows no router and shows nothing."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_REACH = 1.96 * math.sqrt(2) / 0.954


@dataclass(frozen=True, slots=True)
class Noise:
    """Differences between the `pairs` repeats of arms and seeds: |a − b| / their mean, its median and largest; `size` is the
    median |a − b| itself (seconds, req/s or share)."""

    metric: str
    pairs: int
    median: float
    largest: float
    size: float


def noise_of(con: "duckdb.DuckDBPyConnection", arm_ids: list[str] | None = None) -> dict[str, Noise]:
    """By metric, of the entered scene's sound cells (of `arm_ids` only, where given); steady phase, prefix hits of whole runs."""
    found = con.execute(
        """
        SELECT metric, count(*), median(relative), max(relative), median(difference)
        FROM repeats SEMI JOIN sound USING (cell_id)
        WHERE phase IN ('steady', 'all') AND relative IS NOT NULL AND (? IS NULL OR list_contains(?, arm_id))
        GROUP BY metric ORDER BY metric""",
        [arm_ids, arm_ids],
    ).fetchall()
    return {metric: Noise(metric, *sizes) for metric, *sizes in found}


def within_noise(noise: Noise | None, value: float, other: float, runs: int) -> bool:
    """Whether two means over `runs` runs each differ by no more than chance allows, going by how single repeats differ.

    The median |a − b| of two normal values is 0.954 standard deviations, so 95% of differences of two means over n runs lie
    within 1.96 · √2 / 0.954 · median / √n = 2.906 · median / √n. False where nothing was repeated.
    """
    if noise is None or not runs:
        return False
    return abs(value - other) <= _REACH * noise.median * (value + other) / 2 / math.sqrt(runs)
