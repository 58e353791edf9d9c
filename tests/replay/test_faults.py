"""What events do to replicas in virtual time, rule by rule; in all of it requests are conserved (`replayed` checks the books)."""

import json
from dataclasses import astuple, replace
from itertools import pairwise
from math import nextafter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replay.cell import Cell
from replay.live import LiveRun
from replay.recorder import Recorder
from replay.replica_clock import ClockedReplica, ReplicaClock
from replay.retry import RetryRule
from replay.rows import Attempt
from replay.virtual import VirtualRun
from replicas.engine import Engine
from replicas.jump import Jump
from replicas.profile import EngineProfile
from replicas.sequence import Sequence
from tests.replay.scenes import cell, single_turns
from tests.replay.test_virtual import replayed
from workloads.events import EVENTS, Event
from workloads.request import Prompt, Request, Segment
from workloads.workload import Workload

PATIENT = RetryRule("patient", ttft_timeout_s=None, max_attempts=1)
TRYING = RetryRule("trying", ttft_timeout_s=None, max_attempts=5, backoff_s=0.1, jitter=0.0)
ELSEWHERE = ("retry", {"backoff_s": 0.0, "exclude": "last"})
LONG = single_turns([0.0], output_tokens=100)  # about 0.7 s of decoding, alone


def under(events: list[Event], a_cell: Cell, workload: Workload) -> tuple[list[Attempt], VirtualRun]:
    return replayed(a_cell, replace(workload, events=tuple(events)))


def every(gap_s: float, n: int, output_tokens: int = 8) -> Workload:
    """Single-turn requests, one every `gap_s`."""
    return single_turns([round(i * gap_s, 6) for i in range(n)], output_tokens=output_tokens)


def seconds(at_us: int | None) -> float:
    assert at_us is not None
    return at_us / 1e6


def refused(rows: list[Attempt]) -> list[int]:
    return [r.request_id for r in rows if r.outcome == "refused"]


# Pause and slow: the engine's own time ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "first_later_s", "end_later_s"),
    [
        ([Event(0.005, "pause", 0, for_s=2.0)], 2.0, 2.0),  # before the first token
        ([Event(0.0, "pause", 0, for_s=2.0)], 2.0, 2.0),  # from the very start
        ([Event(0.3, "pause", 0, for_s=5.0)], 0.0, 5.0),  # between two tokens
        ([Event(0.3, "pause", None, for_s=5.0)], 0.0, 5.0),  # every replica
        ([Event(0.3, "pause", 0, for_s=1.0), Event(2.0 - 0.4, "pause", 0, for_s=1.0)], 0.0, 2.0),  # one after the other
        ([Event(0.3, "pause", 0, for_s=1.0), Event(0.8, "pause", 0, for_s=1.0)], 0.0, 1.5),  # overlapping: stands 0.3–1.8
        ([Event(0.1, "slow", 0, for_s=0.2, factor=2.0)], 0.0, 0.1),  # 0.2 s of the run are 0.1 s of its own
        ([Event(0.1, "slow", 0, for_s=0.3, factor=1.5)], 0.0, 0.1),
        ([Event(0.1, "slow", 0, for_s=0.3, factor=1.0)], 0.0, 0.0),
        ([Event(0.1, "slow", 0, for_s=0.6, factor=2.0), Event(0.1, "slow", 0, for_s=0.6, factor=3.0)], 0.0, 0.5),  # 6 times
        ([Event(0.1, "pause", 0, for_s=1.0), Event(0.1, "slow", 0, for_s=1.0, factor=4.0)], 0.0, 1.0),  # slower than still?
        ([Event(0.1, "slow", 0, for_s=0.4, factor=2.0), Event(0.2, "pause", 0, for_s=1.0)], 0.0, 1.05),  # 0.1 s of 2, 1.0 still
        ([Event(50.0, "pause", 0, for_s=5.0)], 0.0, 0.0),  # after all is over
    ],
)  # fmt: skip
def test_what_a_pause_or_a_slow_stretch_takes_is_added_exactly(
    events: list[Event], first_later_s: float, end_later_s: float
) -> None:
    ((plain,), _), ((row,), _) = under([], cell(replicas=1), LONG), under(events, cell(replicas=1), LONG)
    assert seconds(row.first_token_us) - seconds(plain.first_token_us) == pytest.approx(first_later_s, abs=2e-6)
    assert seconds(row.ended_us) - seconds(plain.ended_us) == pytest.approx(end_later_s, abs=2e-6)
    assert row.engine_ended_us == row.ended_us
    assert (row.outcome, row.decoded_tokens, row.prefilled_tokens) == ("ok", 100, 256)


def test_slow_by_two_doubles_ttft_tpot_and_the_largest_gap() -> None:
    ((plain,), _) = under([], cell(replicas=1), LONG)
    ((row,), _) = under([Event(0.0, "slow", 0, for_s=100.0, factor=2.0)], cell(replicas=1), LONG)
    for name in ("first_token_us", "ended_us", "max_gap_us"):
        assert getattr(row, name) == pytest.approx(2 * getattr(plain, name), abs=2)


@pytest.mark.parametrize(
    ("event", "times", "more_s"),
    [
        (Event(0.3, "pause", 0, for_s=5.0), 1, 5.0),  # a step, and the pause within it
        (Event(0.3, "slow", 0, for_s=0.2, factor=10.0), 10, 0.0),
        (Event(0.3, "slow", 0, for_s=0.001, factor=10.0), 1, 0.0009),  # a millisecond of it does a tenth of its work
    ],
)
def test_the_largest_gap_is_the_runs_not_the_engines(event: Event, times: int, more_s: float) -> None:
    ((plain,), _), ((row,), _) = under([], cell(replicas=1), LONG), under([event], cell(replicas=1), LONG)
    assert seconds(row.max_gap_us) == pytest.approx(times * seconds(plain.max_gap_us) + more_s, rel=0.001)


def test_the_gap_of_a_preempted_request_holds_the_pause_in_it() -> None:
    a_cell = cell(replicas=1, changes={"kv_blocks": 64, "context_tokens": 1000})  # too few blocks for two such requests
    workload = single_turns([0.0, 0.01], output_tokens=400)
    (_, plain), _ = under([], a_cell, workload)
    (_, newest), run = under([Event(2.3, "pause", 0, for_s=5.0)], a_cell, workload)
    assert run.engines[0].counters.preemptions == 1
    assert seconds(plain.max_gap_us) > 0.3, "it waits for the older one to end"
    assert seconds(newest.max_gap_us) == pytest.approx(seconds(plain.max_gap_us) + 5.0, abs=2e-6)


def test_what_a_replica_in_a_pause_has_done_by_the_end_is_counted() -> None:
    (row,), _ = under([Event(0.3, "pause", 0, for_s=900.0)], cell(replicas=1, changes={"frontend_jitter_s": 0.0}), LONG)
    assert (row.outcome, row.prefilled_tokens) == ("censored", 256)
    first_s = 0.3 - (row.decoded_tokens - 1) * 0.0065
    assert 0.02 < first_s < 0.05, "what 0.3 s are enough for: a first token after some 30 ms, then one every 6.5 ms"


def test_a_slow_replicas_probes_say_so() -> None:
    rows, _ = under([Event(0.0, "slow", 0, for_s=50.0, factor=3.0)], cell("prequal"), every(0.5, 40))
    assert [r.replica_id for r in rows[4:]] == [1] * 36, "nobody waits anywhere, but replica 0 would take longer"


def test_a_paused_replica_goes_on_taking_requests_and_telling_its_gauges() -> None:
    pauses = [Event(0.3, "pause", 0, for_s=0.1), Event(0.5, "pause", 0, for_s=3.0)]
    _, run = under(pauses, cell(replicas=1), every(0.25, 8))
    held = [(s.t_us / 1e6, s.running + s.waiting, (s.queue_age_us or 0) / 1e6) for s in run._recorder.samples]
    assert [(t, n) for t, n, _ in held[:4]] == [(0.0, 0), (1.0, 2), (2.0, 6), (3.0, 6)], "what came from 0.5 s on is still there"
    assert [age for *_, age in held[:4]] == [0.0, 0.5, 1.5, 2.5], "the oldest of them, in seconds of the run"
    assert run.events_done == [
        {"t_s": 0.3, "kind": "pause", "replica": 0, "for_s": 0.1, "running": 1, "waiting": 0},
        {"t_s": 0.5, "kind": "pause", "replica": 0, "for_s": 3.0, "running": 0, "waiting": 0},
    ]
    assert run.routers[0].views[0].observed_s > 3.0


def test_a_timeout_in_a_pause_is_cancelled_when_the_engine_goes_on() -> None:
    rule = replace(PATIENT, ttft_timeout_s=1.0)
    rows, run = under([Event(0.0, "pause", 0, for_s=3.0)], cell(replicas=1, client=rule), every(0.25, 2))
    assert [r.outcome for r in rows] == ["timeout"] * 2
    assert all(seconds(r.engine_ended_us) >= 3.0 for r in rows), "its abort queue stands still, too"
    assert (run.engines[0].running, run.engines[0].waiting) == (0, 0)


pauses_and_slows = st.lists(
    st.builds(
        Event,
        st.integers(0, 80).map(lambda n: n / 8),
        st.sampled_from(["pause", "slow"]),
        st.just(0),
        st.integers(1, 40).map(lambda n: n / 8),
        st.sampled_from([1.0, 1.5, 2.0, 7.0]),
    ),
    max_size=5,
)


@given(pauses_and_slows)
@settings(max_examples=80, deadline=None)
def test_the_own_time_is_the_integral_of_the_pace(events: list[Event]) -> None:
    """Summed in slices of 1/16 s, on which all events begin and end."""
    clock, own_s = ReplicaClock(events), 0.0
    for number in range(16 * 16):
        run_s = number / 16
        assert clock.own_s(run_s) == pytest.approx(own_s, abs=1e-9)
        active = [e for e in events if e.at_s <= run_s < e.until_s]
        if any(e.kind == "pause" for e in active):
            continue
        factor = 1.0
        for e in active:
            factor *= e.factor
        assert clock.run_s(clock.own_s(run_s + 1 / 32)) == pytest.approx(run_s + 1 / 32, abs=1e-9)
        own_s += 1 / 16 / factor


@given(pauses_and_slows, st.floats(0.0, 5.0), st.integers(1, 300), st.floats(0.005, 0.2), st.sampled_from([0.0, 1e-6, 1e-3]))
@example([Event(0.0, "slow", 0, for_s=0.125, factor=1.5)], 0.0, 300, 0.01, 1e-3)  # the last, long after the event
@settings(max_examples=150, deadline=None)
def test_the_longest_step_of_a_jump_is_the_longest_of_all_its_steps(
    events: list[Event], began_s: float, steps: int, first_s: float, slope_s: float
) -> None:
    clock = ReplicaClock(events)
    ends = [clock.run_s(Jump(began_s, n, first_s, slope_s).end_s) for n in range(steps + 1)]
    longest_s = clock.longest_step_s(Jump(began_s, steps, first_s, slope_s))
    assert longest_s == pytest.approx(max(b - a for a, b in pairwise(ends)), abs=1e-9)


@given(pauses_and_slows, st.lists(st.floats(0.0, 15.0), min_size=1, max_size=15))
@settings(max_examples=100, deadline=None)
def test_rounding_turns_no_clock_back(events: list[Event], at_s: list[float]) -> None:
    """Whatever is handed in between, an engine's wakes never lie in the past, in the run's time or in its own."""
    bent = [replace(e, factor=e.factor * 1.1) for e in events]
    engines = [Engine(EngineProfile.load("h100-vllm-llama8b").with_changes({"frontend_s": 0.0, "frontend_s_per_token": 0.0}))]
    replica = ClockedReplica(engines, 0, bent)
    heard = [0.0]
    for number, submit_s in enumerate(sorted(at_s)):
        while replica.next_s <= submit_s:
            woken_s, due_s = replica.next_s, engines[0].next_s
            assert replica.own_s(nextafter(woken_s, 0.0)) <= due_s
            replica.on_wake(woken_s)
            assert replica.own_s(woken_s) >= due_s
            heard.append(woken_s)
        heard.append(submit_s)
        before_s = replica.own_s(submit_s)
        replica.submit(Sequence(number, Prompt.of((Segment(number, 100),)), -1, 10), submit_s)
        assert before_s <= replica.own_s(submit_s) <= engines[0].next_s
        assert replica.next_s >= submit_s
    assert heard == sorted(heard)


# Kill ----------------------------------------------------------------------------------------------------------------------


def test_a_killed_replicas_requests_fail_at_once_and_succeed_elsewhere() -> None:
    """One runs and streams (its client tries again), one waits behind it (the router does)."""
    a_cell = cell(guards=(ELSEWHERE,), client=TRYING, changes={"max_running": 1})
    rows, run = under([Event(0.4, "kill", 0, for_s=9.0)], a_cell, single_turns([0.0, 0.01, 0.02, 0.03], output_tokens=100))
    lost = [r for r in rows if r.outcome == "error"]
    assert [(r.request_id, r.replica_id, r.status, r.error) for r in lost] == [
        (0, 0, 0, "connection lost: replica killed"),
        (2, 0, 0, "connection lost: replica killed"),
    ]
    assert {r.ended_us for r in lost} == {r.engine_ended_us for r in lost} == {400_000}
    running, waiting = lost
    assert (running.prefilled_tokens, waiting.prefilled_tokens, waiting.decoded_tokens) == (256, 0, 0)
    assert running.decoded_tokens == pytest.approx(59, abs=4), "0.38 s of steps of 6.5 ms are counted"
    again = {r.request_id: r for r in rows if r.attempt == 2}
    assert [(r.replica_id, r.client_attempt, r.router_try, r.outcome) for _, r in sorted(again.items())] == [
        (1, 2, 1, "ok"),
        (1, 1, 2, "ok"),
    ]
    assert run.client.counts["ok"] == 4
    assert run.events_done[0]["lost"] == 2


def test_a_dead_replica_refuses_connections_and_comes_back_cold() -> None:
    rows, run = under([Event(1.0, "kill", 0, for_s=2.0)], cell(), every(0.25, 24))
    at_zero = [(seconds(r.sent_us), r.outcome, r.cached_tokens) for r in rows if r.replica_id == 0]
    assert at_zero == [
        (0.0, "ok", 0),
        (0.5, "ok", 64),  # the system prompt
        *((t, "refused", 0) for t in (1.0, 1.5, 2.0, 2.5)),
        (3.0, "ok", 0),  # back, and cold
        *((t, "ok", 64) for t in (3.5, 4.0, 4.5, 5.0, 5.5)),
    ]
    no = [r for r in rows if r.outcome == "refused"]
    assert {(r.status, r.error, r.engine_ended_us == r.sent_us) for r in no} == {(0, "connection refused: replica down", True)}
    assert run.events_done == [
        {"t_s": 1.0, "kind": "kill", "replica": 0, "for_s": 2.0, "lost": 0, "refused": 4, "polls_lost": 4, "probes_lost": 0}
    ]


def test_a_dead_replicas_gauges_are_zero_and_its_counters_never_fall() -> None:
    a_cell = cell(replicas=1, client=TRYING, changes={"max_running": 2})
    _, run = under([Event(1.5, "kill", 0, for_s=2.0)], a_cell, every(0.05, 60, output_tokens=100))
    samples = run._recorder.samples
    busy = {s.t_us // 1_000_000: s.running > 0 and s.waiting > 0 and s.kv_used > 0 and (s.queue_age_us or 0) > 0 for s in samples}
    assert [busy[t] for t in (1, 2, 3, 4)] == [True, False, False, True]
    down = [(s.running, s.waiting, s.kv_used, s.queue_age_us) for s in samples if s.t_us in (2_000_000, 3_000_000)]
    assert down == [(0, 0, 0.0, 0)] * 2
    for name in ("prefix_query_tokens", "prefix_hit_tokens", "preemptions"):
        told = [getattr(s, name) for s in samples]
        assert told == sorted(told)
    assert samples[-1].prefix_query_tokens > samples[2].prefix_query_tokens > 0


def test_a_dead_replica_tells_nothing() -> None:
    _, run = under([Event(1.0, "kill", 0, for_s=100.0)], cell(), every(0.25, 16))
    assert [v.observed_s for v in run.routers[0].views] == [0.5, pytest.approx(3.5, abs=0.6)]
    assert all(v.healthy for v in run.routers[0].views), "nobody checks health in virtual time"


def test_a_breaker_notices_a_dead_replica() -> None:
    guards = (ELSEWHERE, ("breaker", {"failures": 2, "open_s": 2.0, "successes": 1}))
    rows, run = under([Event(1.0, "kill", 0, for_s=3.0)], cell(guards=guards), every(0.1, 80))
    assert [r.attempt for r in rows if r.outcome == "refused"] == [1] * 3, "two open it, one more when it is tried again"
    assert run.client.counts["ok"] == 80
    assert {r.replica_id for r in rows[-10:]} == {0, 1}


def test_the_later_return_of_two_kills_counts() -> None:
    for order in (1, -1):
        events = [Event(1.0, "kill", 0, for_s=3.0), Event(2.0, "kill", 0, for_s=0.5)][::order]
        rows, run = under(events, cell(replicas=1), every(0.5, 12))
        assert [rows[i].sent_us for i in refused(rows)] == [1_000_000 + 500_000 * i for i in range(6)]
        assert [done["refused"] for done in run.events_done] == [6, 0]


def test_a_replica_killed_while_slow_is_still_slow_when_it_is_back() -> None:
    """The slow stretch belongs to the machine, not to the process."""
    slow = Event(0.0, "slow", 0, for_s=100.0, factor=2.0)
    rows, _ = under([slow, Event(1.0, "kill", 0, for_s=1.0)], cell(replicas=1, client=TRYING), single_turns([0.9, 2.5]))
    plain, _ = under([], cell(replicas=1), single_turns([2.5]))
    assert [(r.request_id, r.outcome) for r in rows][:2] == [(0, "error"), (0, "refused")]
    alone = next(r for r in rows if r.request_id == 1)
    assert seconds(alone.ended_us) - 2.5 == pytest.approx(2 * (seconds(plain[0].ended_us) - 2.5), abs=0.01)


def test_all_replicas_killed_at_once_send_nothing_to_each_other() -> None:
    rows, run = under([Event(0.2, "kill", None, for_s=1.0)], cell(guards=(ELSEWHERE,)), every(0.01, 10, output_tokens=500))
    assert {r.outcome for r in rows if seconds(r.sent_us) < 0.2} == {"error"}
    assert run.events_done[0]["lost"] == 10
    assert all(v.in_flight == v.in_flight_tokens == 0 for v in run.routers[0].views)


def test_a_lost_orphan_is_not_answered_twice() -> None:
    """Its client has given up and left the stream open; the replica dies with it."""
    rule = RetryRule("orphans", ttft_timeout_s=0.1, max_attempts=1, cancel=False)
    a_cell = cell(client=rule, replicas=1, changes={"max_running": 1})
    rows, run = under([Event(0.3, "kill", 0, for_s=1.0)], a_cell, single_turns([0.0, 0.01], output_tokens=100))
    assert [(r.outcome, r.ended_us, r.engine_ended_us) for r in rows] == [
        ("error", 300_000, 300_000),
        ("timeout", 110_000, 300_000),
    ]
    assert run.client.counts["failed"] == 2


@pytest.mark.parametrize("half", [0, 1], ids=["prefill", "decode"])
def test_either_half_of_a_pair_can_die(half: int) -> None:
    a_cell = cell("pd_pair", roles=("prefill", "decode"), client=replace(TRYING, max_attempts=10))
    rows, run = under([Event(0.21, "kill", half, for_s=1.0)], a_cell, every(0.02, 20, output_tokens=50))
    lost = [r for r in rows if r.outcome == "error"]
    assert lost
    assert run.events_done[0]["lost"] == len(lost)
    assert run.client.counts["ok"] == 20
    assert all(v.in_flight == 0 for v in run.routers[0].views)


# Flush ---------------------------------------------------------------------------------------------------------------------


def test_a_flush_drops_the_hits_which_then_recover() -> None:
    rows, run = under([Event(1.1, "flush", 0)], cell(replicas=1), every(0.25, 8))
    assert [r.cached_tokens for r in rows] == [0, 64, 64, 64, 64, 0, 64, 64]
    (done,) = run.events_done
    assert done == {"t_s": 1.1, "kind": "flush", "replica": 0, "flushed_tokens": 64 + 5 * 192}


def test_a_flush_leaves_what_runs_alone() -> None:
    ((plain,), _), ((row,), run) = under([], cell(replicas=1), LONG), under([Event(0.3, "flush")], cell(replicas=1), LONG)
    assert astuple(row) == astuple(plain)
    assert run.events_done[0]["flushed_tokens"] == 0, "all blocks are held"


# Refuse --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_refusals_last_as_long_as_they_should(status: int) -> None:
    rows, run = under([Event(1.0, "refuse", 0, for_s=2.0, status=status)], cell(), every(0.25, 20))
    assert refused(rows) == [4, 6, 8, 10], "every other one goes to replica 0: at 1.0, 1.5, 2.0 and 2.5 s"
    assert {(r.status, r.error) for r in rows if r.outcome == "refused"} == {(status, f"refused with {status} by an event")}
    assert (run.events_done[0]["submissions"], run.events_done[0]["refused"]) == (4, 4)


def test_a_refusal_is_retried_elsewhere() -> None:
    rows, run = under([Event(0.0, "refuse", 0, for_s=50.0)], cell(guards=(ELSEWHERE,)), every(0.25, 20))
    assert len(refused(rows)) == 20, "after each retry it is replica 0's turn again"
    assert run.client.counts["ok"] == 20


def test_a_share_is_refused_and_the_same_ones_whatever_else_happens() -> None:
    half = Event(0.0, "refuse", 0, for_s=50.0, share=0.5)
    workload = every(0.01, 400)
    rows, run = under([half], cell(), workload)
    assert run.events_done[0]["submissions"] == 200
    assert pytest.approx(len(refused(rows)), abs=4 * (200 * 0.25) ** 0.5) == 200 * 0.5
    disturbed = [half, Event(1.0, "flush"), Event(0.5, "pause", 0, for_s=1.0)]
    assert refused(under(disturbed, cell(), workload)[0]) == refused(rows)
    assert refused(under([half], replace(cell(), seed=2), workload)[0]) != refused(rows)
    assert refused(under([replace(half, share=0.0)], cell(), workload)[0]) == []


# Blackout ------------------------------------------------------------------------------------------------------------------


def test_in_a_blackout_the_news_grows_old_and_then_it_is_fresh_again() -> None:
    dark = Event(1.0, "blackout", 0, for_s=100.0)
    rows, run = under([dark], cell("least_outstanding"), every(0.25, 16))
    assert [v.observed_s for v in run.routers[0].views] == [0.5, pytest.approx(3.5, abs=0.6)]
    assert {r.outcome for r in rows} == {"ok"}, "nothing else happens"
    assert run.events_done[0]["polls_lost"] == 6
    _, run = under([replace(dark, for_s=1.0)], cell("least_outstanding"), every(0.25, 16))
    assert run.routers[0].views[0].observed_s == run.routers[0].views[1].observed_s
    assert run.events_done[0]["polls_lost"] == 2, "at 1.0 and 1.5 s"


@pytest.mark.parametrize("kind", ["blackout", "kill"])
def test_probes_get_no_answer(kind: str) -> None:
    events = [Event(0.0, kind, 0, for_s=100.0)]
    rows, run = under(events, cell("prequal", guards=(ELSEWHERE,)), every(0.05, 40))
    decided = [d for d in run._recorder.decisions if d.reason != "too few answers: drawn"]
    assert len(decided) > 30
    assert {d.replica_id for d in decided} == {1}, "only replica 1 answers"
    assert run.events_done[0]["probes_lost"] == 40
    assert run.client.counts["ok"] == len({r.request_id for r in rows}) == 40


# The oracle ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", ["ttft", "e2e"])
@pytest.mark.parametrize(
    "event",
    [Event(1.0, "kill", 0, for_s=2.0), Event(1.0, "pause", 0, for_s=2.0), Event(1.0, "slow", 0, for_s=2.0, factor=50.0)],
)
def test_the_oracle_knows_the_truth(event: Event, least: str) -> None:
    rows, _ = under([event], cell("oracle", least=least), every(0.25, 20))
    went = {seconds(r.sent_us): r.replica_id for r in rows}
    assert {went[t] for t in went if t < 1.0} == {0}, "ties go to the lowest id"
    assert {went[t] for t in went if 1.0 <= t < 2.75} == {1}
    assert {went[t] for t in went if t >= 3.0} == {1 if event.kind == "kill" else 0}, "after a kill replica 0 is cold"
    assert {r.outcome for r in rows} == {"ok"}


# The list of events --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["round_robin", "oracle", "prequal"])
def test_events_after_the_end_change_nothing_and_are_said_to_be_skipped(router: str) -> None:
    workload = every(0.1, 20)
    plain, without = under([], cell(router), workload)
    late = [Event(1e4 + i, kind, for_s=5.0) for i, kind in enumerate(EVENTS)]
    rows, run = under(late, cell(router), workload)
    assert [astuple(r) for r in rows] == [astuple(r) for r in plain]
    assert [astuple(s) for s in run._recorder.samples] == [astuple(s) for s in without._recorder.samples]
    assert [astuple(d) for d in run._recorder.decisions] == [astuple(d) for d in without._recorder.decisions]
    assert [(e["kind"], e["skipped"][:16]) for e in run.events_done] == [(k, "the run ended at") for k in EVENTS]
    assert without.events_done == []


def test_events_are_recorded_in_order_of_time() -> None:
    events = [Event(t, "flush", replica) for t, replica in ((2.0, 1), (0.5, None), (1.0, 0), (500.0, 0))]
    _, run = under(events, cell(), every(0.25, 16))
    assert [(e["t_s"], e["replica"], "skipped" in e) for e in run.events_done] == [
        (0.5, None, False),
        (1.0, 0, False),
        (2.0, 1, False),
        (500.0, 0, True),
    ]


@pytest.mark.parametrize("replica_id", [2, -1])
def test_an_event_outside_the_pool_is_refused(replica_id: int) -> None:
    events = [Event(1.0, "flush"), Event(3.0, "kill", replica_id, for_s=1.0)]
    line = rf"events\[1\]\.replica_id is {replica_id} \(kill at 3 s\); allowed: 0 to 1, or null for every replica"
    with pytest.raises(ValueError, match=line):
        under(events, cell(), every(0.25, 4))


def test_the_wall_clock_driver_refuses_events() -> None:
    workload = replace(LONG, events=(Event(1.0, "flush"),))
    with pytest.raises(ValueError, match=r"^events are executed in virtual time only so far; the workload has 1$"):
        LiveRun(cell(replicas=1), workload, [1], Recorder(), 0.0)


EVERYTHING = [
    Event(0.5, "slow", 0, for_s=3.0, factor=3.0),
    Event(0.8, "pause", 0, for_s=0.5),
    Event(1.0, "kill", 0, for_s=1.0),
    Event(1.0, "blackout", None, for_s=2.0),
    Event(1.2, "refuse", 1, for_s=1.0, share=0.3, status=429),
    Event(1.5, "flush"),
]


def test_the_same_seed_gives_the_same_rows_and_records() -> None:
    a_cell = cell("power_of_two", guards=(ELSEWHERE,), client=replace(TRYING, ttft_timeout_s=1.0, jitter=0.2, cancel=False))
    runs = [under(EVERYTHING, c, every(0.02, 150)) for c in (a_cell, a_cell, replace(a_cell, seed=2))]
    told = [([astuple(r) for r in rows], json.dumps(run.events_done)) for rows, run in runs]
    assert told[0] == told[1]
    assert told[0] != told[2]
    assert runs[0][1].events_done[2]["lost"] > 0
    assert runs[0][1].events_done[4]["refused"] > 0


any_event = st.builds(
    Event,
    st.integers(0, 400).map(lambda n: n / 100),
    st.sampled_from(sorted(EVENTS)),
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([0.001, 0.05, 0.7, 3.0, 1000.0]),
    st.sampled_from([1.0, 2.0, 13.0]),
    st.sampled_from([429, 503]),
    st.sampled_from([0.2, 1.0]),
)
any_cell = st.builds(
    lambda router, guards, client, changes: cell(router, guards, client, 3, changes=changes),
    st.sampled_from(["round_robin", "power_of_two", "cache_aware", "prequal", "oracle", "least_outstanding"]),
    st.sampled_from(
        [(), (ELSEWHERE,), (ELSEWHERE, ("breaker", {"failures": 2, "open_s": 0.5})), (("replica_queue", {"cap": 3}), ELSEWHERE)]
    ),
    st.builds(
        lambda timeout_s, attempts, cancel: RetryRule("r", timeout_s, None, None, attempts, 0.1, cancel=cancel),
        st.sampled_from([None, 0.3]),
        st.sampled_from([1, 3, None]),
        st.booleans(),
    ),
    st.sampled_from(
        [{}, {"max_running": 3, "max_queued": 4}, {"kv_blocks": 64, "context_tokens": 1000, "max_batched_tokens": 512}]
    ),
)


@given(st.lists(any_event, max_size=8), any_cell)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_every_request_has_one_end(events: list[Event], a_cell: Cell) -> None:
    turns = (Segment(7, 64), Segment(500, 200)), (Segment(7, 64), Segment(500, 200), Segment(60, 30), Segment(501, 40))
    session = tuple(Request(i, 0, i, None if i else 0.1, 0.2 if i else None, s, 60 + i, 30, 0) for i, s in enumerate(turns))
    alone = [replace(r, request_id=r.request_id + 2, session_id=r.request_id + 1) for r in every(0.05, 50, 20).requests]
    workload = every(0.05, 50).sending((*session, *alone))
    rows, run = under(events, replace(a_cell, drain_s=20.0), workload)
    for row in rows:
        known = [t for t in (row.scheduled_us, row.sent_us, row.first_token_us, row.ended_us) if t is not None]
        assert known == sorted(known) or row.error == "client gave up before it was sent"
        assert row.outcome != "ok" or (row.decoded_tokens, row.status) == (row.output_tokens, 200)
    for replica_id, engine in enumerate(run.engines):
        samples = [s for s in run._recorder.samples if s.replica_id == replica_id]
        told = [(s.prefix_query_tokens, s.prefix_hit_tokens, s.preemptions) for s in samples]
        assert all(a <= b for one, two in pairwise(told) for a, b in zip(one, two, strict=True))
        if not run.client.counts["censored"] and not run._live:
            assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0.0)
    assert [e["t_s"] for e in run.events_done] == sorted(e.at_s for e in events)
