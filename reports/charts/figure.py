"""What a chart hands to the page: an altair chart on named data, the data, its words, and the headings of its data table."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from reports.scene import Router

MAX_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Fit:
    """How a chart fills its place: up to `columns` panels in a row, each at least `min_px` wide of which `side_px` are
    axis and gap."""

    columns: int = 1
    min_px: int = 280
    side_px: int = 64


@dataclass(frozen=True, slots=True)
class Figure:
    """One drawn chart. `tab` names it among its siblings, which may share `chart` and differ in `data` alone; `tabs_of` says what
    the tabs are, where they are neither settings nor routers. `legend` are the series (key, label, colour, dash) of a chart that
    draws neither, under the name `legend_of`.

    `chart` refers to data by name; `data["rows"]` is what the table beneath shows, under the headings `columns`.
    Raises ValueError beyond `MAX_ROWS` rows: aggregate before charting.
    """

    key: str
    title: str
    caption: str
    chart: Any
    data: "dict[str, pl.DataFrame]"
    columns: dict[str, str]
    fit: Fit = field(default_factory=Fit)
    tab: str = ""
    by_router: bool = True
    legend: "tuple[Router, ...]" = ()
    legend_of: str = ""
    tabs_of: str = ""

    def __post_init__(self) -> None:
        for name, frame in self.data.items():
            if frame.height > MAX_ROWS:
                raise ValueError(f"chart {self.key}: {frame.height} rows of {name}; at most {MAX_ROWS} are drawn")

    def to_vega_lite(self) -> dict[str, Any]:
        """The whole specification, data included."""
        spec: dict[str, Any] = self.chart.to_dict()
        return spec | {"datasets": {name: frame.to_dicts() for name, frame in self.data.items()}}
