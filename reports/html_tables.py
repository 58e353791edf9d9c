"""Tables as the page shows them: text, interval beneath, a sort key a cell. It computes no statistic."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from reports.arms import JUDGED, LATENCIES
from reports.leaderboard import Interval, NormalDay, Stampede
from reports.scene import Router, Scene
from reports.sentences import after_trigger, between, listed, number, runs_told, seconds

ENDINGS = {
    "recovered": "good",
    "latent": "warn",
    "slow": "warn",
    "metastable": "bad",
    "deadlock": "bad",
    "unstable": "plain",
    "void": "plain",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read, what it sorts by ('' = always last), an interval beneath, a tag's colour, a router's swatch."""

    text: str
    sort: str
    between: str = ""
    css: str = ""
    tag: str = ""
    series: Router | None = None


@dataclass(frozen=True, slots=True)
class Column:
    label: str
    text: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    label: str
    span: int


@dataclass(frozen=True, slots=True)
class Row:
    cells: list[Cell]
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    key: str
    caption: str
    columns: list[Column]
    rows: list[Row]
    groups: list[Group] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tab: str = ""


def words(text: str, css: str = "text") -> Cell:
    return Cell(text, text, css=css)


def amount(value: float | None, unit: str = "", css: str = "", limit: float | None = None) -> Cell:
    """A plain number (`unit` as in `number`); None is a dash that sorts last."""
    if value is None:
        return Cell("–" if limit is None else f"> {seconds(limit)}", "", css=css)
    return Cell(number(value, unit), repr(value), css=css)


def interval(got: Interval | None, unit: str, limit: float | None = None, css: str = "") -> Cell:
    """A mean with its interval beneath; a censored one as `> limit`, sorted after every number."""
    if got is None or (got.mean is None and not got.censored):
        return Cell("–", "", css=css)
    if got.mean is None:
        return Cell(f"> {seconds(limit)}" if limit is not None else "no answer", repr(1e300), css=css)
    return Cell(number(got.mean, unit), repr(got.mean), between=between(got, unit), css=css)


def normal_table(scene: Scene, rows: Sequence[NormalDay], condition: str) -> Table:
    """The normal day under one condition: a row a router, best first, ties sharing a rank."""
    rows = sorted((r for r in rows if r.condition == condition), key=lambda r: (r.rank is None, r.rank or inf, r.ttft_p90.order))
    columns = [Column("Router", text=True), Column("Rank", hint="by TTFT p90; = means: cannot be told from the best")]
    columns += [Column(p) for _, p in LATENCIES]
    columns += [
        Column("req/s"),
        Column("SLO met", hint="of all requests of the phase, those still open when the trigger hits included"),
        Column("cache hit", hint="prompt tokens found in the prefix cache"),
    ]
    columns.append(Column("max ÷ mean", hint="the busiest replica's tokens over the mean"))
    shared = [r.rank for r in rows]
    ranked = [
        Row(
            _normal_cells(scene, row, tied=row.rank is not None and shared.count(row.rank) > 1),
            scene.router(row.router).reference,
        )
        for row in rows
    ]
    groups = [Group("", 2), Group("TTFT", 3), Group("TPOT", 3), Group("E2E", 3), Group("Goodput", 2), Group("Replicas", 2)]
    load, runs = scene.condition(condition), runs_told(scene)
    return Table(
        key=f"normal-{condition}-table",
        caption=f"Steady phase before the trigger at {load.load_rps:.3g} req/s. Mean over {runs}, 95% interval beneath.",
        columns=columns,
        rows=ranked,
        groups=groups,
        notes=_normal_notes(scene),
        tab=load.label,
    )


def _normal_cells(scene: Scene, row: NormalDay, tied: bool) -> list[Cell]:
    router = scene.router(row.router)
    unranked = "void" if row.void else "reference" if router.reference else "misses SLO"
    rank = f"{row.rank}{'=' if tied else ''}" if row.rank is not None else unranked
    cells = [Cell(router.label, router.label, series=router)]
    cells.append(Cell(rank, repr(row.rank) if row.rank is not None else "", css="best" if row.rank == 1 else ""))
    for i, (name, p) in enumerate(LATENCIES):
        limit_s = row.limit_s if name == "ttft" else None  # patience for a first token bounds no other time
        cells.append(interval(row.metrics.get(f"{name}_{p}_s"), "time", limit_s, css="first" if i % 3 == 0 else ""))
    cells.append(interval(row.metrics.get("goodput_rps"), "", css="first"))
    cells.append(interval(row.metrics.get("success"), "share"))
    cells.append(interval(row.metrics.get("cache_hit"), "share", css="first"))
    cells.append(interval(row.metrics.get("imbalance"), "ratio"))
    return cells


def _normal_notes(scene: Scene) -> list[str]:
    limits = [f"{name.removesuffix('_s').upper()} ≤ {seconds(v)}" for name, v in scene.slo.items() if v is not None]
    slo = f"SLO: {', '.join(limits)}. " if limits else ""
    ties = (
        "1= marks routers that cannot be told from the best (paired t test over seeds, Holm-corrected, 5%)."
        if len(scene.seeds) > 1
        else ""
    )
    if scene.repeats > 1:
        close = "1= marks routers that differ from the best by no more than repeats of one router do (95%)"
        ties = f"{close}, or that a paired t test over seeds cannot tell from it." if ties else f"{close}."
    told = [r.label for r in scene.references]
    reference = (
        f" {listed(told)} {'knows' if len(told) == 1 else 'know'} every answer’s true length: a reference, not a competitor."
        if told
        else ""
    )
    return [text] if (text := (slo + ties + reference).strip()) else []


def stampede_table(scene: Scene, rows: Sequence[Stampede]) -> Table:
    """After the trigger: a row a router and condition."""
    several = len(scene.conditions) > 1
    columns = [Column("Router", text=True)] + ([Column("Client and guard", text=True)] if several else [])
    columns += [
        Column("Verdict", text=True, hint="the commonest verdict of the judged runs"),
        Column("Came back", hint="runs that recovered, of those judged; Wilson 95% interval"),
        Column("Recovery time", hint=f"from {_clock(scene)}; Kaplan–Meier median"),
        Column("Attempts per request", hint="from the trigger on; 1 = no retries"),
        Column("Lost goodput, requests", hint="answers within the SLO that the steady phase would have given"),
    ]
    abandoned = any(r.abandoned for r in rows)
    if abandoned:
        columns.append(Column("Abandoned turns, a run", hint="never sent, because their conversation gave up after a failure"))
    order = {c.key: i for i, c in enumerate(scene.conditions)}
    place = {r.key: i for i, r in enumerate(scene.routers)}
    rows = sorted(rows, key=lambda r: (order[r.condition], scene.router(r.router).reference, -_share(r), place[r.router]))
    made = [Row(_stampede_cells(scene, row, several, abandoned), scene.router(row.router).reference) for row in rows]
    what = "With no burst sent (placebo)" if scene.trigger.placebo else after_trigger(scene).removesuffix(",")
    return Table(
        key="stampede-table",
        caption=f"{what}, {runs_told(scene)} an arm. Choose a column’s head to sort.",
        columns=columns,
        rows=made,
    )


def _clock(scene: Scene) -> str:
    return "the return of the load to its base" if scene.trigger.adds_load else "the trigger’s end"


def _share(row: Stampede) -> float:
    return row.back / row.judged if row.judged else -1.0


def _stampede_cells(scene: Scene, row: Stampede, several: bool, abandoned: bool) -> list[Cell]:
    router = scene.router(row.router)
    cells = [Cell(router.label, router.label, series=router)]
    if several:
        label = scene.condition(row.condition).label
        cells.append(Cell(label, label, css="text"))
    share = f"{row.share_low * 100:.0f}–{row.share_high:.0%}" if row.judged else ""
    back = Cell(f"{row.back} of {row.judged}" if row.judged else "not judged", repr(_share(row)), between=share)
    cells += [ending(row), back, _recovery(row), interval(row.amplification, "ratio"), interval(row.lost, "count")]
    return [*cells, amount(row.abandoned)] if abandoned else cells


def ending(row: Stampede) -> Cell:
    """The verdicts of an arm's runs: one word where they agree, else counts, the commonest first."""
    counts = sorted(row.verdicts.items(), key=lambda item: (item[0] not in JUDGED, -item[1]))
    if not counts:
        return Cell("–", "", css="text")
    tag = ENDINGS.get(counts[0][0], "plain")
    text = counts[0][0] if len(counts) == 1 else ", ".join(f"{n} {verdict}" for verdict, n in counts)
    return Cell(text, text, tag=tag if len(counts) == 1 else "warn", css="text")


def _recovery(row: Stampede) -> Cell:
    if not row.judged:
        return Cell("–", "")
    if row.recovery_s is None:
        return Cell(f"> {seconds(row.observed_s)}" if row.observed_s is not None else "not observed", repr(1e300))
    return Cell(seconds(row.recovery_s), repr(row.recovery_s))
