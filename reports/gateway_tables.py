"""The gateways' own cost as the page shows it: a sentence, a table, and what they do to requests. It computes no statistic."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reports.gateway_costs import DIRECT, GatewayCost, added_of
from reports.html_tables import Cell, Column, Row, Table, amount, interval, words
from reports.leaderboard import Interval
from reports.noise import Noise
from reports.scene import Scene
from reports.sentences import listed, runs_told, seconds

_KINDS = {"direct": "nothing", "pass-through": "our router as a pass-through", "our router": "our router"}


@dataclass(frozen=True, slots=True)
class CostPart:
    sentence: str
    table: Table
    rewriting: Table | None


def cost_part(scene: Scene, costs: Sequence[GatewayCost], noise: Noise | None = None) -> CostPart | None:
    """None where nothing stood in front of the pool, or nobody measured what did. `noise`: of TTFT p50 between repeats."""
    if not scene.pool.live or not any(c.kind != "direct" for c in costs):
        return None
    return CostPart(_sentence(scene, costs, noise), _table(scene, costs), _rewriting(scene, costs))


def _sentence(scene: Scene, costs: Sequence[GatewayCost], noise: Noise | None) -> str:
    first = [c for c in costs if c.condition == scene.conditions[0].key]
    if not any(c.kind == "direct" for c in first):
        return "No direct arm was run, so what these add to TTFT is not known."
    told = []
    for cost in first:
        p50 = added_of(cost, "ttft_p50_s").mean
        if cost.kind != "direct" and p50 is not None:
            told.append(f"{scene.router(cost.router).label} {signed(p50)}")
    if not told:
        return "Too much failed to say what these add to TTFT."
    note = "Where the rule is not round robin, that includes what its choice of replica saves or costs."
    floor = f" Repeats of one arm differ by {seconds(noise.size)}: no more than that is no cost." if noise else ""
    return f"Against the direct arm, the median TTFT of the steady phase changes by: {listed(told, most=12)}.{floor} {note}"


def signed(value: float) -> str:
    """Seconds with their sign: `+1.2 ms`, `−300 ms`."""
    return f"{'−' if value < 0 else '+'}{seconds(abs(value))}"


def _added(got: Interval) -> Cell:
    if got.mean is None:
        return interval(None if not got.censored else got, "time")
    span = f"{signed(got.low)} … {signed(got.high)}" if got.low is not None and got.high is not None else ""
    return Cell(signed(got.mean), repr(got.mean), between=span)


def _cpu(cost: GatewayCost) -> Cell:
    if cost.cpu_s is None or cost.cpu_s_per_request is None:
        return Cell("–", "")
    each = cost.cpu_s_per_request
    return Cell(seconds(each), repr(each), between=f"{seconds(cost.cpu_s)} a run")


def _table(scene: Scene, costs: Sequence[GatewayCost]) -> Table:
    several = len(scene.conditions) > 1
    columns = [Column("Router", text=True), *([Column("Client and guard", text=True)] if several else [])]
    columns += [Column("In front", text=True), Column("Version", text=True), Column("Policy at work", text=True)]
    columns += [Column("Added TTFT p50"), Column("Added TTFT p99")]
    columns += [
        Column("CPU a request", hint="processor time of its process over the attempts sent; beneath it a whole run’s"),
        Column("Memory, MB", hint="resident, the most in any run"),
        Column("Bodies", text=True, hint="what it does to requests on their way"),
    ]
    rows = []
    for cost in costs:
        router = scene.router(cost.router)
        cells = [Cell(router.label, router.label, series=router)]
        cells += [words(scene.condition(cost.condition).label)] if several else []
        arm = f", {cost.arm}" if cost.arm and cost.gateway != DIRECT else ""
        cells += [words(_KINDS.get(cost.kind, f"{cost.gateway}{arm}")), words(cost.version or "–"), words(_policy(cost))]
        cells += [Cell("–", "") if cost.kind == "direct" else _added(added_of(cost, m)) for m in ("ttft_p50_s", "ttft_p99_s")]
        cells += [_cpu(cost)]
        cells += [amount(None if cost.memory_bytes is None else cost.memory_bytes / 1e6, "count"), words(_bodies(cost))]
        rows.append(Row(cells))
    beneath = ", mean over seeds, 95% interval beneath" if len(scene.seeds) > 1 else ""
    caption = (
        f"What stands in front of the replicas. Steady phase, {runs_told(scene)} an arm; added TTFT: the difference to the "
        f"direct arm on the same requests{beneath}."
    )
    return Table("gateway-table", caption, columns, rows)


def _policy(cost: GatewayCost) -> str:
    """The rule that was really at work, and what was asked for where that is another."""
    if cost.kind == "direct":
        return "the senders take turns"
    return cost.at_work if cost.at_work == cost.policy else f"{cost.at_work} (asked: {cost.policy})"


def _bodies(cost: GatewayCost) -> str:
    if cost.kind == "direct":
        return "–"
    if cost.rewriting is None:
        return "not looked at"
    counts = Counter(change.change for change in cost.rewriting)
    return ", ".join(f"{n} {change}" for change, n in counts.items()) or "untouched"


def _rewriting(scene: Scene, costs: Sequence[GatewayCost]) -> Table | None:
    """A row a change; the same gateway's arms say it once."""
    columns = [
        Column(name, text=True) for name in ("Gateway", "Change", "Where", "Field", "Sent", "Received", "Kinds of request")
    ]
    seen: dict[tuple[str, ...], Row] = {}
    for cost in costs:
        for c in cost.rewriting or ():
            name = cost.version or cost.gateway or scene.router(cost.router).label
            key = (name, c.change, c.where, c.field or "(whole)", c.sent, c.received, ", ".join(c.forms))
            seen[key] = Row([words(text, css="why" if i > 3 else "text") for i, text in enumerate(key)])
    return (
        Table("rewriting-table", "What the gateways do to requests on their way.", columns, list(seen.values())) if seen else None
    )
