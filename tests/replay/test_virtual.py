"""The virtual-time driver: repeatable bit for bit, conserving, and honest about work for nobody."""

import gc
from dataclasses import astuple, replace
from itertools import pairwise

import pytest

from replay.cell import Cell
from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.rows import Attempt
from replay.virtual import VirtualRun
from replay.virtual_cell import NotConserved, check_conservation
from replicas.profile import EngineProfile
from tests.replay.scenes import cell, conversation, single_turns
from workloads.draws import generator
from workloads.workload import Workload

FOREVER = RetryRule("for ever", ttft_timeout_s=1.0, max_attempts=None, backoff_s=0.5, cancel=False)


def replayed(a_cell: Cell, workload: Workload) -> tuple[list[Attempt], VirtualRun]:
    recorder = Recorder()
    profile = EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes)
    run = VirtualRun(a_cell, workload, profile, recorder)
    run.run()
    check_conservation(run.client.counts, recorder)
    return recorder.attempts, run


def burst(seed: int, n: int = 400, span_s: float = 4.0) -> Workload:
    return single_turns(sorted(generator(seed, "test burst").uniform(0, span_s, n).tolist()), output_tokens=60)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    a_cell = cell("power_of_two", client=FOREVER, changes={"max_running": 8})
    rows = [[astuple(r) for r in replayed(c, burst(s))[0]] for c, s in ((a_cell, 1), (a_cell, 1), (a_cell, 2))]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
    other_seed = [astuple(r) for r in replayed(replace(a_cell, seed=2), burst(1))[0]]
    assert rows[0] != other_seed, "the cell's seed moves the policy's draws and the backoff"


def test_orphaned_work_is_done_to_its_end_and_cancelled_work_is_not() -> None:
    orphans, _ = replayed(cell(client=FOREVER, replicas=1, changes={"max_running": 4}), burst(1))
    cancelled, _ = replayed(cell(client=replace(FOREVER, cancel=True), replicas=1, changes={"max_running": 4}), burst(1))

    def wasted(rows: list[Attempt]) -> int:
        return sum(r.decoded_tokens for r in rows if r.outcome == "timeout")

    assert wasted(orphans) > 3 * wasted(cancelled), "what waits is freed; what was admitted within the cancel lag is not"
    for row in orphans:
        if row.outcome == "timeout" and row.engine_ended_us is not None:
            assert row.ended_us is not None
            assert row.engine_ended_us >= row.ended_us
            assert row.first_token_us is None


def test_everything_returns_to_zero_when_the_pool_is_left_alone() -> None:
    _, run = replayed(cell(client=replace(FOREVER, cancel=True), changes={"max_running": 16}), burst(3, n=200))
    for engine in run.engines:
        assert (engine.running, engine.waiting, engine.waiting_tokens, engine.kv_tokens(1e9)) == (0, 0, 0, 0)
        assert engine.cache.used == 0
    assert run.router.open_requests == 0
    assert all(v.in_flight == v.in_flight_tokens == 0 for v in run.routers[0].views)


def test_what_is_still_open_after_the_drain_is_censored() -> None:
    slow = cell(client=replace(FOREVER, max_attempts=1, ttft_timeout_s=None), replicas=1, changes={"max_running": 1})
    rows, run = replayed(replace(slow, drain_s=1.0), burst(1))
    assert run.client.counts["censored"] > 0
    assert {r.outcome for r in rows} == {"ok", "censored"}
    assert all(r.ended_us is None for r in rows if r.outcome == "censored")


def test_a_request_that_waits_for_its_next_attempt_at_the_end_is_censored() -> None:
    rule = replace(FOREVER, backoff_s=50.0, backoff_max_s=50.0, ttft_timeout_s=0.5)
    rows, run = replayed(cell(client=rule, replicas=1, changes={"max_running": 1}), single_turns([0.0, 0.0], output_tokens=200))
    assert run.client.counts["censored"] == 1
    last = rows[-1]
    assert (last.outcome, last.client_attempt, last.sent_us, last.error) == ("censored", 0, None, "waiting for its next attempt")
    assert last.attempt == 2


def test_a_later_turn_finds_its_history_in_the_cache() -> None:
    rows, _ = replayed(cell(replicas=1), conversation(3))
    for before, row in pairwise(rows):
        assert row.cached_tokens == (before.prompt_tokens + before.output_tokens - 1) // 16 * 16


def test_a_full_queue_refuses_and_the_client_hears_the_status() -> None:
    once = RetryRule("once", ttft_timeout_s=None, max_attempts=1)
    rows, _ = replayed(cell(client=once, replicas=1, changes={"max_queued": 2, "max_running": 1}), burst(1, n=50, span_s=0.1))
    refused = [r for r in rows if r.outcome == "refused"]
    assert refused
    assert {(r.status, r.error) for r in refused} == {(503, "engine queue full")}


def test_a_prompt_beyond_the_context_is_refused_as_a_bad_request() -> None:
    once = RetryRule("once", ttft_timeout_s=None, max_attempts=1)
    rows, _ = replayed(cell(client=once, changes={"context_tokens": 200}), single_turns([0.0]))
    assert (rows[0].outcome, rows[0].status) == ("refused", 400)


def test_an_idle_timeout_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ValueError, match="idle_timeout_s"):
        replayed(cell(client=RetryRule("idle", idle_timeout_s=1.0)), single_turns([0.0]))


def test_the_books_are_right_in_the_middle_of_a_jump() -> None:
    """Ten sequences decode for long without anything changing: gauges and work done follow the clock, not the jump's start."""
    forever = RetryRule("patient", ttft_timeout_s=None, max_attempts=1)
    a_cell = replace(cell(client=forever, replicas=1), drain_s=9.0)
    recorder = Recorder()
    profile = EngineProfile.load(a_cell.pool.profile).with_changes({"frontend_jitter_s": 0.0})
    run = VirtualRun(a_cell, single_turns([0.0] * 10, output_tokens=4000), profile, recorder)
    assert run.run() == 10.0
    assert {r.outcome for r in recorder.attempts} == {"censored"}
    decoded = [r.decoded_tokens for r in recorder.attempts]
    assert len(set(decoded)) == 1
    seconds_a_token = 9.9 / decoded[0]
    assert 0.006 < seconds_a_token < 0.0085, "10 s of steps of about 7 ms"
    used = [s.kv_used for s in recorder.samples][1:]
    assert used == sorted(used)
    assert len(set(used)) == len(used), "the KV grows by the second"
    blocks = -(-(256 + decoded[0]) // 16) * 10 - 9 * 4  # the system prompt's four blocks are shared
    assert run.engines[0].kv_used(10.0) == pytest.approx(blocks / profile.kv_blocks, rel=0.02)


@pytest.mark.parametrize("cancel", [True, False])
def test_a_replay_leaves_nothing_to_the_collector_and_turns_it_on_again(cancel: bool) -> None:
    """Reference counts free what is over: a cycle would grow with the run, since nobody collects meanwhile."""
    a_cell = cell(client=replace(FOREVER, cancel=cancel), guards=(("retry", {}),), changes={"max_running": 8, "max_queued": 20})
    run = VirtualRun(a_cell, burst(1), EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes), Recorder())
    gc.collect()
    gc.disable()
    try:
        run.run()
        assert not gc.isenabled(), "as it was before"
        assert gc.collect() == 0
    finally:
        gc.enable()
    replayed(cell(), single_turns([0.0]))
    assert gc.isenabled()


def test_a_lost_request_is_noticed() -> None:
    _, run = replayed(cell(), single_turns([0.0, 0.1]))
    recorder = Recorder()
    counts = dict(run.client.counts, ok=1, scheduled=1)  # as if one had never been started
    with pytest.raises(NotConserved, match="planned 2 is not scheduled 1"):
        check_conservation(counts, recorder)
