"""The size axis of the map: logarithmic, with lanes of its own for sizes beyond what was tried. It reads no data."""

from dataclasses import dataclass
from math import log
from typing import Any

import altair as alt
import polars as pl

from reports.charts.panels import named
from reports.probe.scene import size

TICKS = (1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30, 50, 100)
LANE = 0.09  # a lane's height, as a share of the axis between the least and the largest size
AXIS_PX = 62


@dataclass(frozen=True)
class Lanes:
    """Where a size stands on the axis; `least` and `most` are the sizes tried. Lanes: above, below and, lowest, unstable."""

    least: float
    most: float

    @property
    def step(self) -> float:
        return float((self.most / self.least) ** LANE) if self.most > self.least else 1.1

    @property
    def above(self) -> float:
        return self.most * self.step

    @property
    def below(self) -> float:
        return self.least / self.step

    @property
    def unstable(self) -> float:
        return self.least / self.step**2

    def domain(self) -> list[float]:
        return [self.least / self.step**2.5, self.most * self.step**1.5]

    def scale(self) -> Any:
        return alt.Scale(type="log", domain=self.domain(), nice=False)

    def axis(self) -> Any:
        """Ticks at round sizes and one a lane, named."""
        apart = (self.most / self.least) ** 0.06
        inner = [t for t in TICKS if self.least * apart < t < self.most / apart]
        for edge in (self.least, self.most):
            inner = [t for t in inner if abs(log(t / edge)) > log(apart)]
        values = [self.unstable, self.below, *inner, self.above]
        words = {self.unstable: "unstable", self.below: f"< {size(self.least)}", self.above: f"> {size(self.most)}"}
        said = "".join(f"abs(datum.value / {at!r} - 1) < 1e-6 ? '{word}' : " for at, word in words.items())
        return alt.Axis(title=None, values=values, labelExpr=f"{said}format(datum.value, '~r') + '×'", labelOverlap=False,
                        tickCount=2 * len(values), minExtent=AXIS_PX, maxExtent=AXIS_PX)  # fmt: skip

    def frame(self) -> pl.DataFrame:
        """Data `lanes`: the shaded strips."""
        edge = self.step**0.5
        strips = [(self.least / edge, self.domain()[0]), (self.domain()[1], self.most * edge)]
        return pl.DataFrame(strips, schema={"high": pl.Float64, "low": pl.Float64}, orient="row")

    def strips(self) -> Any:
        """The shaded strips behind a panel."""
        y = alt.Y("low:Q", scale=self.scale(), axis=self.axis())
        return named("lanes").mark_rect(tooltip=None).encode(y=y, y2="high:Q", color=alt.value("var(--shade)"))
