"""Verdicts on made-up courses whose truth is known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from reports.bands import bands, in_bands
from reports.course import WINDOW_S, Course, signals
from reports.tables import build_tables
from reports.verdict import HOLD_S, Stretches, Verdict, deadlocked, false_alarm, judge, load_back, recovery
from tests.reports.run_folder import Arm, make_run_folder
from tests.reports.series import END_S, HORIZON_S, KINDS, stretches
from tests.reports.small_cell import ok, small_run, timeout

STABLE_KINDS = [kind for kind in KINDS if kind != "unstable"]


def verdicts(kind: str, load_rps: float, groups: int = 4, k: float = 3.0) -> list[Verdict]:
    """Verdicts on `groups` arms of five seeds each, every arm with its own bands."""
    found = []
    for first in range(0, 5 * groups, 5):
        cells = [stretches(kind, seed, load_rps, k) for seed in range(first, first + 5)]
        calm = bands([cell.steady for cell in cells])
        found += [judge(cell, calm) for cell in cells]
    return found


@pytest.mark.parametrize("kind", STABLE_KINDS)
@pytest.mark.parametrize("load_rps", [12.0, 28.0])
def test_the_truth_is_found(kind: str, load_rps: float) -> None:
    truth, recovery_s, _ = KINDS[kind]
    found = verdicts(kind, load_rps)
    assert sum(v.verdict == truth for v in found) >= 19, [v.verdict for v in found]
    if recovery_s is not None:
        assert sum(v.recovery_s == recovery_s for v in found) >= 17, [v.recovery_s for v in found]
        assert all(v.recovery_s is not None and v.recovery_s >= recovery_s for v in found)  # noise delays, never hastens
    else:
        assert {v.censored_s for v in found} == {float(HORIZON_S - END_S)}
        assert all(v.recovery_s is None for v in found)


def test_a_low_load_needs_fewer_roots_and_still_tells() -> None:
    """4 roots a second bring 120 in 30 s: 300 could never be asked for."""
    assert [v.verdict for v in verdicts("recovered", 4.0)].count("recovered") == 20
    assert [v.verdict for v in verdicts("dead", 4.0)].count("metastable") == 20


def test_less_than_recovery_needs_is_no_verdict() -> None:
    """Nobody can come back within 29 s, so nobody stays down either."""
    cell = stretches("dead", 1, 12.0, 3.0)
    short = replace(cell, after=cell.after.cut(cell.after.start_s, cell.after.start_s + HOLD_S - 1))
    found = judge(short, bands([cell.steady]))
    assert (found.verdict, found.cause) == (None, "29 s were observed after the trigger; recovery takes 30 s to be seen")
    long = replace(cell, after=cell.after.cut(cell.after.start_s, cell.after.start_s + HOLD_S))
    assert judge(long, bands([cell.steady])).verdict is not None


def test_a_noisy_placebo_is_not_a_failure() -> None:
    """P1: nothing happens in 100 cells."""
    found = verdicts("healthy", 12.0, groups=20, k=1.0)
    assert [v.verdict for v in found].count("recovered") == 100
    assert sum(v.recovery_s == 0 for v in found) >= 90


def test_false_alarms_are_counted_with_the_bands_of_other_seeds() -> None:
    cells = [stretches("healthy", seed) for seed in range(40)]
    calm = bands([cell.steady for cell in cells[:5]])
    alarms = [false_alarm(cell.steady, calm) for cell in cells[5:]]
    assert alarms.count(True) <= 3
    assert false_alarm(stretches("dead", 1).after, calm) is True
    assert false_alarm(cells[9].steady.cut(10, 25), calm) is None  # 15 s: too short to tell


def test_answers_that_the_end_cut_off_are_no_relapse() -> None:
    """A quarter of the last 40 s was still streaming when the run ended: long answers, not trouble."""
    calm = bands([stretches("healthy", seed).steady for seed in range(5)])
    cell = stretches("recovered", 1)
    cut_off = np.where(np.arange(len(cell.after)) >= 50, np.ceil(cell.after.succeeded / 4), 0.0)
    fewer = replace(cell.after, succeeded=cell.after.succeeded - cut_off)
    assert judge(replace(cell, after=fewer), calm).verdict == "metastable"
    assert judge(replace(cell, after=replace(fewer, undecided=cut_off)), calm).verdict == "recovered"


def test_a_run_that_was_back_and_fell_again_says_so() -> None:
    calm = bands([stretches("healthy", seed).steady for seed in range(5)])
    assert "from 0 s on, then down again" in str(judge(stretches("relapsing", 1), calm).cause)
    assert judge(stretches("dead", 1), calm).cause is None


def test_a_second_answer_to_nobodys_question() -> None:
    """A queue that shrinks is slow while it would clear within another observed time, metastable when it would not."""
    calm = bands([stretches("healthy", seed).steady for seed in range(5)])
    cell = stretches("slow", 1)
    assert judge(cell, calm).verdict == "slow"
    waiting = np.linspace(900, 600, len(cell.after))  # 3.4 a second: 600 take 177 s, 90 s were observed
    assert judge(replace(cell, after=replace(cell.after, waiting=waiting)), calm).verdict == "metastable"


def test_the_clock_starts_when_the_load_is_back() -> None:
    calm = bands([stretches("healthy", seed).steady for seed in range(5)])
    cell = stretches("healthy", 1)
    more = cell.after.scheduled.copy()
    more[:20] *= 4  # turns that the trigger delayed
    found = judge(replace(cell, after=replace(cell.after, scheduled=more, succeeded=more)), calm)
    assert found.clock_start_s is not None
    assert END_S + 10 <= found.clock_start_s <= END_S + 20
    assert found.recovery_s == 0.0
    always = replace(cell.after, scheduled=4 * cell.after.scheduled)
    assert load_back(always, calm) is None
    never = judge(replace(cell, after=always), calm)
    assert (never.verdict, never.cause) == ("slow", "the load did not come back to base")


def test_less_load_than_base_is_no_excuse() -> None:
    """Sessions that are stuck ask for less."""
    calm = bands([stretches("dead", seed).steady for seed in range(5)])
    cell = stretches("dead", 1)
    fewer = replace(cell.after, scheduled=cell.after.scheduled // 2, succeeded=cell.after.succeeded // 2)
    assert judge(replace(cell, after=fewer), calm).verdict == "metastable"


def test_recovery_needs_thirty_seconds_and_enough_roots() -> None:
    calm = bands([stretches("healthy", seed).steady for seed in range(5)])
    after = stretches("healthy", 2).after
    start = after.start_s
    assert recovery(after.cut(start, start + HOLD_S - 1), calm, HOLD_S) is None
    assert recovery(after, calm, HOLD_S) == 0
    assert recovery(replace(after, scheduled=after.scheduled / 10), calm, HOLD_S) is None  # 90 s bring 108 roots


@pytest.mark.parametrize(
    ("change", "stuck"),
    [
        ({}, True),
        ({"engine_ended": np.eye(1, 20, 19)[0]}, False),  # one leaves in the last second
        ({"kv_used": np.linspace(0.5, 0.6, 20)}, False),  # one long answer is being decoded
        ({"in_flight": np.r_[np.full(19, 3.0), 0.0]}, False),  # all gone
        ({"in_flight": np.r_[np.full(15, 3.0), np.full(5, np.nan)]}, False),  # the sampling ended: nothing was left to do
    ],
)
def test_deadlock_is_work_that_nobody_does(change: dict[str, Any], stuck: bool) -> None:
    assert deadlocked(replace(stretches("deadlock", 1).drain, **change)) is stuck


def test_a_short_drain_cannot_show_a_deadlock() -> None:
    drain = stretches("deadlock", 1).drain
    assert not deadlocked(drain.cut(drain.start_s, drain.start_s + 9))


def course(**columns: list[float]) -> Course:
    n = len(next(iter(columns.values())))
    blank = {name: np.zeros(n) for name in Course.__dataclass_fields__ if name != "start_s"}
    return Course(start_s=0, **{**blank, **{name: np.array(v, dtype=np.float64) for name, v in columns.items()}})


def test_a_signal_looks_ahead() -> None:
    """A bad second spoils the seconds before it, none after: the first good second is seen as good."""
    seen = signals(course(scheduled=[10.0] * 10, succeeded=[10.0] * 4 + [0.0] + [10.0] * 5))
    assert list(seen.success[:5]) == [0.8] * 5
    assert list(seen.success[5:]) == [1.0] * 5
    assert WINDOW_S == 5


def test_nothing_seen_is_no_news() -> None:
    seen = course(scheduled=[0.0] * 8, queue_age_s=[np.nan] * 8)
    assert np.isnan(signals(seen).success).all()
    calm = bands([stretches("healthy", 1).steady])
    assert in_bands(seen, calm).all()


def test_bands_need_a_calm_second() -> None:
    with pytest.raises(ValueError, match="no calm second"):
        bands([course(scheduled=[])])


def test_stretches_hold_what_they_say() -> None:
    cell = stretches("healthy", 1)
    assert isinstance(cell, Stretches)
    assert (cell.after.start_s, len(cell.after), len(cell.drain)) == (END_S, HORIZON_S - END_S, 20)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """The verdicts of one arm a kind (router = kind), through rows, Parquet and SQL."""
    run: Path = tmp_path_factory.mktemp("kinds")
    arms = [Arm(kind, "some client", kind) for kind in KINDS]
    database = build_tables(make_run_folder(run, arms, seeds=(1, 2, 3)))
    with duckdb.connect(str(database), read_only=True) as con:
        rows = con.execute(
            "SELECT router, verdict, recovery_s, censored_s, retry_amplification FROM verdicts ORDER BY ALL"
        ).fetchall()
    return {kind: [row[1:] for row in rows if row[0] == kind] for kind in KINDS}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deadlock"])  # made-up rows always leave their engine
def test_the_truth_is_found_from_parquet(judged: dict[str, list[tuple[Any, ...]]], kind: str) -> None:
    truth, recovery_s, _ = KINDS[kind]
    found = judged[kind]
    assert [row[0] for row in found].count(truth) >= 2, found
    assert len(found) == 3
    if recovery_s is not None:
        assert recovery_s in [row[1] for row in found]
    for verdict, recovered_s, censored_s, _ in found:
        assert (recovered_s is not None) == (verdict in ("recovered", "latent"))
        assert (censored_s is not None) == (verdict in ("slow", "metastable", "deadlock"))


def test_a_collapse_amplifies(judged: dict[str, list[tuple[Any, ...]]]) -> None:
    assert min(row[3] for row in judged["dead"]) > 2
    assert max(row[3] for row in judged["healthy"]) < 1.1


def test_stuck_sessions_that_ask_for_less_are_a_loss(tmp_path: Path) -> None:
    """0.7 rps were planned for the 6 s after the trigger and nothing came due: 4.2 requests lost, and the refused one."""
    steady = [ok(i, 1, 0.5 + i, ttft_s=0.1, e2e_s=0.2) for i in range(7)]
    refused = timeout(7, 1, 12.0, 12.0, outcome="refused", status=429)
    counts = {"planned": 10, "scheduled": 8, "ok": 7, "failed": 1, "abandoned": 0, "censored": 0, "not_due": 2}
    database = build_tables(small_run(tmp_path, [*steady, refused], counts=counts))
    with duckdb.connect(str(database), read_only=True) as con:
        lost = con.execute("SELECT lost_goodput FROM verdicts").fetchone()
    assert lost == (pytest.approx(0.7 * 6 + 1),)


def test_few_requests_and_bad_luck_do_not_make_a_run_unstable(tmp_path: Path) -> None:
    """One of seven late: 86%, but by chance up to 97%. Two of seven: 71%, at most 92%."""
    for late in (1, 2):
        steady = [ok(i, 1, 0.5 + i, ttft_s=5.0 if i < late else 0.1, e2e_s=5.1, output=1) for i in range(7)]
        refused = timeout(7, 1, 12.0, 12.0, outcome="refused", status=429)
        counts = {"planned": 10, "scheduled": 8, "ok": 7, "failed": 1, "abandoned": 0, "censored": 0, "not_due": 2}
        database = build_tables(small_run(tmp_path / str(late), [*steady, refused], counts=counts))
        with duckdb.connect(str(database), read_only=True) as con:
            found = con.execute("SELECT verdict, steady_met, steady_decided, cause FROM verdicts").fetchone()
        assert found is not None
        assert found[1:3] == (7 - late, 7)
        assert (found[0] == "unstable") == (late == 2), found


def test_cells_that_differ_in_the_trigger_alone_share_their_bands(tmp_path: Path) -> None:
    arms = [Arm("random", "some client", "recovered"), Arm("random", "some client", "healthy", trigger="placebo")]
    arms += [Arm("random", "other client", "healthy")]
    database = build_tables(make_run_folder(tmp_path, arms, seeds=(1, 2)))
    with duckdb.connect(str(database), read_only=True) as con:
        found = con.execute("SELECT count(DISTINCT calm_arm) FROM cell_facts GROUP BY client ORDER BY client").fetchall()
        plans = con.execute("SELECT DISTINCT spec->>'$.plan.trigger.kind' FROM cell_facts ORDER BY 1").fetchall()
    assert plans == [("placebo",), ("spike",)]  # the cells do carry their plan
    assert found == [(1,), (1,)]


def test_placebo_cells_widen_the_bands_and_are_judged_by_other_seeds(tmp_path: Path) -> None:
    arms = [Arm("random", "some client", "recovered"), Arm("random", "some client", "healthy", trigger="placebo")]
    database = build_tables(make_run_folder(tmp_path, arms, seeds=(1, 2, 3)))
    with duckdb.connect(str(database), read_only=True) as con:
        rows = con.execute("SELECT trigger_kind, verdict, false_alarm FROM verdicts").fetchall()
        lost = con.execute(
            "SELECT max(abs(lost_goodput)) FILTER (trigger_kind = 'placebo'), min(lost_goodput) FILTER (k = 3) FROM verdicts"
        ).fetchone()
    assert len(rows) == 6
    assert {(kind, verdict) for kind, verdict, _ in rows} == {("spike", "recovered"), ("placebo", "recovered")}
    assert all(alarm is False for *_, alarm in rows)
    assert lost is not None
    assert lost[0] < 120 < 300 < lost[1]  # demand itself scatters by ±33 around the planned 1,080


def with_plan(run: Path, **more: Any) -> list[tuple[Any, ...]]:
    """(verdict, cause) of every cell of a run whose cells' plans say more."""
    for file in run.glob("cells/*/cell.json"):
        facts = json.loads(file.read_text())
        facts["spec"]["plan"] |= more
        file.write_text(json.dumps(facts))
    with duckdb.connect(str(build_tables(run)), read_only=True) as con:
        return con.execute("SELECT verdict, cause FROM verdicts").fetchall()


def test_what_follows_a_disturbed_placebo_is_not_calm(tmp_path: Path) -> None:
    """Pools that die of an event at the same second in every seed must not vouch for each other."""
    arms = [Arm("random", "some client", "dead", trigger="placebo")]
    calm = with_plan(make_run_folder(tmp_path / "a", arms, seeds=(1, 2, 3)))
    assert {verdict for verdict, _ in calm} == {"recovered"}, "as if the dead stretch were what a calm day looks like"
    events = [{"at_s": 60.0, "kind": "kill", "for_s": 5.0}]
    judged = with_plan(make_run_folder(tmp_path / "b", arms, seeds=(1, 2, 3)), events=events)
    assert {verdict for verdict, _ in judged} == {"metastable"}


def test_a_base_load_that_changes_on_purpose_is_not_judged(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path, [Arm("random", "some client", "recovered")], seeds=(1, 2))
    arrival = {"process": "poisson", "modulate": [{"shape": "staircase", "factors": [1, 2], "step_s": 10}]}
    rows = with_plan(run, arrival=arrival)
    assert [verdict for verdict, _ in rows] == [None, None]
    assert all("recovery is judged at a constant load only" in cause for _, cause in rows)
