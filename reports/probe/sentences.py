"""What the map says, as a manager reads it: who stays down, who survives, why, what to do, and how sure. It computes nothing."""

import re

from reports.probe.findings import Arm, Cause, Cure, FrontierPoint
from reports.probe.scene import ProbeScene, beyond, evidence, size
from reports.sentences import counted, listed

UNIT = re.compile(r"(\d) (?=(?:s|req/s|runs)\b)")  # a number stays with its unit
LEVEL = "90%"  # of the credible interval of a survived size, see reports.frontier


def verdict(scene: ProbeScene) -> list[str]:
    """Up to three sentences: the map's, the cause's, and how sure they are."""
    return [UNIT.sub("\\1\u00a0", s) for s in (headline(scene), why(scene), how_sure(scene)) if s]


def headline(scene: ProbeScene) -> str:
    """The arm without guards that survives least, and the arm that survives most, at the load asked for and the longest burst."""
    points = main_points(scene)
    if not points:
        return "The frontier was not asked for in this run, so it says nothing of how large a burst is survived."
    first = points[0]
    load = f"At {first.fraction:.0%} load ({first.load_rps:.3g} req/s)"
    found = extremes(scene)
    if found is None:
        return f"{load} no router with any guard set carries the load even without a burst."
    worst, best = found
    if _rank(scene, worst) == _rank(scene, best):
        if beyond(worst):
            largest = f"{first.length_s:g} s up to {size(scene.sizes[1])}"
            return f"{load} every arm that was tried comes back from every burst of {largest}."
        return f"{load} {arm_words(scene, worst.arm)} {survives(scene, worst)}, and no other arm survives more."
    said = f"{load}, {arm_words(scene, worst.arm)} {fails(scene, worst)}; {arm_words(scene, best.arm)} {survives(scene, best)}"
    same = [p for p in points if p.stable and p.arm != best.arm and _rank(scene, p) == _rank(scene, best)]
    return f"{said}{f', and so do {len(same)} other arms' if len(same) > 1 else ', and so does one other arm' if same else ''}."


def extremes(scene: ProbeScene) -> tuple[FrontierPoint, FrontierPoint] | None:
    """(the arm without guards that survives least, the arm that survives most) of those that carry the headline's load."""
    stable = [p for p in main_points(scene) if p.stable]
    if not stable:
        return None
    bare = [p for p in stable if p.arm[1] == scene.guards[0].label]
    worst = min(bare or stable, key=lambda p: (_rank(scene, p), scene.arm_order(p.arm)))
    return worst, max(stable, key=lambda p: (_rank(scene, p), tuple(-i for i in scene.arm_order(p.arm))))


def rests_on(scene: ProbeScene) -> str:
    """The cells behind the first two sentences of the verdict, by their numbers."""
    found, cause = extremes(scene), named_cause(scene)
    parts = [f"the first sentence on cells {evidence(scene, (*found[0].cells, *found[1].cells))}"] if found else []
    parts += [f"the cause on cells {evidence(scene, cause.cells)}"] if cause else []
    return f"Evidence: {listed(parts)}; the last section lists them all." if parts else ""


def main_points(scene: ProbeScene) -> list[FrontierPoint]:
    """The frontier at the headline's load and the longest burst, in the study's order."""
    if scene.main_fraction is None:
        return []
    longest = scene.lengths_s[-1]
    found = [p for p in scene.findings.frontier if p.fraction == scene.main_fraction and p.length_s == longest]
    return sorted(found, key=lambda p: scene.arm_order(p.arm))


def fails(scene: ProbeScene, point: FrontierPoint) -> str:
    """`stays down after a 2.6× burst of 20 s in 9 of 10 runs`, from runs that were counted; else what size it survives."""
    if point.deadly_k is None:
        return survives(scene, point)
    burst = f"a {size(point.deadly_k)} burst of {point.length_s:g} s"
    if point.deadly_larger:
        burst = f"bursts of {size(point.deadly_k)} or more for {point.length_s:g} s"
    down, runs = point.deadly_down, point.deadly_runs
    return f"stays down after {burst} in {f'all {runs}' if down == runs else f'{down} of {runs}'} runs"


def survives(scene: ProbeScene, point: FrontierPoint) -> str:
    """`survives 5× (90% interval 4.4–5.9×)`; beyond what was tried, `survives every burst tried, up to 8×`."""
    if not point.stable:
        return "does not carry this load even without a burst"
    if point.k is None:
        if beyond(point):
            span = f" ({LEVEL} interval from {size(point.low)})" if point.low is not None else ""
            return f"survives bursts of more than {size(scene.sizes[1])}, the largest tried{span}"
        return f"does not survive even a burst of {size(scene.sizes[0])}, the smallest tried"
    least, most = scene.sizes
    low = size(point.low) if point.low is not None else f"below {size(least)}"
    high = size(point.high) if point.high is not None else f"above {size(most)}"
    both = point.low is not None and point.high is not None
    span = f"{low.removesuffix('×')}–{high}" if both else f"{low} to {high}"
    return f"survives {size(point.k)} ({LEVEL} interval {span})"


def why(scene: ProbeScene) -> str:
    """The cause of the arm that the headline calls worst, or else of the first arm that has one, named by what restored it."""
    cause = named_cause(scene)
    if cause is None:
        return ""
    who = arm_words(scene, cause.arm)
    if not cause.restored_by:
        return f"Why {who} stays down was {cause.words}."
    restored = best_removals(scene, cause)
    said = f"Why {who} stays down: {cause.words}. {_sentence(restored[0])}"
    others = [r for r in scene.findings.causes if r.restored_by and set(r.causes) & set(cause.causes) and r.arm != cause.arm]
    more = f" The same is found for {counted(len(others), 'other arm')}." if others else ""
    return f"{said}.{more}"


def named_cause(scene: ProbeScene) -> Cause | None:
    """The cause that the verdict names: of the arm without guards that survives least, if one was found for it."""
    causes = sorted(scene.findings.causes, key=lambda c: (not c.restored_by, _cause_rank(scene, c)))
    bare = [p for p in main_points(scene) if p.deadly_k is not None and p.arm[1] == scene.guards[0].label]
    worst = [p.arm for p in sorted(bare, key=lambda p: (_rank(scene, p), scene.arm_order(p.arm)))]
    return next((c for arm in worst for c in causes if c.arm == arm and c.restored_by), causes[0] if causes else None)


def best_removals(scene: ProbeScene, cause: Cause) -> list[str]:
    """A cause's restoring changes in words, that which reaches furthest first: `with X it comes back in 5 of 5 runs …`."""
    rows = [a for a in scene.findings.attributions if a.arm == cause.arm and a.fraction == cause.fraction and a.restores]
    rows.sort(key=lambda a: (a.up_to_k is not None, -(a.up_to_k or 0), a.p))
    found = []
    for a in rows:
        runs = f"all {a.runs_with}" if a.recovered_with == a.runs_with else f"{a.recovered_with} of {a.runs_with}"
        found.append(
            f"{a.words} it comes back in {runs} runs after the same {size(cause.k)} burst instead of "
            f"{a.recovered_without} of {a.runs_without}{up_to(scene, a.up_to_k, a.up_to_low)}"
        )
    return found


def up_to(scene: ProbeScene, k: float | None, low: float | None) -> str:
    """`, and survives up to 4.5×`; nothing where the size was not measured."""
    if k is not None:
        return f", and survives up to {size(k)}"
    return f", and survives more than {size(scene.sizes[1])}" if low is not None and scene.findings.frontier else ""


def recommendation(scene: ProbeScene) -> list[str]:
    """A sentence a guard set that is the cheapest for somebody, with its cost on a normal day; then routers that found none."""
    routers = [r.label for r in scene.routers if any(c.router == r.label for c in scene.findings.cures)]
    chosen = [c for r in routers for c in scene.findings.cures if c.router == r and c.recommended]
    said = [_recommended(scene, [c for c in chosen if c.guard == g]) for g in dict.fromkeys(c.guard for c in chosen)]
    for router in routers:
        if all(c.router != router for c in chosen):
            tried = [c for c in scene.findings.cures if c.router == router]
            best = max(tried, key=lambda c: (c.recovered / c.runs if c.runs else 0.0, c.runs))
            back = f"brought it back in {best.recovered} of {counted(best.runs, 'run')}"
            said.append(f"None of {counted(len(tried), 'guard set')} is enough for {router}; the best, “{best.guard}”, {back}.")
    return said


def _recommended(scene: ProbeScene, cures: list[Cure]) -> str:
    """`“retry budget” is the cheapest for a, b and c: back in 29 of 30 runs; on a normal day it costs …`."""
    who, back, runs = listed([c.router for c in cures], 8), sum(c.recovered for c in cures), sum(c.runs for c in cures)
    times = f"back in {back} of {counted(runs, 'run')}"
    if cures[0].guard == scene.guards[0].label:
        return f"{who} {'needs' if len(cures) == 1 else 'need'} no guard: {times}."
    return f"“{cures[0].guard}” is the cheapest for {who}: {times}; {cost(cures)}."


def cost(cures: list[Cure]) -> str:
    """What a guard set costs on a normal day, over the routers that it is for; only costs whose interval leaves 0 are told."""
    parts = []
    goodput = [(c.goodput_cost_rps, c.goodput_cost_low, c.goodput_cost_high) for c in cures if c.goodput_cost_rps is not None]
    tail = [(c.ttft_p99_cost_s, c.ttft_p99_cost_low, c.ttft_p99_cost_high) for c in cures if c.ttft_p99_cost_s is not None]
    for costs, unit, what in ((goodput, "req/s of goodput", "goodput"), (tail, "s of TTFT p99", "TTFT p99")):
        told = [value for value, low, _ in costs if low is not None and low > 0]
        if told:
            span = signed(told[0]) if len(told) == 1 else f"{signed(min(told))} to {signed(max(told))}"
            parts.append(f"{span} {unit}{f' (for {len(told)} of them)' if len(told) < len(costs) else ''}")
        elif costs:
            parts.append(f"nothing in {what} that can be told from chance")
    if len(parts) == 2 and all(p.startswith("nothing") for p in parts):
        return "on a normal day it costs nothing that can be told from chance"
    return f"on a normal day it costs {listed(parts)}" if parts else "its cost on a normal day was not measured"


def signed(value: float) -> str:
    """Two digits with a true minus; what rounds to nothing is 0."""
    text = f"{value:.2g}"
    return "0" if abs(value) < 0.0005 else text.replace("-", "−")


def how_sure(scene: ProbeScene) -> str:
    """How many runs, whose interval, and how often the detector errs on calm runs."""
    runs = f"How sure: {counted(len(scene.cells), 'run')} in all"
    intervals = f"; survived sizes carry {LEVEL} credible intervals" if scene.findings.frontier else ""
    return f"{runs}{intervals}; {false_alarms(scene)}."


def false_alarms(scene: ProbeScene) -> str:
    f = scene.findings.false_alarms
    if not f.runs:
        return "the detector’s false-alarm rate was not measured"
    return (f"of {counted(f.runs, 'calm run')} without any trigger the detector would have called {f.alarms} disturbed "
            f"({f.alarms / f.runs:.1%}, 95% {f.low:.1%} to {f.high:.1%})")  # fmt: skip


def drained(scene: ProbeScene) -> list[str]:
    """P7: what was left in the engines at the end of the drains."""
    left, runs = sum(a.left_in_drain > 0 for a in scene.cells), counted(len(scene.cells), "run")
    down = [d for d in scene.findings.drains if d.runs]
    if not left:
        held = f", {sum(d.runs for d in down)} that had not come back among them: their load holds them down" if down else ""
        return [f"In all {runs} the engines were empty when the drain ended{held}. No deadlock, no leak."]
    said = [f"In {left} of {runs} work was left in the engines when the drain ended."]
    for d in down:
        stuck = (
            f"{d.deadlocks} of them deadlocks (work that does not move)"
            if d.deadlocks
            else "none of them a deadlock: it was going on"
        )
        which = f" (cells {evidence(scene, d.cells)})" if d.cells and len(d.cells) <= 50 else ""
        said.append(f"Of {counted(d.runs, 'run')} that did not come back, {d.left} still had work then, {stuck}{which}.")
    return said


def arm_words(scene: ProbeScene, arm: Arm) -> str:
    """`round_robin`, `power_of_two with “retry budget”`; without guards nothing is added."""
    return arm[0] if arm[1] == scene.guards[0].label else f"{arm[0]} with “{arm[1]}”"


def _rank(scene: ProbeScene, point: FrontierPoint) -> float:
    """The survived size for comparisons; beyond either end of what was tried, just beyond it."""
    if not point.stable:
        return 0.0
    least, most = scene.sizes
    return point.k if point.k is not None else most * 1.01 if beyond(point) else least * 0.99


def _cause_rank(scene: ProbeScene, cause: Cause) -> tuple[float, tuple[int, int]]:
    return (abs(cause.fraction - (scene.main_fraction or cause.fraction)), scene.arm_order(cause.arm))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
