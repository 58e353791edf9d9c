"""Which figures of a run are followed from night to night, which way is worse, and how they are put on a scale to judge."""

import math
from dataclasses import dataclass
from typing import Literal

Scale = Literal["ratio", "points"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of table `arms` in one phase. `scale` ratio: judged by its logarithm, a change is a percentage; points: a share
    between 0 and 1, judged as it is, a change is in points."""

    phase: str
    name: str
    words: str
    unit: str
    higher_is_better: bool = False
    scale: Scale = "ratio"

    def lifted(self, value: float) -> float | None:
        """The value as `changes.judge` takes it: above 0; None where it has no place on the scale."""
        if self.scale == "points":
            return math.exp(value)
        return value if value > 0 else None

    def size(self, ratio: float) -> float:
        """A change as `changes.judge` tells it, on the metric's own scale: +0.08 is 8% or 8 points more."""
        return math.log(ratio) if self.scale == "points" else ratio - 1

    def is_worse(self, size: float) -> bool:
        return size < 0 if self.higher_is_better else size > 0


FOLLOWED = (
    Metric("steady", "ttft_p50_s", "TTFT p50 on a normal day", "time"),
    Metric("steady", "ttft_p99_s", "TTFT p99 on a normal day", "time"),
    Metric("steady", "tpot_p50_s", "TPOT p50 on a normal day", "time"),
    Metric("steady", "e2e_p99_s", "E2E p99 on a normal day", "time"),
    Metric("steady", "goodput_rps", "goodput on a normal day", "req/s", higher_is_better=True),
    Metric("steady", "success", "SLO met on a normal day", "share", higher_is_better=True, scale="points"),
    Metric("steady", "cache_hit", "prefix hits on a normal day", "share", higher_is_better=True, scale="points"),
    Metric("recovery", "recovered_share", "runs back after the trigger", "share", higher_is_better=True, scale="points"),
    Metric("recovery", "lost_goodput", "requests lost to the trigger", "count"),
)
