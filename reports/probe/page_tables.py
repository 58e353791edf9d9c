"""A probe's findings as tables of the page: the map in numbers, causes, cures, loops, capacities. It computes no statistic."""

from collections.abc import Sequence

from reports.html_tables import Cell, Column, Group, Row, Table, words
from reports.probe.findings import Arm, Cure, FrontierPoint, Hysteresis, PulseRow
from reports.probe.scene import ProbeScene, evidence, size, survived
from reports.probe.sentences import signed
from reports.probe.trigger_words import words as trigger_words
from reports.sentences import counted

ARM = [Column("Router", text=True), Column("Guard set", text=True)]
EVIDENCE = Column("Cells", text=True, hint="their numbers in the list of all cells")


def arm_cells(scene: ProbeScene, arm: Arm) -> list[Cell]:
    router = scene.router(arm[0])
    return [Cell(router.label, f"{int(router.key[1:]):03d}", series=router), words(arm[1])]


def proof(scene: ProbeScene, cells: Sequence[str]) -> Cell:
    text = evidence(scene, cells)
    return Cell(text, text.split("–")[0].split(",")[0], css="why text")


def share_cell(back: int, runs: int, low: float | None = None, high: float | None = None) -> Cell:
    """`9 of 10` as a tag: good where all came back, bad where at most half did."""
    if not runs:
        return Cell("–", "")
    tag = "good" if back == runs else "bad" if 2 * back <= runs else "warn"
    span = f"{low:.0%}–{high:.0%}" if low is not None and high is not None else ""
    return Cell(f"{back} of {runs}", repr(back / runs), between=span, tag=tag)


def number_cell(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    if value is None:
        return Cell("–", "")
    span = f"{low:.3g}–{high:.3g}" if low is not None and high is not None else ""
    return Cell(f"{value:.3g}", repr(value), between=span)


def cost_cell(value: float | None, low: float | None, high: float | None) -> Cell:
    if value is None:
        return Cell("–", "")
    return Cell(
        signed(value), repr(value), between=f"{signed(low)} to {signed(high)}" if low is not None and high is not None else ""
    )


def size_cell(scene: ProbeScene, k: float | None, low: float | None, high: float | None) -> Cell:
    """A survived size that is not a frontier point's; a dash where it was not measured."""
    if k is not None:
        return Cell(size(k), repr(k), between=_span(scene, low, high))
    return Cell(f"> {size(scene.sizes[1])}", repr(1e6)) if low is not None and scene.findings.frontier else Cell("–", "")


def frontier_table(scene: ProbeScene) -> Table | None:
    """An arm a row, a load (and length) a column: the survived size with its interval."""
    points = {(p.arm, p.length_s, p.fraction): p for p in scene.findings.frontier}
    if not points:
        return None
    columns = [(length, f) for length in scene.lengths_s for f in scene.fractions]
    arms = sorted({p.arm for p in points.values()}, key=scene.arm_order)
    rows = [Row([*arm_cells(scene, arm), *(_point(scene, points.get((arm, *c))) for c in columns)]) for arm in arms]
    groups = [Group("", 2), *(Group(f"bursts of {length:g} s", len(scene.fractions)) for length in scene.lengths_s)]
    return Table(
        key="frontier-table",
        caption="The largest burst survived with probability 0.9, by load (of C_ref), with its 90% credible interval.",
        columns=[*ARM, *(Column(f"{f:.0%}") for _, f in columns)],
        rows=rows,
        groups=groups if len(scene.lengths_s) > 1 else [],
    )


def _point(scene: ProbeScene, point: FrontierPoint | None) -> Cell:
    if point is None:
        return Cell("–", "")
    text = survived(point, scene.sizes)
    if not point.stable:
        return Cell(text, "-1", tag="plain")
    order = point.k if point.k is not None else 1e6 if text.startswith(">") else 0.0
    known = point.k is not None or point.low is not None or point.high is not None
    between = _span(scene, point.low, point.high) if known else ""
    return Cell(text, repr(order), between=between)


def _span(scene: ProbeScene, low: float | None, high: float | None) -> str:
    least, most = scene.sizes
    first = f"{'' if low is not None else '< '}{size(low or least)}".removesuffix("×")
    return f"{first}–{size(high)}" if high is not None else f"{first} to > {size(most)}"


def tries_table(scene: ProbeScene) -> Table:
    """The evidence of each point of the map: which sizes were tried, how often, and in which cells."""
    rows = []
    for p in sorted(scene.findings.frontier, key=lambda p: (scene.arm_order(p.arm), p.length_s, p.fraction)):
        tried: dict[float, list[bool]] = {}
        for k, back in p.tries:
            tried.setdefault(k, []).append(back)
        said = "; ".join(f"{size(k)} {sum(b)}/{len(b)}" for k, b in sorted(tried.items()))
        lean = f" (and the tries at {p.leans_on:.0%})" if p.leans_on is not None else ""
        cells = [Cell(f"{p.fraction:.0%}", repr(p.fraction)), Cell(f"{p.length_s:g} s", repr(p.length_s)), _point(scene, p)]
        rows.append(Row([*arm_cells(scene, p.arm), *cells, Cell(said + lean, said, css="why text"), proof(scene, p.cells)]))
    columns = [*ARM, Column("Load"), Column("Burst"), Column("Survives"), Column("Came back, by size", text=True), EVIDENCE]
    return Table("tries-table", "Each point of the map and the runs behind it.", columns, rows)


def cure_table(scene: ProbeScene, cures: Sequence[Cure], key: str, caption: str) -> Table:
    """A guard set tried for a router a row: survival, survived size, cost on a normal day."""
    rows = []
    for c in cures:
        verdict = "recommended" if c.recommended else "reaches it" if c.reaches else "unstable" if not c.stable else "set aside"
        tag = {"recommended": "good", "unstable": "bad"}.get(verdict, "plain")
        rows.append(
            Row(
                [
                    *arm_cells(scene, (c.router, c.guard)),
                    Cell(verdict, verdict, css="text", tag=tag),
                    share_cell(c.recovered, c.runs, c.low, c.high),
                    size_cell(scene, c.up_to_k, c.up_to_low, c.up_to_high),
                    cost_cell(c.goodput_cost_rps, c.goodput_cost_low, c.goodput_cost_high),
                    cost_cell(c.ttft_p99_cost_s, c.ttft_p99_cost_low, c.ttft_p99_cost_high),
                    proof(scene, c.cells),
                ]
            )
        )
    columns = [*ARM, Column("Outcome", text=True), Column("Came back", hint="runs at the wanted burst; Wilson 95% beneath"),
               Column("Survives up to", hint="measured for the recommended set alone"),
               Column("Goodput lost, req/s", hint="on calm runs, against no guards, paired by seed; 95% beneath"),
               Column("TTFT p99 gained, s", hint="on calm runs, against no guards, paired by seed; 95% beneath"),
               EVIDENCE]  # fmt: skip
    return Table(key, caption, columns, rows)


def cause_table(scene: ProbeScene) -> Table | None:
    """An arm that stays down a row: why, by what restored it."""
    causes = sorted(scene.findings.causes, key=lambda c: (scene.arm_order(c.arm), c.fraction))
    rows = [
        Row(
            [
                *arm_cells(scene, c.arm),
                Cell(f"{c.fraction:.0%}", repr(c.fraction)),
                Cell(f"{size(c.k)}, {c.length_s:g} s", repr(c.k)),
                Cell(f"{c.down} of {c.runs}", repr(c.down / c.runs if c.runs else 0.0)),
                Cell(c.words, c.words, css="text", tag="bad" if c.restored_by else ""),
                Cell("; ".join(c.restored_by) or "–", "; ".join(c.restored_by), css="why text"),
                proof(scene, c.cells),
            ]
        )
        for c in causes
    ]
    columns = [*ARM, Column("Load"), Column("Burst"), Column("Stays down", hint="runs of the arm as it is"),
               Column("Cause", text=True), Column("Restored by, each alone", text=True), EVIDENCE]  # fmt: skip
    return Table("cause-table", "What brings each arm back when it alone is changed.", columns, rows) if rows else None


def loop_table(scene: ProbeScene) -> Table:
    """Every loop taken away, one a row."""
    rows = []
    for a in sorted(scene.findings.attributions, key=lambda a: (scene.arm_order(a.arm), a.fraction)):
        outcome = "restores" if a.restores else "unstable" if not a.stable else "does not"
        rows.append(
            Row(
                [
                    *arm_cells(scene, a.arm),
                    Cell(f"{a.fraction:.0%}", repr(a.fraction)),
                    words(trigger_words(a.trigger)),
                    words(a.words),
                    words(a.cause),
                    share_cell(a.recovered_without, a.runs_without),
                    share_cell(a.recovered_with, a.runs_with),
                    Cell(f"{a.p:.2g}", repr(a.p)),
                    Cell(outcome, outcome, css="text", tag="good" if a.restores else "plain"),
                    size_cell(scene, a.up_to_k, a.up_to_low, a.up_to_high),
                    proof(scene, a.cells),
                ]
            )
        )
    columns = [*ARM, Column("Load"), Column("Trigger", text=True), Column("Change", text=True), Column("Speaks for", text=True),
               Column("As it is"), Column("Changed"), Column("p", hint="Fisher’s exact, one-sided, Holm over the arm’s loops"),
               Column("Restores", text=True), Column("Survives up to"), EVIDENCE]  # fmt: skip
    return Table("loop-table", "Each loop taken away alone: runs that came back without and with the change.", columns, rows)


def pulse_table(scene: ProbeScene, pulses: Sequence[PulseRow]) -> Table | None:
    """An arm a row, a trigger (at its load) a column: runs that came back."""
    if not pulses:
        return None
    by = {(p.arm, p.fraction, p.trigger): p for p in pulses}
    loads = sorted({p.fraction for p in pulses}, key=lambda f: (-sum(p.fraction == f for p in pulses), f))
    columns = [(f, t) for f in loads for t in dict.fromkeys(p.trigger for p in pulses if p.fraction == f)]
    arms = sorted({p.arm for p in pulses}, key=scene.arm_order)
    rows = []
    for arm in arms:
        found = [by.get((arm, *c)) for c in columns]
        rows.append(Row([*arm_cells(scene, arm), *(share_cell(p.recovered, p.runs) if p else Cell("–", "") for p in found)]))
    groups = [Group("", 2), *(Group(f"at {f:.0%} load", sum(c[0] == f for c in columns)) for f in loads)]
    most = max(p.runs for p in pulses)
    return Table(
        key="pulse-table",
        caption=f"Runs that came back after each kind of trigger ({counted(most, 'run')} each); a dash: not tried, since the arm "
        "does not carry that load.",
        columns=[*ARM, *(Column(trigger_words(t), text=False) for _, t in columns)],
        rows=rows,
        groups=groups,
    )


def pulse_proof(scene: ProbeScene) -> Table:
    """The evidence of each trigger: verdicts, lost goodput and cells."""
    rows = []
    for p in sorted(scene.findings.pulses, key=lambda p: (scene.arm_order(p.arm), p.fraction)):
        ends = ", ".join(f"{n} {verdict}" for verdict, n in p.verdicts)
        lost = Cell("–", "") if p.lost_goodput is None else Cell(f"{p.lost_goodput:,.0f}", repr(p.lost_goodput))
        rows.append(Row([*arm_cells(scene, p.arm), Cell(f"{p.fraction:.0%}", repr(p.fraction)), words(trigger_words(p.trigger)),
                         share_cell(p.recovered, p.runs, p.low, p.high), words(ends), lost, proof(scene, p.cells)]))  # fmt: skip
    columns = [*ARM, Column("Load"), Column("Trigger", text=True), Column("Came back", hint="Wilson 95% beneath"),
               Column("Verdicts", text=True), Column("Lost goodput", hint="requests that a calm run would have served, mean"),
               EVIDENCE]  # fmt: skip
    return Table("pulse-proof-table", "Each trigger at each arm and load, with its runs.", columns, rows)


def hysteresis_table(scene: ProbeScene) -> Table | None:
    """A router a row, a guard set a column: the area of the loop."""
    by = {h.arm: h for h in scene.findings.hysteresis}
    guards = [g for g in scene.guards if any(arm[1] == g.label for arm in by)]
    rows = [Row([arm_cells(scene, (r.label, ""))[0], *(_area(by.get((r.label, g.label))) for g in guards)])
            for r in scene.routers if any(arm[0] == r.label for arm in by)]  # fmt: skip
    caption = "Area of the loop: of the requests served on the way up, the share lost on the way down; 95% beneath."
    return Table("hysteresis-table", caption, [ARM[0], *(Column(g.label) for g in guards)], rows) if rows else None


def _area(loop: Hysteresis | None) -> Cell:
    if loop is None or loop.area is None:
        return Cell("–", "")
    low, high = loop.area_low, loop.area_high
    span = f"{low:.0%} to {high:.0%}" if low is not None and high is not None else counted(loop.seeds, "seed")
    return Cell(f"{loop.area:.0%}".replace("-", "−"), repr(loop.area), between=span.replace("-", "−"))


def loop_proof(scene: ProbeScene) -> Table:
    """The evidence of each loop."""
    loops = sorted(scene.findings.hysteresis, key=lambda h: scene.arm_order(h.arm))
    rows = [Row([*arm_cells(scene, h.arm), _area(h), Cell(str(h.seeds), repr(h.seeds)), proof(scene, h.cells)]) for h in loops]
    return Table("loop-proof-table", "Each staircase with its runs.", [*ARM, Column("Area"), Column("Seeds"), EVIDENCE], rows)


def capacity_table(scene: ProbeScene) -> Table | None:
    """An arm a row: what it carries, and from which load its stuck state heals."""
    own = {c.arm: c for c in scene.findings.capacities}
    escapes = {e.arm: e for e in scene.findings.escapes}
    rows = []
    for arm in sorted({*own, *escapes}, key=scene.arm_order):
        c, e = own.get(arm), escapes.get(arm)
        stuck = Cell("–", "") if e is None else Cell(f"{e.load_rps:.3g}", repr(e.load_rps), between=(
            f"after {size(e.k)}, {e.length_s:g} s" if e.k is not None and e.length_s is not None else ""))  # fmt: skip
        cells = [
            number_cell(c.warm_rps, c.warm_low_rps, c.warm_high_rps) if c else Cell("–", ""),
            number_cell(c.cold_rps if c else None),
        ]
        cells += [stuck, number_cell(e.heals_at_rps if e else None), number_cell(e.stays_at_rps if e else None)]
        named = (*(c.cells if c else ()), *(e.cells if e else ()))
        rows.append(Row([*arm_cells(scene, arm), *cells, proof(scene, named)]))
    columns = [*ARM, Column("Carries warm", hint="largest load with 95% within the SLO; its bracket beneath"),
               Column("Carries cold"), Column("Stuck at"), Column("Heals when shed to"), Column("Still stuck at"),
               EVIDENCE]  # fmt: skip
    shed = next((f" for {e.shed_s:g} s" for e in scene.findings.escapes), "")
    caption = f"All in req/s. Shed: from the stuck state the load goes down{shed} and then back."
    return Table("capacity-table", caption, columns, rows) if rows else None
