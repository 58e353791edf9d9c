"""What the page shows of one pool: verdict, leaderboard, charts; where it was measured, what stood in front of it, and its twin.

It arranges and computes nothing.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reports import caveats, sentences
from reports import leaderboard as board
from reports.event_tables import arm_table, event_table
from reports.gateway_costs import gateway_costs
from reports.gateway_tables import CostPart, cost_part
from reports.html_tables import Table, normal_table, stampede_table
from reports.live_words import pool_notes
from reports.noise import Noise, noise_of
from reports.noise_table import noise_sentence, noise_table
from reports.pool_events import event_hits, missed
from reports.read_scene import enter
from reports.scene import Scene
from reports.twin_tables import TwinPart, twin_part
from reports.twins import compared, verdict_pairs

if TYPE_CHECKING:
    import duckdb
    from markupsafe import Markup

    from reports.charts.figure import Figure

NAV = {
    "comebacks": "Who comes back",
    "cures": "Collapse and cure",
    "timelines": "Timelines",
    "normal_day": "Normal day",
    "answer_times": "Answer times",
    "shares": "Load per replica",
    "instruments": "Engines and gateway",
    "prefix_hits": "Prefix hits",
    "twin_errors": "Simulated beside measured",
}
TWINS = "twin_errors"


@dataclass(frozen=True, slots=True)
class Section:
    """One heading with its charts: alternatives under tabs, one legend, one specification for all."""

    key: str
    title: str
    nav: str
    figures: list[dict[str, Any]]
    spec: "Markup"
    legend: list[Any]
    legend_of: str
    tabs_of: str


@dataclass(frozen=True, slots=True)
class Part:
    """One pool's part of the page. `prefix` begins the ids of all that is in it: "" where it is the page's only part.

    `heading` is None there too. `runs` are its certificates, `loads` its load a phase.
    """

    prefix: str
    heading: str | None
    scene: Scene
    verdict: list[str]
    notes: list[str]
    stampede_table: Table
    normal_tables: list[Table]
    noise: str | None
    noise_table: Table | None
    event_table: Table | None
    event_arm_table: Table | None
    sections: list[Section]
    cost: CostPart | None
    twins: TwinPart | None
    twin_chart: Section | None
    runs: list[dict[str, object]]
    loads: list[dict[str, object]]

    @property
    def void(self) -> int:
        return sum(bool(r["void"]) for r in self.runs)

    @property
    def lost(self) -> int:
        """Runs that break conservation."""
        return sum(not r["conserved"] for r in self.runs)

    @property
    def contents(self) -> list[tuple[str, str]]:
        """(id, words) of its headings."""
        found = [("leaderboard", "Leaderboard"), *([("pool-events", "Pool events")] if self.scene.events else [])]
        found += [(s.key.removeprefix(self.prefix), s.nav) for s in self.sections]
        found += [("gateway-cost", "Gateways’ cost")] if self.cost else []
        found += [("twin-errors", NAV[TWINS])] if self.twins else []
        return [(self.prefix + key, nav) for key, nav in found]


def build_part(con: "duckdb.DuckDBPyConnection", scene: Scene, alone: bool) -> Part:
    """Enters the scene and gathers its part; `alone`: it is the only one of the page."""
    enter(con, scene.pool)
    prefix = "" if alone else f"{scene.pool.key}-"
    normal, stampede = board.normal_day_rows(con, scene), board.stampede_rows(con, scene)
    runs, hits, noise = board.certificates(con), event_hits(con), noise_of(con)
    void, lost = sum(bool(r["void"]) for r in runs), sum(not r["conserved"] for r in runs)
    twins = twin_part(scene, compared(con), verdict_pairs(con)) if scene.pool.live else None
    told = sentences.verdict(scene, normal, stampede)
    sections = _sections(con, scene, prefix)
    normal_tables = [normal_table(scene, normal, c.key) for c in scene.conditions if any(r.condition == c.key for r in normal)]
    return Part(
        prefix=prefix,
        heading=None if alone else scene.pool.words,
        scene=scene,
        verdict=[*told, twins.sentence] if twins else told,
        notes=[*caveats.event_notes(scene), *caveats.warnings(scene, stampede, void, lost, len(runs)), *pool_notes(scene, runs)],
        stampede_table=_keyed(prefix, stampede_table(scene, stampede)),
        normal_tables=[_keyed(prefix, table) for table in normal_tables],
        noise=noise_sentence(noise),
        noise_table=_keyed_if(prefix, noise_table(noise)),
        event_table=_keyed_if(prefix, event_table(scene, hits, missed(con))),
        event_arm_table=_keyed_if(prefix, arm_table(scene, hits)),
        sections=[section for name, section in sections.items() if name != TWINS],
        cost=_cost(con, scene, prefix, noise) if scene.pool.live else None,
        twins=_twins(twins, prefix),
        twin_chart=sections.get(TWINS),
        runs=runs,
        loads=board.phase_loads(con),
    )


def _keyed(prefix: str, table: Table) -> Table:
    return replace(table, key=prefix + table.key)


def _keyed_if(prefix: str, table: Table | None) -> Table | None:
    return None if table is None else _keyed(prefix, table)


def _cost(con: "duckdb.DuckDBPyConnection", scene: Scene, prefix: str, noise: dict[str, Noise]) -> CostPart | None:
    part = cost_part(scene, gateway_costs(con), noise.get("ttft_p50_s"))
    return part and replace(part, table=_keyed(prefix, part.table), rewriting=_keyed_if(prefix, part.rewriting))


def _twins(part: TwinPart | None, prefix: str) -> TwinPart | None:
    return part and replace(part, table=_keyed(prefix, part.table), verdicts=_keyed_if(prefix, part.verdicts))


def _sections(con: "duckdb.DuckDBPyConnection", scene: Scene, prefix: str) -> dict[str, Section]:
    """The charts by kind, each under one heading; a kind without figures is left out."""
    from reports.charts import CHARTS

    sections = {}
    for name, draw in CHARTS.items():
        figures = [replace(figure, key=prefix + figure.key) for figure in draw(con, scene)]
        if not figures:
            continue
        first = figures[0]
        settings = ("Routers", "client and guard") if first.by_router else ("Clients and guards", "router")
        sections[name] = Section(
            key=prefix + name.replace("_", "-"),
            title=first.title,
            nav=NAV.get(name, first.title),
            figures=[chart_data(f) for f in figures],
            spec=spec_of(first),
            legend=list(first.legend or (scene.routers if first.by_router else scene.conditions)),
            legend_of=first.legend_of or settings[0],
            tabs_of=first.tabs_of or settings[1],
        )
    return sections


def chart_data(figure: "Figure") -> dict[str, Any]:
    """A figure as the template shows it: words, data by column with the table's headings. Its spec is shared, see `Section`."""
    from reports.page_frame import columns, script_json

    fit = {"columns": figure.fit.columns, "min_px": figure.fit.min_px, "side_px": figure.fit.side_px}
    datasets = {name: columns(frame) for name, frame in figure.data.items()}
    return {
        "key": figure.key,
        "title": figure.title,
        "tab": figure.tab,
        "caption": figure.caption,
        "rows": figure.data["rows"].height,
        "json": script_json({"datasets": datasets, "fit": fit, "columns": figure.columns}),
    }


def spec_of(figure: "Figure") -> "Markup":
    """The specification without data and configuration, which the page holds apart."""
    from reports.page_frame import script_json

    spec = figure.chart.to_dict()
    return script_json({k: v for k, v in spec.items() if k not in ("config", "$schema", "datasets")})
