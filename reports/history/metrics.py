"""Which figures of a run are followed from night to night, which way is worse, and how they are put on a scale to judge."""

import math
from dataclasses import dataclass
from typing import Literal

Scale = Literal["ratio", "points", "count"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of table `arms` in one phase, as words `noun` of an arm `when`, in a `unit` of `reports.sentences.number`.

    `scale` ratio: judged by its logarithm, a change is a percentage; points: a share between 0 and 1, judged as it is, a change
    is in points; count: a number that may be 0 (or below, which is as good), judged by the logarithm of one more.
    """

    phase: str
    name: str
    noun: str
    when: str
    unit: str
    higher_is_better: bool = False
    scale: Scale = "ratio"

    @property
    def words(self) -> str:
        return f"{self.noun} {self.when}".strip()

    @property
    def verb(self) -> str:
        return "are" if self.noun in ("Prefix hits", "Runs back", "Requests lost") else "is"

    @property
    def is_percentile(self) -> bool:
        """Whether a missing value means: beyond all that was answered (worse than any), and not: nothing to say."""
        return self.name.endswith("_s")

    def lifted(self, value: float) -> float | None:
        """The value as `changes.judge` takes it: above 0; None where it has no place on the scale."""
        if not math.isfinite(value):
            return None
        if self.scale == "points":
            return math.exp(value)
        if self.scale == "count":
            return 1 + max(0.0, value)
        return value if value > 0 else None

    def lowered(self, value: float) -> float:
        """The inverse of `lifted`."""
        if self.scale == "points":
            return math.log(value)
        return value - 1 if self.scale == "count" else value

    def size(self, ratio: float) -> float:
        """A change as `changes.judge` tells it, on the metric's own scale: +0.08 is 8% or 8 points more."""
        return math.log(ratio) if self.scale == "points" else ratio - 1

    def is_worse(self, size: float) -> bool:
        return size < 0 if self.higher_is_better else size > 0


NORMAL, AFTER = "on a normal day", "after the trigger"
FOLLOWED = (
    Metric("steady", "ttft_p50_s", "TTFT p50", NORMAL, "time"),
    Metric("steady", "ttft_p99_s", "TTFT p99", NORMAL, "time"),
    Metric("steady", "tpot_p50_s", "TPOT p50", NORMAL, "time"),
    Metric("steady", "e2e_p99_s", "E2E p99", NORMAL, "time"),
    Metric("steady", "goodput_rps", "Goodput", NORMAL, "req/s", higher_is_better=True),
    Metric("steady", "success", "SLO met", NORMAL, "share", higher_is_better=True, scale="points"),
    Metric("steady", "cache_hit", "Prefix hits", NORMAL, "share", higher_is_better=True, scale="points"),
    Metric("recovery", "recovered_share", "Runs back", AFTER, "share", higher_is_better=True, scale="points"),
    Metric("recovery", "lost_goodput", "Requests lost", AFTER, "count", scale="count"),
)
