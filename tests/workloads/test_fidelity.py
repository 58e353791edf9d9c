"""Synthesized against source: the same where it must be, different where something was broken, and honest about what is asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.workloads.traces import AZURE_CONV, MOONCAKE, chat, slice_file, trace_of
from workloads.conversation import Conversation, Turn
from workloads.fidelity import fidelity, natural_load_rps, recorded_seconds
from workloads.fidelity.samples import Sample, ks_distance, wasserstein
from workloads.fidelity.scene import Scene
from workloads.plan import Plan
from workloads.request_table import RequestTable
from workloads.sources.synthetic import SyntheticParameters, generate
from workloads.storage import read_workload, write_workload
from workloads.synthesis import synthesize
from workloads.trace import load_trace
from workloads.trace_table import Trace
from workloads.workload import Workload

PLACEBO = {"kind": "placebo", "d_s": 0.0}


def timed_sessions(n: int = 1500, seed: int = 3) -> Trace:
    """Sessions with a clock (bursty), several turns and think times; every sixth tenant sends most."""
    draw = np.random.default_rng(seed)
    starts = np.cumsum(np.round(draw.gamma(0.3, 4.0, n), 3))
    made = []
    for i in range(n):
        thinks = np.round(draw.lognormal(1.5, 0.8, int(draw.geometric(0.4))), 3)
        lengths = [(int(draw.integers(5, 900)), int(draw.integers(10, 400))) for _ in thinks]
        turns = tuple(Turn(u, r, None, None if k == 0 else float(thinks[k])) for k, (u, r) in enumerate(lengths))
        made.append(Conversation(f"s{i}", turns, tenant=int(draw.zipf(1.6)) % 40, start_s=float(starts[i])))
    return trace_of(*made)


def whole_plan(trace: Trace, **more: Any) -> Plan:
    """The trace's own arrivals over its whole span, nothing before, nothing besides."""
    made: dict[str, Any] = {"arrival": {"process": "trace"}, "warmup_s": 0.0, "recovery_s": 0.0, "trigger": PLACEBO}
    return Plan(**{**made, "steady_s": recorded_seconds(trace), "stationary_start": False, "max_context_tokens": None, **more})


def natural(trace: Trace, plan: Plan, seed: int = 1) -> Workload:
    load_rps = natural_load_rps(trace, plan, seed)
    assert load_rps is not None
    return synthesize(trace, plan, load_rps, seed)


def by_metric(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({(r["metric"], r["distance_kind"]) for r in rows}) == len(rows)
    return {r["metric"]: r for r in rows}


def verdicts(rows: list[dict[str, Any]], *wanted: str) -> list[tuple[Any, ...]]:
    return [(r["metric"], r["source"], r["synthesized"], r["distance"], r["noise"]) for r in rows if r["verdict"] in wanted]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_trace_replayed_as_it_was_is_the_same_everywhere(seed: int) -> None:
    trace = timed_sessions()
    rows = fidelity(trace, natural(trace, whole_plan(trace), seed))
    assert verdicts(rows, "differs", "by design") == []
    assert len(rows) > 35
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("file", [AZURE_CONV, MOONCAKE])
def test_a_real_slice_replayed_as_it_was_is_the_same_everywhere(file: str) -> None:
    trace = load_trace(str(slice_file(file)))
    rows = fidelity(trace, natural(trace, whole_plan(trace)))
    assert verdicts(rows, "differs", "by design") == []
    assert by_metric(rows)["input tokens: whole distribution"]["distance"] < 1e-3


@pytest.mark.parametrize("stationary", [True, False])
def test_a_short_run_is_compared_with_the_trace_cut_alike(stationary: bool) -> None:
    """Without a past later turns are missing by nature: the source is weighted so, and nothing differs for that reason."""
    trace = generate(SyntheticParameters(sessions=4000))
    plan = Plan(warmup_s=0.0, steady_s=150.0, recovery_s=0.0, trigger=PLACEBO, stationary_start=stationary)
    workload = synthesize(trace, plan, 40.0, 5)
    rows = fidelity(trace, workload)
    assert verdicts(rows, "differs") == []
    turns = by_metric(rows)["turns sent by sessions that start in the run: mean"]
    assert turns["source"] < 0.95 * trace.turns.mean()
    scene = Scene.of(trace, workload)
    assert scene.sent_weight.min() < 1.0 or stationary
    due = by_metric(rows)["requests, made over planned"]["source"]
    assert (due == pytest.approx(1.0)) if stationary else (due < 0.9)


def test_weights_are_the_chances_of_a_turn_to_be_sent() -> None:
    """A session of turns due at 0, 6 and 12 s in a run of 10 s without a past: chances 1, 0.4, 0; the last one sent is the first
    in 0.6 of all cases. With a past of 12 s every turn is sent as often as the first."""
    turns = tuple(Turn(5, 50, None, None if k == 0 else 5.0) for k in range(3))
    trace = trace_of(Conversation("a", turns, start_s=0.0), Conversation("b", turns, start_s=4.0))
    plan = whole_plan(trace, steady_s=10.0, arrival={"process": "poisson"})
    scene = Scene.of(trace, synthesize(trace, plan, 3.0, 1))
    assert scene.turn_due_s.tolist() == [0.0, 6.0, 12.0] * 2
    assert scene.sent_weight.tolist() == pytest.approx([1.0, 0.4, 0.0] * 2)
    assert scene.followed_weight.tolist() == pytest.approx([1.0, 0.4, 0.0] * 2)
    assert scene.last_weight.tolist() == pytest.approx([0.6, 0.4, 0.0] * 2)
    past = Scene.of(trace, synthesize(trace, replace(plan, stationary_start=True), 3.0, 1))
    assert past.past_s == 12.0
    assert past.sent_weight.tolist() == pytest.approx([1.0, 1.0, 1.0] * 2)
    assert past.followed_weight.tolist() == pytest.approx([1.0, 0.4, 0.4] * 2)


# What was broken shows -------------------------------------------------------------------------------------------------


def changed(workload: Workload, **columns: Any) -> Workload:
    return replace(workload, table=replace(workload.table, **columns))


def broken(workload: Workload, kind: str) -> Workload:
    table = workload.table
    first = table.turn == 0
    if kind == "longer prompts":
        return changed(workload, prompt_tokens=table.prompt_tokens * 6 // 5)
    if kind == "constant answers":
        return changed(workload, output_tokens=np.full(len(table), int(table.output_tokens.mean())))
    if kind == "no thinking":
        return changed(workload, think_us=np.where(table.think_us > 0, 0, table.think_us))
    if kind == "even gaps":
        even = np.linspace(0, workload.horizon_s * 1e6 - 1, int(first.sum())).astype(np.int64)
        arrival_us = table.arrival_us.copy()
        arrival_us[first] = even
        return changed(workload, arrival_us=arrival_us)
    if kind == "nothing shared":
        return changed(workload, new_ids=np.arange(len(table.new_ids)) + (1 << 40), extends=np.zeros(len(table), dtype=bool))
    assert kind == "one tenant"
    return changed(workload, tenant=np.arange(len(table)))


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("longer prompts", "input tokens: whole distribution"),
        ("longer prompts", "input tokens: p90"),
        ("constant answers", "output tokens: whole distribution"),
        ("no thinking", "think time: mean"),
        ("even gaps", "CV of the gaps"),
        ("even gaps", "index of dispersion, 10 s"),
        ("nothing shared", "prefix share"),
        ("one tenant", "top 10 tenants’ share of sessions"),
    ],
)
def test_what_was_broken_differs(kind: str, metric: str) -> None:
    trace = timed_sessions()
    workload = natural(trace, whole_plan(trace))
    assert by_metric(fidelity(trace, workload))[metric]["verdict"] == "same"
    assert by_metric(fidelity(trace, broken(workload, kind)))[metric]["verdict"] == "differs"


# What is asked for is no fault -------------------------------------------------------------------------------------------


def test_poisson_asked_for_is_by_design() -> None:
    trace = timed_sessions()
    rows = by_metric(fidelity(trace, natural(trace, whole_plan(trace, arrival={"process": "poisson"}))))
    for metric in ("CV of the gaps", "index of dispersion, 1 s", "gaps over their mean"):
        assert rows[metric]["verdict"] == "by design"
        assert rows[metric]["why"] == "arrivals asked for: poisson"
    assert rows["sessions, made over planned"]["verdict"] == "same"


def test_thinned_users_have_the_dispersion_that_theory_gives() -> None:
    trace = timed_sessions(4000)
    plan = whole_plan(trace)
    load_rps = natural_load_rps(trace, plan, 1)
    assert load_rps is not None
    rows = by_metric(fidelity(trace, synthesize(trace, plan, 0.4 * load_rps, 1)))
    own = by_metric(fidelity(trace, natural(trace, plan)))["index of dispersion, 1 s"]["source"]
    thinned = rows["index of dispersion, 1 s"]
    assert thinned["source"] == pytest.approx(1 + 0.4 * (own - 1))
    assert thinned["verdict"] == "same"
    assert rows["CV of the gaps"]["verdict"] == "by design"
    assert rows["sessions a second"]["verdict"] == "by design"


def test_a_faster_trace_keeps_its_cv() -> None:
    trace = timed_sessions()
    plan = whole_plan(trace, arrival={"process": "trace", "scale": "compress"}, steady_s=recorded_seconds(trace) / 4)
    load_rps = natural_load_rps(trace, plan, 1)
    assert load_rps is not None
    rows = by_metric(fidelity(trace, synthesize(trace, plan, 4 * load_rps, 1)))
    for metric in ("CV of the gaps", "gaps over their mean", "index of dispersion, 10 s"):
        assert rows[metric]["verdict"] == "same", rows[metric]


def test_the_triggers_sessions_are_left_out() -> None:
    trace = timed_sessions()
    plan = whole_plan(trace, trigger={"kind": "spike", "k": 5.0, "d_s": 60.0}, steady_s=600.0)
    calm = natural(trace, replace(plan, trigger={"kind": "placebo", "d_s": 60.0}))
    spike = natural(trace, plan)
    assert len(spike.table) > len(calm.table) + 100
    assert fidelity(trace, spike) == fidelity(trace, calm)


def test_drawn_think_times_and_a_small_context_are_said() -> None:
    trace = trace_of(*(chat(str(i), (50, 50), (400, 50), (50 + i, 50), think_s=None) for i in range(200)))  # type: ignore[arg-type]
    plan = Plan(warmup_s=0.0, steady_s=100.0, recovery_s=0.0, trigger=PLACEBO, max_context_tokens=700)
    rows = by_metric(fidelity(trace, synthesize(trace, plan, 20.0, 1)))
    assert rows["think time: mean"]["verdict"] == "by design"
    assert rows["think time: mean"]["why"].startswith("400 of the trace’s think times are unknown")
    left_out = rows["turns left out, share of the trace’s"]
    assert left_out["synthesized"] == pytest.approx(150 / 600, abs=0.01)
    assert "max_context_tokens = 700" in left_out["why"]


def test_a_workload_of_another_trace_is_refused() -> None:
    trace = timed_sessions(50)
    workload = natural(trace, whole_plan(trace))
    other = Trace(trace.source, {**trace.provenance, "sha256": "other"}, trace.table)
    with pytest.raises(ValueError, match="was made of another file than the trace"):
        fidelity(other, workload)
    bare = Workload("by hand", 0, (), RequestTable.of(()), {})
    with pytest.raises(ValueError, match="lasts 0 s; there is nothing to compare"):
        fidelity(trace, replace(workload, phases=()))
    with pytest.raises(ValueError, match="does not say how it was made"):
        fidelity(trace, bare)


def test_a_workload_from_its_file_compares_alike(tmp_path: Path) -> None:
    trace = timed_sessions(200)
    workload = natural(trace, whole_plan(trace, events=({"kind": "pause", "at_s": 5.0, "for_s": 2.0},)))
    assert fidelity(trace, read_workload(write_workload(workload, tmp_path))) == fidelity(trace, workload)


# Distances -----------------------------------------------------------------------------------------------------------

NUMBERS = st.lists(st.integers(-50, 50), min_size=1, max_size=40)


@example([0, 17, -17], [0])  # a mean of 0, but for rounding
@given(NUMBERS, NUMBERS)
@settings(max_examples=80)
def test_distances_equal_scipys(one: list[int], other: list[int]) -> None:
    a, b = Sample.of(one, len(one)), Sample.of(other, len(other))
    assert a is not None
    assert b is not None
    with np.errstate(divide="ignore"):  # scipy's p-value, which nobody asks for
        expected = stats.ks_2samp(one, other, method="asymp").statistic
    assert ks_distance(a, b)[0] == pytest.approx(expected, abs=1e-12)
    mean = abs(float(np.mean(one))) or 1.0
    assert wasserstein(a, b)[0] == pytest.approx(stats.wasserstein_distance(one, other) / mean, abs=1e-9)


@given(NUMBERS, st.data())
@settings(max_examples=60)
def test_weights_count_as_repetitions(values: list[int], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values)).filter(any))
    weighted = Sample.of(values, 1, np.array(weights, dtype=np.float64))
    repeated = Sample.of(np.repeat(values, weights), 1)
    assert weighted is not None
    assert repeated is not None
    assert weighted.mean() == pytest.approx(repeated.mean())
    assert weighted.deviation() == pytest.approx(repeated.deviation(), abs=1e-9)
    assert ks_distance(weighted, repeated)[0] == pytest.approx(0.0, abs=1e-12)


@given(NUMBERS, st.floats(0, 1))
@settings(max_examples=60)
def test_equal_weights_give_numpys_quantiles(values: list[int], share: float) -> None:
    made = Sample.of(values, 1)
    assert made is not None
    assert made.quantile(share) == pytest.approx(np.quantile(values, share), abs=1e-9)


def test_noise_is_exceeded_as_rarely_as_it_says() -> None:
    """Two samples of one law: KS above 1.36·√(1/n+1/m) in about 5% of 400 draws, Wasserstein-1 above its noise rarely."""
    draw = np.random.default_rng(11)
    above = np.zeros(2)
    for _ in range(400):
        a, b = (Sample.of(draw.lognormal(5, 1, n), n) for n in (150, 220))
        assert a is not None
        assert b is not None
        above += [distance > noise for distance, noise in (ks_distance(a, b), wasserstein(a, b))]
    assert 0.01 <= above[0] / 400 <= 0.08
    assert above[1] / 400 <= 0.05
