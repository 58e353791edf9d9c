"""The verdict in words: each test's study is one that a manager could meet."""

from dataclasses import replace

import pytest

from reports.caveats import event_notes, incomplete, slo_bound, warnings
from reports.leaderboard import Interval, NormalDay, Stampede
from reports.scene import Condition, PoolEvent, Router, Scene, Stage, Trigger
from reports.sentences import (
    between,
    listed,
    normal_sentence,
    number,
    seconds,
    stampede_sentence,
    verdict,
)

A, B, C = (Router(f"r{i}", name, "red", []) for i, name in enumerate(("alpha", "beta", "gamma")))
ORACLE = Router("r3", "oracle", "grey", [3, 3], reference=True)
ORPHANED = Condition("c0", "orphaned", "red", [], "orphaned", "none", 28.0, timeout_s=10.0)
BUDGET = Condition("c1", "budget", "blue", [], "budget", "none", 28.0, timeout_s=10.0)
STAGES = (Stage("steady", 0, 60, 28), Stage("trigger", 60, 80, 84), Stage("recovery", 80, 200, 28))
SCENE = Scene("study", (A, B, C, ORACLE), (ORPHANED, BUDGET), STAGES, Trigger("spike", 3, 20), {}, (1, 2, 3, 4, 5), 4)
ONE = Interval(1.0, 1.0, 1.0, 5)


def day(router: Router, ttft_s: float | None, rank: int | None, reach: float | None = 0.02, n: int = 5) -> NormalDay:
    low, high = (None, None) if ttft_s is None or reach is None else (ttft_s - reach, ttft_s + reach)
    return NormalDay(router.key, "c0", {"ttft_p90_s": Interval(ttft_s, low, high, n, censored=ttft_s is None)}, rank, 10.0)


def arm(
    router: Router, condition: Condition, back: int, judged: int = 5, recovery_s: float | None = None, **verdicts: int
) -> Stampede:
    kinds = verdicts or {"recovered": back, "metastable": judged - back}
    kinds = {k: n for k, n in kinds.items() if n}
    return Stampede(router.key, condition.key, sum(kinds.values()), judged, back, kinds, 0, 1, recovery_s, 120.0, ONE, ONE)


DAY = "On a normal day at 28 req/s,"
NORMAL_DAYS = [
    pytest.param(
        [day(A, 0.41, 1), day(B, 0.62, 2), day(C, 1.3, 3)],
        f"{DAY} alpha answers fastest (TTFT p90 410 ms, 95% CI 390–430 ms over 5 runs), gamma slowest (1.3 s).",
        id="a clear winner",
    ),
    pytest.param(
        [day(A, 0.41, 1), day(B, 0.42, 1), day(C, 1.3, 3)],
        f"{DAY} alpha answers fastest (TTFT p90 410 ms, 95% CI 390–430 ms over 5 runs; beta cannot be told from it), "
        "gamma slowest (1.3 s).",
        id="a tie",
    ),
    pytest.param(
        [day(A, 0.41, 1), day(B, 0.42, 1), day(C, 0.43, 1)],
        "On a normal day at 28 req/s, all 3 routers answer equally fast as far as 5 runs can tell "
        "(alpha: TTFT p90 410 ms, 95% CI 390–430 ms over 5 runs).",
        id="all tie",
    ),
    pytest.param(
        [day(A, 0.41, 1), day(B, None, 2), day(C, None, None)],
        f"{DAY} alpha answers fastest (TTFT p90 410 ms, 95% CI 390–430 ms over 5 runs), beta slowest (> 10 s); "
        "gamma does not hold the SLO.",
        id="censored and unable",
    ),
    pytest.param(
        [day(A, 0.41, 1, reach=None, n=1)],
        "On a normal day at 28 req/s, alpha holds the SLO (TTFT p90 410 ms, one run only).",
        id="one router, one seed",
    ),
    pytest.param(
        [day(A, None, None), day(B, None, None)],
        "On a normal day at 28 req/s no router holds the SLO for 95% of the requests: "
        "this load is above what the pool can serve.",
        id="none can",
    ),
    pytest.param([], "On a normal day at 28 req/s nothing was measured.", id="nothing"),
]


@pytest.mark.parametrize(("rows", "words"), NORMAL_DAYS)
def test_normal_day(rows: list[NormalDay], words: str) -> None:
    assert normal_sentence(SCENE, rows) == words


def test_the_oracle_never_wins() -> None:
    rows = [day(A, 0.41, 1), day(B, 0.62, 2), day(ORACLE, 0.1, None)]
    assert "oracle" not in normal_sentence(SCENE, rows)


STAMPEDES = [
    pytest.param(
        [
            arm(A, ORPHANED, 0),
            arm(B, ORPHANED, 3),
            arm(C, ORPHANED, 5),
            arm(A, BUDGET, 5, recovery_s=12),
            arm(B, BUDGET, 5, recovery_s=41),
        ],
        "After a 3× burst of 20 s, with “orphaned”, 2 of 3 routers stay down in 7 of their 10 runs (alpha 5/5 and beta 2/5); "
        "with “budget” the same routers come back in every run, within 41 s (the slowest router’s median).",
        id="a collapse and its cure",
    ),
    pytest.param(
        [arm(A, ORPHANED, 0), arm(B, ORPHANED, 0), arm(A, BUDGET, 4), arm(B, BUDGET, 5)],
        "After a 3× burst of 20 s, with “orphaned”, both routers stay down in every run; "
        "with “budget” the same routers come back in 9 of 10 runs.",
        id="a partial cure",
    ),
    pytest.param(
        [arm(A, ORPHANED, 0), arm(A, BUDGET, 0)],
        "After a 3× burst of 20 s, with “orphaned”, alpha stays down in every run; no other client or guard tried here helps.",
        id="no cure",
    ),
    pytest.param(
        [arm(A, ORPHANED, 5, recovery_s=3.0), arm(B, ORPHANED, 5, recovery_s=9.0)],
        "After a 3× burst of 20 s every router comes back in every run under “orphaned”, "
        "within 9 s (the slowest router’s median).",
        id="no collapse",
    ),
    pytest.param(
        [arm(A, ORPHANED, 5, recovery_s=3.0), arm(A, BUDGET, 5, recovery_s=2.0)],
        "After a 3× burst of 20 s every router comes back in every run under every client and guard, "
        "within 3 s (the slowest router’s median).",
        id="no collapse anywhere",
    ),
    pytest.param(
        [arm(A, ORPHANED, 3, slow=2, recovered=3)],
        "After a 3× burst of 20 s, with “orphaned”, alpha is not back when the observation ends in 2 of 5 runs; "
        "no other setting was judged for them.",
        id="slow is not down",
    ),
    pytest.param(
        [arm(A, ORPHANED, 1, recovered=1, slow=2, metastable=2), arm(B, ORPHANED, 5, recovery_s=3.0)],
        "After a 3× burst of 20 s, with “orphaned”, 1 of 2 routers is not back when the observation ends in 4 of their 5 runs, "
        "2 of these 4 metastable (alpha 4/5); no other setting was judged for them.",
        id="some slow, some down",
    ),
    pytest.param(
        [arm(A, ORPHANED, 0, slow=5), arm(B, ORPHANED, 0, slow=5)],
        "After a 3× burst of 20 s, with “orphaned”, neither router is back in any run when the observation ends; "
        "no other setting was judged for them.",
        id="all slow",
    ),
    pytest.param(
        [arm(A, ORPHANED, 5, recovery_s=3.0), arm(B, ORPHANED, 0, judged=0, unstable=5)],
        "After a 3× burst of 20 s every router that could be judged comes back in every run under “orphaned”, "
        "within 3 s (median); beta could not be judged (every run is unstable).",
        id="one never judged",
    ),
    pytest.param(
        [
            arm(A, ORPHANED, 5, recovery_s=3.0),
            arm(B, ORPHANED, 5, recovery_s=3.0),
            arm(A, BUDGET, 5, recovery_s=3.0),
            arm(B, BUDGET, 0, judged=0, void=5),
        ],
        "After a 3× burst of 20 s every router that could be judged comes back in every run under every client and guard, "
        "within 3 s (the slowest router’s median); beta with “budget” could not be judged (every run is void).",
        id="one never judged under one client",
    ),
    pytest.param(
        [arm(A, ORPHANED, 0), arm(B, ORPHANED, 0), arm(C, ORPHANED, 0, judged=0, unstable=3, void=2)],
        "After a 3× burst of 20 s, with “orphaned”, both judged routers stay down in every run; "
        "no other setting was judged for them; gamma could not be judged (every run is unstable or void).",
        id="the judged ones stay down",
    ),
    pytest.param(
        [arm(A, ORPHANED, 0, judged=0, unstable=5), arm(B, ORPHANED, 0, judged=0, void=5)],
        "After a 3× burst of 20 s nothing can be judged: every run is unstable or void.",
        id="nothing judged",
    ),
]


@pytest.mark.parametrize(("rows", "words"), STAMPEDES)
def test_stampede(rows: list[Stampede], words: str) -> None:
    assert stampede_sentence(SCENE, rows) == words


def test_one_condition_is_not_named() -> None:
    scene = replace(SCENE, conditions=(ORPHANED,))
    assert stampede_sentence(scene, [arm(A, ORPHANED, 0), arm(B, ORPHANED, 5)]) == (
        "After a 3× burst of 20 s, 1 of 2 routers stays down in every run (alpha)."
    )
    assert stampede_sentence(scene, [arm(A, ORPHANED, 5, recovery_s=0.0)]) == (
        "After a 3× burst of 20 s every router comes back in every run, without a noticeable interruption."
    )


def test_a_placebo_tells_the_false_alarms() -> None:
    scene = replace(SCENE, trigger=Trigger("placebo", 1, 20))
    assert stampede_sentence(scene, [arm(A, ORPHANED, 4), arm(B, ORPHANED, 5)]) == (
        "No burst was sent (placebo): 1 of 10 runs are judged disturbed all the same, which is the detector’s false-alarm rate."
    )


LOSS = Trigger("kill", None, 20, "the loss of replica 0 for 20 s, back with a cold cache")


def test_a_trigger_of_the_pool_is_no_burst() -> None:
    scene = replace(SCENE, trigger=LOSS, conditions=(ORPHANED,))
    after = "After the loss of replica 0 for 20 s, back with a cold cache,"
    assert stampede_sentence(scene, [arm(A, ORPHANED, 0), arm(B, ORPHANED, 5)]) == (
        f"{after} 1 of 2 routers stays down in every run (alpha)."
    )
    assert stampede_sentence(scene, [arm(A, ORPHANED, 5, recovery_s=0.0)]) == (
        f"{after} every router comes back in every run, as soon as it is over."
    )
    assert stampede_sentence(scene, [arm(A, ORPHANED, 5, recovery_s=9.0)]) == (
        f"{after} every router comes back in every run, within 9 s of its end (median)."
    )
    assert stampede_sentence(replace(SCENE, trigger=LOSS), [arm(A, ORPHANED, 0), arm(A, BUDGET, 0)]).startswith(
        f"{after} with “orphaned”, alpha stays down in every run;"
    )
    refusing = replace(scene, trigger=Trigger("refuse", None, 20, "replica 1 refusing half"))
    assert stampede_sentence(refusing, [arm(A, ORPHANED, 0, judged=0, void=5)]) == (
        "After replica 1 refusing half, nothing can be judged: every run is void."
    )
    flush = replace(scene, trigger=Trigger("flush", None, 20, "a prefix cache flush of every replica"))
    assert "in every run, before its 20 s are over." in stampede_sentence(flush, [arm(A, ORPHANED, 5, recovery_s=0.0)])


def test_a_placebo_with_events_measures_no_false_alarms() -> None:
    scene = replace(SCENE, trigger=Trigger("placebo", 1, 20), events=(PoolEvent(1, 90.0, "flush", None, 0.0, {}, False),))
    head = "No burst was sent (placebo), but 1 event happened to the pool:"
    assert stampede_sentence(scene, [arm(A, ORPHANED, 4)]) == f"{head} 1 of 5 runs do not come back."
    assert stampede_sentence(scene, [arm(A, ORPHANED, 5)]) == f"{head} every run that could be judged comes back."
    assert stampede_sentence(scene, [arm(A, ORPHANED, 0, judged=0, void=5)]) == f"{head} no run could be judged."


EVENT_NOTES = [  # steady 0–60, trigger 60–80, recovery 80–200: when an event begins, for how long, whether it is the trigger
    pytest.param(10.0, 5.0, False, ["normal day"], id="in the steady phase"),
    pytest.param(30.0, 40.0, False, ["normal day"], id="from the steady phase into the trigger"),
    pytest.param(60.0, 20.0, True, [], id="the trigger itself"),
    pytest.param(60.0, 20.0, False, [], id="just beside the trigger"),
    pytest.param(70.0, 20.0, False, ["Recovery"], id="longer than the trigger"),
    pytest.param(80.0, 0.0, False, ["Recovery"], id="at once when the trigger ends"),
    pytest.param(0.0, 300.0, False, ["normal day", "Recovery"], id="always"),
    pytest.param(210.0, 5.0, False, [], id="in the drain"),
]


@pytest.mark.parametrize(("t_s", "for_s", "is_trigger", "said"), EVENT_NOTES)
def test_events_beside_the_trigger_are_told(t_s: float, for_s: float, is_trigger: bool, said: list[str]) -> None:
    kind = "slow" if for_s else "flush"
    event = PoolEvent(1, t_s, kind, 2, for_s, {"factor": 3.0} if for_s else {}, is_trigger)
    notes = event_notes(replace(SCENE, events=(event,), stages=(*STAGES, Stage("drain", 200, 230, 0))))
    assert len(notes) == len(said)
    assert all(word in note and f"at {t_s:g} s" in note for word, note in zip(said, notes, strict=True))
    assert all(("replica 2 works 3× slower" if for_s else "the prefix cache of replica 2 is emptied") in note for note in notes)


def test_events_before_the_trigger_may_be_why_the_slo_is_missed() -> None:
    event = PoolEvent(1, 10.0, "slow", 2, 5.0, {"factor": 3.0}, False)
    words = normal_sentence(replace(SCENE, events=(event,)), [day(A, None, None)])
    assert words.endswith("or what happens to the pool before the trigger is too much.")
    rows = [arm(A, ORPHANED, 0, judged=0, unstable=5)]
    assert "or what happens to the pool is too much" in warnings(replace(SCENE, events=(event,)), rows, 0, 0, 10)[0]


def test_the_reader_is_warned() -> None:
    rows = [arm(A, ORPHANED, 0, judged=0, unstable=5), arm(B, BUDGET, 5, latent=5)]
    notes = warnings(replace(SCENE, seeds=(1,)), rows, void=2, unconserved=1, runs=10)
    assert [note.split(" ")[0] for note in notes] == ["2", "1", "alpha:", "beta:", "One"]
    assert warnings(SCENE, [arm(A, ORPHANED, 5)], 0, 0, 10) == []


def test_what_was_observed_too_shortly_is_not_called_down() -> None:
    rows = [replace(arm(A, ORPHANED, 0), judged=0, back=0, verdicts={"not judged": 2})]
    assert stampede_sentence(SCENE, rows) == (
        "After a 3× burst of 20 s nothing can be judged: too little of it was observed, or the base load changes over the run."
    )


def test_missing_cells_are_told() -> None:
    asked = ["alpha", "beta", "gamma", "delta", "oracle"]
    told = incomplete([SCENE], asked, total=25, runs=18)
    assert told is not None
    assert told.startswith("7 of 25 cells are missing: ")
    assert "Nothing at all was run of delta." in told
    assert "Nothing at all" not in str(incomplete([SCENE], asked[:3], total=25, runs=18))
    assert incomplete([SCENE], asked[:3], total=25, runs=25) is None
    assert incomplete([SCENE], asked[:3], total=None, runs=25) is None


def test_a_capacity_that_the_slo_sets_is_told() -> None:
    capacity = {"c_ref_rps": 3.4484, "idle_success": 0.961}
    assert slo_bound(capacity, {"ttft_s": 3.0, "tpot_s": 0.1, "e2e_s": None}) == (
        "Even a nearly idle pool meets the SLO for only 96.1% of requests, so the reference capacity C_ref = 3.45 req/s "
        "is set by the SLO, not by load: loosen slo (e.g. slo.ttft_s) for prompts this long."
    )
    assert "(e.g. slo.e2e_s)" in str(slo_bound(capacity, {"ttft_s": None, "e2e_s": 30.0}))
    assert slo_bound({**capacity, "idle_success": 0.995}, {"ttft_s": 3.0}) is None
    assert slo_bound({"c_ref_rps": 3.4}, {"ttft_s": 3.0}) is None
    assert slo_bound(None, {"ttft_s": 3.0}) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 s"),
        (0.0001, "0.1 ms"),
        (0.41, "410 ms"),
        (0.9996, "1 s"),
        (1.234, "1.23 s"),
        (120, "120 s"),
        (200.4, "200 s"),
        (600, "10 min"),
        (800.4, "13 min 20 s"),
    ],
)
def test_durations_in_words(value: float, words: str) -> None:
    assert seconds(value) == words


def test_unknown_durations() -> None:
    assert seconds(None, 10.0) == "> 10 s"
    assert seconds(None) == "no answer"


def test_intervals_in_words() -> None:
    assert between(Interval(0.9, 0.8, 1.1, 5)) == "800 ms–1.1 s"
    assert between(Interval(0.1, -0.1, 0.3, 5)) == "0–300 ms"
    assert between(Interval(0.99, 0.97, 1.02, 5), "share") == "97.0–100%"
    assert between(Interval(-3, -10, 4, 5), "count") == "-10–4"
    assert between(Interval(1.0, None, None, 1)) == ""


def test_lists_and_numbers_in_words() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d", "e", "f"]) == "a, b, c and 3 more"
    assert number(12345.6) == "12,346"
    assert number(0.5, "share") == "50.0%"


def test_a_study_of_the_oracle_alone_ranks_nothing() -> None:
    scene = replace(SCENE, routers=(ORACLE,))
    (only,) = verdict(scene, [day(ORACLE, 0.4, None)], [arm(ORACLE, ORPHANED, 5)])
    assert only.startswith("Only the oracle was run")
