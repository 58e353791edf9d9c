"""Judges every cell of a results database and writes table `verdicts`. It does not know how a verdict is reached."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.bands import Bands, Slack, bands
from reports.course import COLUMNS, Course
from reports.database import insert_rows
from reports.protocol import TARGET_SUCCESS
from reports.scene import LOAD_TRIGGERS
from reports.statistics import wilson
from reports.verdict import END_S, TRIM_S, Stretches, Verdict, false_alarm, holds_slo, judge, roots_met, success_share

if TYPE_CHECKING:
    import duckdb

_TABLE = """CREATE TABLE verdicts (
    cell_id VARCHAR, arm_id VARCHAR, router VARCHAR, policy VARCHAR, reference BOOLEAN, gateway VARCHAR, arm VARCHAR,
    guard VARCHAR, client VARCHAR, driver VARCHAR, pool_engine VARCHAR, engine VARCHAR, pool VARCHAR, workload VARCHAR,
    load_rps DOUBLE, trigger_kind VARCHAR, trigger_words VARCHAR, k DOUBLE, d_s DOUBLE, seed BIGINT, repeat BIGINT,
    verdict VARCHAR, recovery_s DOUBLE, censored_s DOUBLE, cause VARCHAR, clock_start_s DOUBLE, steady_met BIGINT,
    steady_decided BIGINT, steady_success DOUBLE, end_success DOUBLE, lost_goodput DOUBLE, retry_amplification DOUBLE,
    false_alarm BOOLEAN)"""
_IDENTITY = (
    "cell_id, arm_id, router, policy, reference, gateway, arm, guard, client, driver, pool_engine, engine, pool, workload,"
    " load_rps, trigger_kind, trigger_words, k, d_s, seed, repeat"
)
OPEN_S = 20  # as TRIM_S, where the trigger takes from the pool what is open
QUEUE_SLACK = 0.05  # of the TTFT limit

HINDERING = ("kill", "pause", "slow", "refuse")
"""Events that take capacity away while they last."""


@dataclass(frozen=True)
class Judged:
    """A cell on its way to a verdict: `identity` in the table's order, `void` the certificate's reason."""

    identity: tuple[Any, ...]
    calm_arm: str
    seed: int
    load_rps: float
    placebo: bool
    eventful: bool
    """Events besides the trigger happen to its pool: what follows is not calm, whatever the trigger."""
    whole_s: float
    """When the last of these events is over: before that the pool is not what it was in calm seconds."""
    changing: bool
    """Its base load is bent on purpose (modulated, or one arrival after another)."""
    void: str | None
    steady: Course
    trigger: Course
    after: Course
    drain: Course

    @property
    def stable(self) -> bool:
        met, decided = roots_met(self.steady)
        return self.void is None and decided > 0 and holds_slo(met, decided)


def write_verdicts(con: "duckdb.DuckDBPyConnection") -> None:
    """Creates `verdicts`, a row a cell: NULL verdict where a cell has no steady phase or nothing after it.

    lost_goodput = calm success · demand − succeeded, in requests, and retry_amplification = attempts / roots, both over the
    cohorts from the trigger's start to the last phase's end; demand is the roots due, after the trigger at least the planned
    load, less the undecided ones. Turns never sent because their session quit came due at no time: they weigh as the load that
    then falls short of the plan. false_alarm: the detector on the steady phase, knowing other seeds only.
    """
    con.execute(_TABLE)
    arms: dict[str, list[Judged]] = defaultdict(list)
    for cell in _cells(con):
        arms[cell.calm_arm].append(cell)
    slack = _slack(con)
    rows = sorted(row for cells in arms.values() for row in _arm_rows(cells, slack))
    insert_rows(con, "verdicts", rows)


def _arm_rows(cells: Sequence[Judged], slack: Slack) -> list[tuple[Any, ...]]:
    stable = [cell for cell in cells if cell.stable]
    rows = []
    for cell in cells:
        verdict, alarm, lost = Verdict(None), None, None
        others = [other for other in stable if other.seed != cell.seed]
        if cell.void is not None:
            verdict = Verdict("void", cause=cell.void)
        elif cell.changing:
            verdict = Verdict(None, cause="the base load changes over the run: recovery is judged at a constant load only")
        elif not cell.stable and len(cell.steady):
            verdict = _unstable(cell)
        elif cell.stable:
            calm = _calm([*others, cell], slack, without_after=cell)
            alarm = false_alarm(cell.steady, _calm(others, slack)) if others else None
            if len(cell.after):
                verdict = judge(Stretches(cell.steady, cell.after, cell.drain, cell.whole_s), calm)
                lost = _lost_goodput(cell, calm)
        rows.append((*cell.identity, *_verdict_columns(verdict), *_measured(cell, lost), alarm))
    return rows


def _calm(cells: Sequence[Judged], slack: Slack, without_after: Judged | None = None) -> Bands:
    """Bands of the steady stretches, and of what follows them in undisturbed placebo cells of other seeds than the judged one."""
    steady = [cell.steady for cell in cells]
    calm = [cell.after for cell in cells if cell.placebo and not cell.eventful and cell is not without_after]
    return bands([*steady, *calm], slack)


def _unstable(cell: Judged) -> Verdict:
    met, decided = roots_met(cell.steady)
    if not decided:
        return Verdict(None)
    found = f"success {met / decided:.3f} before the trigger (at most {wilson(met, decided).high:.3f} with 95% confidence)"
    return Verdict("unstable", cause=f"{found}, {TARGET_SUCCESS} needed")


def _verdict_columns(verdict: Verdict) -> tuple[Any, ...]:
    return verdict.verdict, verdict.recovery_s, verdict.censored_s, verdict.cause, verdict.clock_start_s


def _measured(cell: Judged, lost: float | None) -> tuple[Any, ...]:
    """steady_met, steady_decided, steady_success, end_success, lost_goodput, retry_amplification."""
    end = cell.after.cut(cell.after.start_s + max(0, len(cell.after) - END_S), cell.after.start_s + len(cell.after))
    roots = cell.trigger.scheduled.sum() + cell.after.scheduled.sum()
    attempts = cell.trigger.cohort_attempts.sum() + cell.after.cohort_attempts.sum()
    steady, amplification = success_share(cell.steady), float(attempts / roots) if roots else None
    return *roots_met(cell.steady), steady, success_share(end), lost, amplification


def _lost_goodput(cell: Judged, calm: Bands) -> float:
    """Requests; sessions that are stuck ask for less than planned, which is a loss and not a lower demand."""
    roots = max(float(cell.after.scheduled.sum()), cell.load_rps * len(cell.after))
    demand = float(cell.trigger.decided.sum()) + roots - float(cell.after.undecided.sum())
    return calm.success.mean * demand - float(cell.trigger.succeeded.sum() + cell.after.succeeded.sum())


def _slack(con: "duckdb.DuckDBPyConnection") -> Slack:
    found = con.execute("SELECT ttft_s FROM slo").fetchone()
    limit_s = found[0] if found else None
    return Slack(queue_age_s=max(Slack().queue_age_s, QUEUE_SLACK * limit_s)) if limit_s else Slack()


def _cells(con: "duckdb.DuckDBPyConnection") -> list[Judged]:
    """Every cell with its stretches, in order."""
    bounds: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for cell_id, phase, start_s, end_s in con.execute(
        "SELECT cell_id, phase, start_s, end_s FROM phases ORDER BY cell_id, start_s, end_s"
    ).fetchall():
        bounds[cell_id].append((phase, start_s, end_s))
    courses = _courses(con)
    facts = con.execute(
        f"SELECT {_IDENTITY}, calm_arm, spec, reason FROM cell_facts JOIN (SELECT cell_id, reason FROM certificates)"
        " USING (cell_id) ORDER BY cell_id"
    ).fetchall()
    return [_judged(row, courses[row[0]], bounds[row[0]]) for row in facts]


def _judged(row: tuple[Any, ...], course: Course, bounds: list[tuple[str, float, float]]) -> Judged:
    *identity, calm_arm, spec, reason = row
    plan = json.loads(spec).get("plan", {})
    facts = dict(zip(_IDENTITY.split(", "), identity, strict=True))
    ends = {phase: (start_s, end_s) for phase, start_s, end_s in bounds}
    horizon_s = ends["drain"][0]
    steady = ends.get("steady", (0.0, 0.0))
    trigger = ends.get("trigger", (steady[1], steady[1]))
    struck = facts["trigger_kind"] not in (
        "placebo",
        *LOAD_TRIGGERS,
    )  # the pool loses what is open: it must not count as a normal day's failure
    trim_s = min(OPEN_S if struck else TRIM_S, (steady[1] - steady[0]) // (2 if struck else 4))
    return Judged(
        identity=tuple(identity),
        calm_arm=calm_arm,
        seed=facts["seed"],
        load_rps=facts["load_rps"],
        placebo=facts["trigger_kind"] == "placebo",
        eventful=bool(plan.get("events")),
        whole_s=max((e["at_s"] + e["for_s"] for e in plan.get("events") or () if e["kind"] in HINDERING), default=0.0),
        changing=any(key in json.dumps(plan.get("arrival", {})) for key in ('"modulate"', '"concatenate"')),
        void=reason,
        steady=course.cut(steady[0], steady[1] - trim_s),
        trigger=course.cut(*trigger),
        after=course.cut(trigger[1], horizon_s) if "steady" in ends else course.cut(horizon_s, horizon_s),
        drain=course.cut(horizon_s, len(course)),
    )


def _courses(con: "duckdb.DuckDBPyConnection") -> dict[str, Course]:
    """The seconds of every cell, from second 0 without a gap."""
    columns = con.execute(f"SELECT cell_id, {', '.join(COLUMNS)} FROM seconds ORDER BY cell_id, t_s").fetchnumpy()
    cell_ids = np.asarray(columns["cell_id"], dtype=str)
    values = {name: np.ma.filled(np.ma.asarray(columns[name]).astype(np.float64), np.nan) for name in COLUMNS}
    starts = np.flatnonzero(np.r_[True, cell_ids[1:] != cell_ids[:-1]])
    ends = np.r_[starts[1:], len(cell_ids)]
    return {str(cell_ids[a]): Course(0, *(values[name][a:b] for name in COLUMNS)) for a, b in zip(starts, ends, strict=True)}
