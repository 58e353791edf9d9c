"""What caches tell reaches the routers: on time, late, not at all, and anew after a loss."""

from dataclasses import replace

import pytest

from replay.cell import Cell
from replay.observation import ObservationRule
from replay.recorder import Recorder
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from routers.policy import KvEvent
from tests.replay.scenes import cell, sharing
from workloads.events import Event
from workloads.workload import Workload


def run_of(workload: Workload, **observation: float) -> VirtualRun:
    rule = ObservationRule(**{"age_s": 0.5, **observation})  # type: ignore[arg-type]
    a_cell: Cell = replace(cell("kv_cost", replicas=3, index="exact"), observation=rule)
    run = VirtualRun(a_cell, workload, EngineProfile.load(a_cell.pool.profile), Recorder(), record_inputs=True)
    run.run()
    return run


def heard(run: VirtualRun, router: int = 0) -> list[tuple[int, KvEvent]]:
    return [(e.arguments[0], e.arguments[1]) for e in run.inputs[router] if e.name == "on_kv_event"]


def believed(events: list[tuple[int, KvEvent]], replica_id: int) -> dict[int, int]:
    """What a reader knows who takes every event at its word."""
    known: dict[int, int] = {}
    for replica, event in events:
        if replica == replica_id:
            known = {} if event.cleared else known
            known |= dict(event.now_cached)
    return {key: tokens for key, tokens in known.items() if tokens}


def hit_share(run: VirtualRun) -> float:
    counters = [e.counters for e in run.engines]
    return sum(c.prefix_hit_tokens for c in counters) / sum(c.prefix_query_tokens for c in counters)


def test_every_event_comes_in_order_and_tells_the_truth_in_the_end() -> None:
    run = run_of(sharing(60))
    for replica_id, engine in enumerate(run.engines):
        numbers = [event.number for replica, event in heard(run) if replica == replica_id]
        assert numbers == list(range(1, len(numbers) + 1)), "no gap, no loop"
        log = engine.cache_log
        assert log is not None
        assert believed(heard(run), replica_id) == dict(log.everything().now_cached)


def test_news_that_comes_late_or_never_costs_hits() -> None:
    on_time, late, never = (hit_share(run_of(sharing(60), **o)) for o in ({}, {"kv_lag_s": 20.0}, {"kv_loss": 1.0}))
    assert on_time > late
    assert on_time > never


def test_after_a_loss_the_whole_cache_is_told() -> None:
    run = run_of(sharing(60), kv_loss=0.2, routers=2)
    for router in range(2):
        cleared = [event for _, event in heard(run, router) if event.cleared]
        assert cleared, "asked for everything"
        numbers = [event.number for replica, event in heard(run, router) if replica == 0]
        assert numbers == sorted(set(numbers))
        assert len(numbers) < numbers[-1], "some were lost"


@pytest.mark.parametrize("kind", ["kill", "flush"])
def test_a_replica_that_forgets_says_so(kind: str) -> None:
    event = Event(6.0, kind, replica_id=1, for_s=0.5 if kind == "kill" else 0.0)
    run = run_of(replace(sharing(60), events=(event,)))
    forgotten = [e for replica, e in heard(run) if replica == 1 and (e.cleared or any(not n for _, n in e.now_cached))]
    assert forgotten
    log = run.engines[1].cache_log
    assert log is not None
    assert believed(heard(run), 1) == dict(log.everything().now_cached)
