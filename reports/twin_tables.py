"""Simulated beside measured, as the page shows it: one sentence and a table. It computes no statistic but a median of errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from reports.html_tables import Cell, Column, Row, Table, amount, words
from reports.scene import Scene
from reports.sentences import counted, listed, number
from reports.twins import METRICS, Compared, Verdicts

TOLD = ("ttft_p50_s", "tpot_p50_s", "e2e_p50_s", "goodput_rps", "prefix_hit")


@dataclass(frozen=True, slots=True)
class TwinPart:
    sentence: str
    table: Table
    verdicts: Table | None


def twin_part(scene: Scene, rows: Sequence[Compared], verdicts: Sequence[Verdicts]) -> TwinPart | None:
    """None where nothing that was measured was simulated too."""
    if not rows:
        return None
    return TwinPart(twin_sentence(rows, verdicts), _table(scene, rows), _verdict_table(scene, verdicts))


def twin_sentence(rows: Sequence[Compared], verdicts: Sequence[Verdicts]) -> str:
    """How far off the simulation was, over all arms, beside what repeats of one measured run differ by."""
    told = []
    for metric in TOLD:
        errors = [r.error for r in rows if r.metric == metric and r.error is not None]
        if errors:
            size = f"{number(median(abs(e) for e in errors), 'share')} (from {percent(min(errors))} to {percent(max(errors))})"
            name = METRICS[metric][0].removesuffix(", req/s").replace("Goodput", "goodput").replace("Prefix", "prefix")
            told.append(f"{percent(errors[0]) if len(errors) == 1 else size} in {name}")
    arms = len({(r.router, r.condition) for r in rows})
    head, over = "The simulation of the same requests was off by", f" over {counted(arms, 'arm')}" if arms > 1 else ""
    middle = "a median of " if arms > 1 else ""
    off = f"{head} {middle}{listed(told, most=9)}{over}" if told else f"{head} an unknown amount: too much failed"
    noise = [r.noise for r in rows if r.metric == "ttft_p50_s" and r.noise is not None]
    floor = f"; repeats of one measured run differ by {number(median(noise), 'share')} in TTFT p50" if noise else ""
    pairs, alike = sum(v.pairs for v in verdicts), sum(v.alike for v in verdicts)
    ends = f"; the verdict was the same in {alike} of {counted(pairs, 'pair')}" if pairs else ""
    return f"{off}{floor}{ends}."


def percent(error: float) -> str:
    """`+12%`, `−3.4%`: below ten with a decimal."""
    size = abs(error) * 100
    return f"{'−' if error < 0 else '+'}{size:.1f}%" if size < 9.95 else f"{'−' if error < 0 else '+'}{size:,.0f}%"


def _table(scene: Scene, rows: Sequence[Compared]) -> Table:
    several = len(scene.conditions) > 1
    columns = [Column("Router", text=True), *([Column("Client and guard", text=True)] if several else []), Column("", text=True)]
    columns += [
        Column("Measured", hint="mean over seeds; lowest–highest run beneath"),
        Column("Simulated"),
        Column("Error", hint="simulated ÷ measured − 1"),
        Column("Repeats differ by", hint="median difference between measured runs of the same arm and seed, over their mean"),
    ]
    order = list(METRICS)
    place = {r.key: i for i, r in enumerate(scene.routers)}
    made = []
    shown = [r for r in rows if r.metric != "recovery_s" or r.measured is not None or r.simulated is not None]
    for r in sorted(shown, key=lambda r: (r.condition, place[r.router], order.index(r.metric))):
        router, (label, unit) = scene.router(r.router), METRICS[r.metric]
        cells = [Cell(router.label, router.label, series=router)]
        cells += [words(scene.condition(r.condition).label)] if several else []
        cells += [Cell(label, str(order.index(r.metric)), css="text"), _measured(r, unit), _value(r.simulated, r.metric, unit)]
        cells += [Cell("–", "") if r.error is None else Cell(percent(r.error), repr(abs(r.error)))]
        made.append(Row([*cells, amount(r.noise, "share")], router.reference))
    caption = (
        "The same requests measured and simulated, arm by arm: steady phase; prefix hits over whole runs by the engines’ own "
        "counters; recovery time where every run came back."
    )
    return Table("twin-table", caption, columns, made)


def _measured(r: Compared, unit: str) -> Cell:
    shown = _value(r.measured, r.metric, unit)
    if r.measured is None or r.low is None or r.high is None or r.low == r.high:
        return shown
    return Cell(shown.text, shown.sort, between=f"{number(r.low, unit)}–{number(r.high, unit)}")


def _value(value: float | None, metric: str, unit: str) -> Cell:
    if value is None:
        return Cell("not in every run" if metric == "recovery_s" else "no answer", repr(1e300))
    return Cell(number(value, unit), repr(value))


def _verdict_table(scene: Scene, verdicts: Sequence[Verdicts]) -> Table | None:
    several = len(scene.conditions) > 1
    columns = [Column("Router", text=True), *([Column("Client and guard", text=True)] if several else [])]
    columns += [Column("Measured runs", text=True), Column("Simulated runs", text=True), Column("Alike")]
    rows = []
    for v in verdicts:
        router = scene.router(v.router)
        cells = [Cell(router.label, router.label, series=router)]
        cells += [words(scene.condition(v.condition).label)] if several else []
        cells += [words(_counted(v.measured)), words(_counted(v.simulated))]
        rows.append(Row([*cells, Cell(f"{v.alike} of {v.pairs}", repr(v.alike / v.pairs))], router.reference))
    return Table("twin-verdict-table", "How the same runs ended.", columns, rows) if rows else None


def _counted(verdicts: dict[str, int]) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items(), key=lambda item: -item[1]))
