"""Calm runs, verdicts and the list of all cells as the page shows them. It judges nothing."""

from collections import Counter
from typing import Any

from reports.html_tables import ENDINGS, Cell, Column, Row, Table
from reports.probe.asks import PHASES, Answer
from reports.probe.page_tables import ARM, arm_cells
from reports.probe.scene import ProbeScene
from reports.probe.trigger_words import words

PHASE_WORDS = {
    "capacity": "capacity search (P0)",
    "placebo": "calm runs (P1)",
    "pulse": "triggers of every kind (P2)",
    "frontier": "frontier (P3)",
    "staircase": "hysteresis staircase (P4)",
    "escape": "escape from the stuck state (P5)",
    "attribution": "attribution (P6)",
    "cure": "search for the cheapest cure",
}
CELL_COLUMNS = {
    "no": "no.", "phase": "phase", "router": "router", "guard": "guard set", "variant": "change", "load": "load, req/s",
    "trigger": "trigger", "seed": "seed", "verdict": "verdict", "recovery_s": "back after, s",
    "censored_s": "watched, still down, s", "success": "steady success", "amplification": "attempts a root after",
    "waste": "work waste after", "left": "left in drain", "cell": "cell", "evidence": "evidence file",
}  # fmt: skip


def placebo_table(scene: ProbeScene, mapped: bool) -> Table | None:
    """An arm a row, a load a column: steady success over calm runs, false alarms beneath; of `mapped` guard sets or others."""
    calm = [a for a in scene.asked("placebo") if not a.ask.variant and scene.guard(a.ask.guard).mapped == mapped]
    if not calm:
        return None
    loads = sorted({a.ask.load_rps for a in calm})
    arms = sorted({(a.ask.router, a.ask.guard) for a in calm}, key=scene.arm_order)
    rows = []
    for arm in arms:
        found = [[a for a in calm if (a.ask.router, a.ask.guard) == arm and a.ask.load_rps == rps] for rps in loads]
        rows.append(Row([*arm_cells(scene, arm), *(_calm(runs) for runs in found)]))
    heads = [Column(f"{scene.fraction(rps):.0%}", hint=f"{rps:.3g} req/s") for rps in loads]
    caption = "Calm runs: mean share of requests within the SLO by load; beneath, false alarms of the runs that were judged."
    return Table("placebo-table" if mapped else "placebo-cures-table", caption, [*ARM, *heads], rows)


def _calm(runs: list[Answer]) -> Cell:
    shares = [a.success for a in runs if a.success is not None]
    if not shares:
        return Cell("–", "")
    mean = sum(shares) / len(shares)
    judged = [a.false_alarm for a in runs if a.false_alarm is not None]
    return Cell(f"{mean:.1%}", repr(mean), between=f"{sum(judged)} of {len(judged)}" if judged else "not judged")


def verdict_table(scene: ProbeScene) -> Table:
    """A phase a row, a verdict a column: how many runs ended how."""
    kinds = [v for v in (*ENDINGS, "calm") if any(a.verdict == v for a in scene.cells)]
    kinds += sorted({a.verdict for a in scene.cells} - set(kinds))
    rows = []
    for phase in PHASES:
        runs = scene.asked(phase)
        if runs:
            counts = Counter(a.verdict for a in runs)
            first, last = scene.number[runs[0].cell_id], scene.number[runs[-1].cell_id]
            cells = [Cell(f"{counts[k]:,}" if counts[k] else "–", repr(counts[k])) for k in kinds]
            rows.append(Row([Cell(PHASE_WORDS[phase], f"{first:06d}"), Cell(f"{first}–{last}", f"{first:06d}", css="text"),
                             Cell(f"{len(runs):,}", repr(len(runs))), *cells]))  # fmt: skip
    columns = [Column("Phase", text=True), Column("Cells", text=True), Column("Runs"), *(Column(k) for k in kinds)]
    return Table("verdict-table", "How all runs ended, by phase of the probe.", columns, rows)


def not_run(scene: ProbeScene) -> list[str]:
    """One line for each phase that left nothing to show."""
    return [f"No cell of this run belongs to: {PHASE_WORDS[phase]}." for phase in PHASES if not scene.asked(phase)]


def cell_list(scene: ProbeScene) -> dict[str, list[Any]]:
    """Every cell by column, in the order of its number; headings are `CELL_COLUMNS`."""
    rows = [
        (
            str(scene.number[a.cell_id]), a.ask.phase, a.ask.router, a.ask.guard, a.ask.variant or None, a.ask.load_rps,
            _asked(a), str(a.ask.seed), a.verdict, a.recovery_s, a.censored_s, a.success, a.amplification, a.waste,
            a.left_in_drain, a.cell_id, a.evidence,
        )
        for a in scene.cells
    ]  # fmt: skip
    return {name: [_short(row[i]) for row in rows] for i, name in enumerate(CELL_COLUMNS)}


def _asked(answer: Answer) -> str:
    if answer.ask.pieces:
        return " → ".join(f"{factor:g}× {for_s:g} s" for factor, for_s in answer.ask.pieces)
    return f"{words(answer.ask.trigger)}{', cold' if answer.ask.cold else ''}"


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
