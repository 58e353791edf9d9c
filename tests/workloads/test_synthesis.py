"""From a trace and a plan to requests: rates, pairing, histories, reuse and what is left out."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.workloads.traces import AZURE_CONV, blocks, chat, slice_file, trace_of
from workloads.conversation import Conversation, Turn
from workloads.description import arrival_statistics
from workloads.request import Prompt, Request
from workloads.synthesis import Plan, synthesize
from workloads.trace import load_trace
from workloads.trace_table import Trace
from workloads.workload import Workload

SPIKE = {"kind": "spike", "k": 3.0, "d_s": 20.0}
PLACEBO = {"kind": "placebo", "d_s": 20.0}


@pytest.fixture(scope="module")
def synthetic() -> Trace:
    return load_trace("synthetic")


def nominal_due_s(workload: Workload, tpot_s: float = 0.02) -> list[float]:
    """When each request is due if every answer takes `tpot_s` a token."""
    due: list[float] = []
    for request in workload.requests:
        if request.arrival_s is not None:
            due.append(request.arrival_s)
        else:
            before = workload.requests[request.request_id - 1]
            due.append(due[-1] + before.output_tokens * tpot_s + (request.think_s or 0.0))
    return due


def sessions(workload: Workload) -> list[list[Request]]:
    made: dict[int, list[Request]] = {}
    for request in workload.requests:
        made.setdefault(request.session_id, []).append(request)
    return list(made.values())


def facts(workload: Workload) -> Any:
    return workload.provenance


def test_the_contract_of_a_workload_holds(synthetic: Trace) -> None:
    workload = synthesize(synthetic, Plan(), 8.0, 1)
    assert [r.request_id for r in workload.requests] == list(range(len(workload.requests)))
    assert [p.name for p in workload.phases] == ["warmup", "steady", "trigger", "recovery"]
    assert [p.load_rps for p in workload.phases] == [8.0, 8.0, 24.0, 8.0]
    assert workload.horizon_s == 140.0
    assert len({r.reply_id for r in workload.requests}) == len(workload.requests)
    assert all(0 < r.reply_id < 1 << 63 for r in workload.requests)
    assert all(r.output_tokens >= 1 and r.prompt_tokens >= 1 for r in workload.requests)
    ids = [r.session_id for r in workload.requests]
    assert ids == sorted(ids), "requests of a session are neighbours"
    for session in sessions(workload):
        assert [r.turn for r in session] == list(range(session[0].turn, session[0].turn + len(session)))
        assert [r.arrival_s is not None for r in session] == [True] + [False] * (len(session) - 1)
        assert [r.think_s is None for r in session] == [True] + [False] * (len(session) - 1)
        for before, after in pairwise(session):
            assert after.segments[: len(before.segments)] == before.segments
            reply = after.segments[len(before.segments)]
            assert (reply.content_id, reply.tokens) == (before.reply_id, before.output_tokens)
            assert Prompt.of(after.segments).keys[: len(before.segments)] == Prompt.of(before.segments).keys


def test_every_request_is_due_within_the_horizon_or_held_in_reserve_for_a_faster_pool(synthetic: Trace) -> None:
    workload = synthesize(synthetic, Plan(), 8.0, 1)
    due = np.array(nominal_due_s(workload))
    assert due.min() >= 0
    assert (due >= 140).sum() == facts(workload)["turns_in_reserve"] > 0
    assert max(nominal_due_s(workload, tpot_s=0.0)) < 140, "no turn that even instant answers would not reach"
    assert all(s[0].arrival_s is not None and s[0].arrival_s < 140 for s in sessions(workload))


def test_a_pool_that_answers_at_once_does_not_run_out_of_turns(synthetic: Trace) -> None:
    plan = Plan(warmup_s=100, steady_s=100, recovery_s=0, trigger={"kind": "placebo", "d_s": 0})
    due = np.concatenate([nominal_due_s(synthesize(synthetic, plan, 40.0, seed), tpot_s=0.005) for seed in range(4)])
    rates = np.histogram(due, bins=np.arange(0, 201, 20))[0] / 80
    assert rates[-1] > 0.9 * rates[3:].mean()


def test_load_is_flat_from_the_very_start(synthetic: Trace) -> None:
    """Turns due per second in 10-s bins over 8 seeds: no ramp while sessions grow."""
    plan = Plan(warmup_s=100, steady_s=100, recovery_s=0, trigger={"kind": "placebo", "d_s": 0})
    due = np.concatenate([nominal_due_s(synthesize(synthetic, plan, 40.0, seed)) for seed in range(8)])
    rates = np.histogram(due, bins=np.arange(0, 201, 10))[0] / 80
    assert rates.mean() == pytest.approx(40, rel=0.03)
    assert rates[:10].mean() == pytest.approx(rates[10:].mean(), rel=0.05)
    assert rates[:2].mean() == pytest.approx(40, rel=0.08)
    assert rates.min() > 35


def test_without_a_stationary_start_the_load_ramps(synthetic: Trace) -> None:
    plan = Plan(warmup_s=100, steady_s=100, recovery_s=0, trigger={"kind": "placebo", "d_s": 0}, stationary_start=False)
    workload = synthesize(synthetic, plan, 40.0, 1)
    rates = np.histogram(nominal_due_s(workload), bins=np.arange(0, 201, 10))[0] / 10
    assert rates[:2].mean() < 0.6 * 40
    assert all(session[0].turn == 0 for session in sessions(workload))
    assert facts(workload)["sessions_in_mid_life"] == 0


def test_made_rates_are_reported_and_near_the_plan(synthetic: Trace) -> None:
    workload = synthesize(synthetic, Plan(), 60.0, 2)
    due = nominal_due_s(workload)
    for phase, (_, start, end) in zip(facts(workload)["phases"], workload.phase_bounds(), strict=True):
        counted = sum(start <= t < end for t in due)
        assert phase["requests"] == pytest.approx(counted, abs=2)  # µs rounding at a bound
        assert phase["made_rps"] == pytest.approx(phase["planned_rps"], rel=0.12)
        assert phase["prompt_tokens"] > phase["output_tokens"] > 0
    counted = sum(p["requests"] for p in facts(workload)["phases"])
    assert counted + facts(workload)["turns_in_reserve"] == len(workload.requests)


def test_the_spike_is_added_to_an_unchanged_base_and_a_smaller_one_is_part_of_a_larger(synthetic: Trace) -> None:
    plans = [Plan(trigger=PLACEBO), *(Plan(trigger={**SPIKE, "k": k}) for k in (1.0, 1.7, 2.0, 3.0))]
    made = [synthesize(synthetic, plan, 10.0, 5).requests for plan in plans]
    base = len(made[0])
    assert len(made[1]) == base
    for smaller, larger in pairwise(made):
        assert larger[: len(smaller)] == smaller, "ids, contents and times agree"
    extras = made[-1][base:]
    assert len(extras) == pytest.approx(2 * 10 * 20, abs=4 * 20)
    assert len(made[2]) - base == pytest.approx(0.7 * 10 * 20, abs=4 * 12)
    assert all(60 <= (r.arrival_s or 0) <= 80 for r in extras)
    assert len({r.session_id for r in extras}) == len(extras)


def test_seeds_differ_and_repeat(synthetic: Trace) -> None:
    one, again, other = (synthesize(synthetic, Plan(), 5.0, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.requests != other.requests


def test_histories_grow_by_question_and_answer() -> None:
    trace = trace_of(chat("a", (10, 20), (30, 40), (50, 60), think_s=1.0, prefix=blocks(7, tokens=100)))
    plan = Plan(warmup_s=1000, steady_s=0, recovery_s=0, trigger={"kind": "placebo", "d_s": 0}, stationary_start=False)
    whole = next(s for s in sessions(synthesize(trace, plan, 1.0, 0)) if len(s) == 3)
    assert [[s.tokens for s in r.segments] for r in whole] == [[100, 10], [100, 10, 20, 30], [100, 10, 20, 30, 40, 50]]
    assert [r.output_tokens for r in whole] == [20, 40, 60]
    assert [r.think_s for r in whole] == [None, 1.0, 1.0]


def test_a_trace_used_again_shares_inside_a_pass_only_but_keeps_its_system_prompts() -> None:
    """Two conversations that share block 5 behind the system prompt 7, replayed many times."""
    pair = (Conversation(n, (Turn(1024, 1, blocks(5, own)),), prefix=blocks(7)) for n, own in (("a", 1), ("b", 2)))
    plan = Plan(warmup_s=100, steady_s=0, recovery_s=0, trigger={"kind": "placebo", "d_s": 0})
    workload = synthesize(trace_of(*pair), plan, 1.0, 0)
    made = workload.requests
    assert facts(workload)["sessions_reused"] == len(made) - 2 > 50
    assert {r.segments[0] for r in made} == set(blocks(7))
    shared = Counter(r.segments[1].content_id for r in made)
    assert set(shared.values()) <= {1, 2}
    assert list(shared.values()).count(2) >= len(made) // 2 - 1
    assert max(Counter(r.segments[2].content_id for r in made).values()) == 1


def test_spike_contents_are_fresh(synthetic: Trace) -> None:
    """A flash crowd does not repeat the base load's questions word for word; it shares its system prompts."""
    trace = Trace.of("few", synthetic.conversations[:40], synthetic.provenance)
    workload = synthesize(trace, Plan(), 20.0, 0)
    questions = Counter(r.segments[-1].content_id for r in workload.requests if r.turn == 0)
    assert max(questions.values()) == 1
    assert len({r.segments[0].content_id for r in workload.requests}) <= 40


def test_context_limit_ends_a_session_and_is_counted() -> None:
    long = chat("long", (10, 10), (10, 10), (10, 10))  # contexts 20, 40, 60
    huge = chat("huge", (100, 1))
    plan = Plan(warmup_s=300, max_context_tokens=50)
    workload = synthesize(trace_of(long, huge), plan, 2.0, 0)
    assert max(r.prompt_tokens + r.output_tokens for r in workload.requests) == 40
    assert {r.turn for r in workload.requests} == {0, 1}
    assert facts(workload)["turns_beyond_context"] == 2
    assert facts(workload)["sessions_beyond_context"] == 1
    assert facts(workload)["mean_turns"] == 2.0
    with pytest.raises(ValueError, match="max_context_tokens is 5; no conversation of 'by hand' fits"):
        synthesize(trace_of(long, huge), replace(plan, max_context_tokens=5), 2.0, 0)


def test_empty_messages_get_a_token_and_are_counted() -> None:
    empty = Conversation("e", (Turn(0, 0), Turn(0, 3, (), 1.0)))
    workload = synthesize(trace_of(empty), Plan(stationary_start=False), 1.0, 0)
    assert all(r.output_tokens >= 1 and all(s.tokens >= 1 for s in r.segments) for r in workload.requests)
    assert (facts(workload)["empty_users"], facts(workload)["empty_replies"]) == (2, 1)


def test_missing_think_times_are_drawn_by_the_plan() -> None:
    unknown = Conversation("u", tuple(Turn(1, 1) for _ in range(400)))
    plan = Plan(warmup_s=50_000, stationary_start=False, think_median_s=4.0, think_sigma=0.5)
    workload = synthesize(trace_of(unknown), plan, 0.4, 0)
    think = [r.think_s for r in workload.requests if r.think_s is not None]
    assert np.median(think) == pytest.approx(4.0, rel=0.1)
    assert np.log(think).std() == pytest.approx(0.5, rel=0.1)
    assert facts(workload)["think_drawn"] == 399


QUANTILES = np.linspace(0.001, 0.999, 999)
STILL = {"kind": "placebo", "d_s": 0}


def test_compressed_trace_arrivals_keep_order_and_burstiness() -> None:
    trace = load_trace(str(slice_file(AZURE_CONV)))
    arrival = {"process": "trace", "scale": "compress"}
    workload = synthesize(trace, Plan(arrival=arrival, warmup_s=800, steady_s=0, recovery_s=0, trigger=STILL), 11.0, 3)
    made = workload.table.arrival_us / 1e6
    assert len(made) / 800 == pytest.approx(11.0, rel=0.05)
    assert arrival_statistics(made)["iod_60s"] == pytest.approx(2 * 12.49, rel=0.5), "half the time unit, twice the dispersion"
    lengths = trace.user_tokens.tolist()
    first = workload.table.prompt_tokens[:50].tolist()
    assert any((lengths + lengths)[i : i + 50] == first for i in range(len(lengths)))


def test_trace_arrivals_at_the_traces_own_rate_are_the_trace() -> None:
    trace = load_trace(str(slice_file(AZURE_CONV)))
    span_s = float(trace.start_s[-1]) * len(trace) / (len(trace) - 1)  # one mean gap follows the last start
    plan = Plan(arrival={"process": "trace"}, warmup_s=span_s, steady_s=0, recovery_s=0, trigger=STILL)
    table = synthesize(trace, plan, len(trace) / span_s, 3).table
    pairs = zip(table.prompt_tokens.tolist(), table.output_tokens.tolist(), strict=True)
    other = Counter(pairs)
    other.subtract(zip(trace.user_tokens.tolist(), trace.reply_tokens.tolist(), strict=True))
    assert sum(abs(n) for n in other.values()) <= 2, "the same requests"
    gaps, own = (np.sort(np.diff(t)) for t in (table.arrival_us, np.rint(trace.start_s * 1e6)))
    assert np.quantile(gaps, QUANTILES) == pytest.approx(np.quantile(own, QUANTILES), rel=5e-3, abs=3)


def test_fewer_users_are_a_part_of_more_users_with_their_whole_sessions(synthetic: Trace) -> None:
    dated = trace_of(*(replace(c, start_s=7.0 * i) for i, c in enumerate(synthetic.conversations[:400])))
    plan = Plan(arrival={"process": "trace"}, warmup_s=1000, steady_s=0, recovery_s=0, trigger=STILL, stationary_start=False)
    few, more = (synthesize(dated, plan, load, 1) for load in (0.1, 0.3))
    contents = [{s[0].reply_id: [r.turn for r in s] for s in sessions(w)} for w in (few, more)]
    assert len(contents[0]) > 10
    assert contents[0].items() <= contents[1].items()


def test_absolute_mode_sends_every_turn_at_the_traces_own_distance() -> None:
    turns = (Turn(10, 100), Turn(10, 100, gap_s=7.0), Turn(10, 100, think_s=3.0))
    trace = trace_of(Conversation("a", turns))
    plan = Plan(warmup_s=500, steady_s=0, recovery_s=0, trigger=STILL, stationary_start=False, mode="absolute")
    whole = [s for s in sessions(synthesize(trace, plan, 0.5, 0)) if len(s) == 3]
    assert len(whole) > 20
    for session in whole:
        at = [r.arrival_s or 0.0 for r in session]
        assert [round(t - at[0], 5) for t in at] == [0.0, 7.0, 12.0], "unknown gap: 100 tokens at 20 ms, then 3 s of thought"
        assert all(r.think_s is None for r in session)


def test_a_gap_without_a_think_time_leaves_what_the_answer_does_not_take() -> None:
    trace = trace_of(Conversation("a", (Turn(10, 100), Turn(10, 5, gap_s=7.0), Turn(1, 1, gap_s=0.05))))
    workload = synthesize(trace, Plan(stationary_start=False), 1.0, 0)
    whole = next(s for s in sessions(workload) if len(s) == 3)
    assert [r.think_s for r in whole] == [None, 5.0, 0.0]
    assert facts(workload)["think_from_gaps"] == 2


def test_a_turn_that_restarts_carries_its_own_content_alone() -> None:
    """The fourth prompt was compacted: nothing of the system prompt or the history stands in front of it."""
    turns = (Turn(10, 20), Turn(30, 40), Turn(1024, 5, blocks(1, 2), restarts=True), Turn(7, 1))
    trace = trace_of(Conversation("a", tuple(replace(t, think_s=1.0) for t in turns), prefix=blocks(9, tokens=100)))
    plan = Plan(warmup_s=400, steady_s=0, recovery_s=0, trigger=STILL)
    workload = synthesize(trace, plan, 40.0, 0)
    whole = next(s for s in sessions(workload) if len(s) == 4)
    assert [r.prompt_tokens for r in whole] == [110, 160, 1024, 1036]
    assert [[s.tokens for s in r.segments] for r in whole[2:]] == [[512, 512], [512, 512, 5, 7]]
    late = [s[0] for s in sessions(workload) if s[0].turn == 3]
    assert late, "some sessions are met in mid-life, behind the restart"
    assert all([s.tokens for s in r.segments] == [512, 512, 5, 7] for r in late)
    assert all(r.prompt_tokens == sum(s.tokens for s in r.segments) for r in workload.requests)


def test_a_modulated_load_is_planned_and_made(synthetic: Trace) -> None:
    arrival = {"process": "poisson", "modulate": {"shape": "staircase", "factors": [1, 2], "step_s": 500}}
    plan = Plan(arrival=arrival, warmup_s=500, steady_s=0, trigger=STILL, recovery_s=500)
    single = trace_of(*(chat(f"{i}", (10, 10)) for i in range(50)))
    workload = synthesize(single, plan, 10.0, 1)
    assert [p.load_rps for p in workload.phases] == pytest.approx([10.0, 10.0, 10.0, 20.0])
    assert facts(workload)["phases"][3]["made_rps"] == pytest.approx(20.0, rel=0.08)


def test_a_modulated_load_of_long_sessions_is_planned_as_it_will_come(synthetic: Trace) -> None:
    """Modulation bends session starts; their later turns come when they come, and the plan says so."""
    for shape in (
        {"shape": "staircase", "factors": [1, 2], "step_s": 100},
        {"shape": "flash_crowd", "k": 4, "at_s": 100, "rise_s": 5, "hold_s": 20, "decay_s": 20},
    ):
        plan = Plan(arrival={"process": "poisson", "modulate": shape}, warmup_s=60, steady_s=40, trigger=STILL, recovery_s=100)
        made = [facts(synthesize(synthetic, plan, 40.0, seed))["phases"] for seed in range(6)]
        for i in (0, 1, 3):
            assert np.mean([m[i]["made_rps"] for m in made]) == pytest.approx(made[0][i]["planned_rps"], rel=0.06)
        assert made[0][3]["planned_rps"] > 1.1 * made[0][1]["planned_rps"]


def test_sessions_longer_than_a_day_still_carry_the_load() -> None:
    slow = trace_of(chat("slow", *((10, 10),) * 40, think_s=6000.0), chat("fast", (10, 10)))
    plan = Plan(warmup_s=500, steady_s=500, trigger=STILL, recovery_s=0)
    made = [facts(synthesize(slow, plan, 5.0, seed))["phases"][1]["made_rps"] for seed in range(4)]
    assert np.mean(made) == pytest.approx(5.0, rel=0.06)


def test_trace_arrivals_without_a_clock_are_refused(synthetic: Trace) -> None:
    with pytest.raises(ValueError, match="this trace has no timestamps; allowed: constant, poisson"):
        synthesize(synthetic, Plan(arrival={"process": "trace"}), 5.0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trigger": {"kind": "spik", "k": 3, "d_s": 1}}, "trigger.kind is 'spik'; allowed: placebo, spike"),
        ({"events": ({"kind": "flush"},)}, r"events\[0\].at_s is None; expected a number ≥ 0"),
        ({"events": ({"kind": "flush", "at_s": 1, "for_s": 2},)}, r"events\[0\].for_s is no key of 'flush'"),
        ({"mode": "both"}, "mode is 'both'; allowed: think, absolute"),
        ({"warmup_s": -1}, "warmup_s is -1; expected a number ≥ 0"),
        ({"deadline_s": "soon"}, "deadline_s is 'soon'"),
        ({"max_context_tokens": 1}, "max_context_tokens is 1"),
        ({"arrival": {"process": "x"}}, "arrival.process is 'x'"),
    ],
)
def test_bad_plans_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**changes)


@pytest.mark.parametrize("load", [0, -1, float("inf"), float("nan")])
def test_bad_loads_are_named(load: float, synthetic: Trace) -> None:
    with pytest.raises(ValueError, match=f"load_rps is {load}"):
        synthesize(synthetic, Plan(), load, 0)


def test_an_empty_trace_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="holds no conversation"):
        synthesize(trace_of(), Plan(), 1.0, 0)


def test_k_times_the_requests_is_k_times_the_tokens(synthetic: Trace) -> None:
    made = [synthesize(synthetic, Plan(trigger={**SPIKE, "k": k}), 60.0, seed) for k in (1.0, 3.0) for seed in range(4)]
    tokens = [next(p for p in facts(w)["phases"] if p["name"] == "trigger") for w in made]
    prompt = [sum(p["prompt_tokens"] for p in tokens[i : i + 4]) for i in (0, 4)]
    output = [sum(p["output_tokens"] for p in tokens[i : i + 4]) for i in (0, 4)]
    assert prompt[1] / prompt[0] == pytest.approx(3.0, rel=0.1)
    assert output[1] / output[0] == pytest.approx(3.0, rel=0.1)
