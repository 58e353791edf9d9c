"""Guards in front of simulated engines: the lock-out and its cures, and the usual stack, conserved and repeatable."""

from dataclasses import astuple
from typing import Any

import pytest

from tests.replay.scenes import cell, single_turns
from tests.replay.test_virtual import burst, replayed

Guards = tuple[tuple[str, dict[str, Any]], ...]
USUAL: Guards = (
    ("client_throttle", {}),
    ("slo_shed", {"ttft_s": 3.0}),
    ("queue", {"cap": 100}),
    ("retry", {"bucket": 5.0}),
    ("ejection", {"slow_start_s": 5.0}),
    ("breaker", {"count_429": False}),
    ("replica_queue", {"cap": None, "max_length": None}),
    ("token_backlog", {"per_replica": 4096}),
    ("concurrency", {"per_replica": 12}),
)


@pytest.mark.parametrize(
    ("guards", "refused_later"),
    [
        ((("retry", {}), ("breaker", {})), 40),  # the wheels' defaults
        ((), 0),
        ((("retry", {}), ("ejection", {"max_ejected": 0.5})), 0),
        ((("retry", {}), ("breaker", {}), ("concurrency", {"per_replica": 12})), 0),  # the engines never refuse: nothing opens
        ((("replica_queue", {"cap": 12, "max_length": None}), ("retry", {}), ("breaker", {})), 0),
    ],
)
def test_a_burst_that_fills_the_engines_queues_locks_a_healthy_pool_out(guards: Guards, refused_later: int) -> None:
    """400 requests in a second to engines that take 12 each; twenty seconds later all is idle, and 40 more come."""
    arrivals_s = [i / 400 for i in range(400)] + [20 + i / 4 for i in range(40)]
    workload = single_turns(arrivals_s, output_tokens=60)
    changes = {"max_running": 8, "max_queued": 12}
    rows, _ = replayed(cell("cache_aware", guards, replicas=4, changes=changes), workload)
    later = [r for r in rows if r.scheduled_us is not None and r.scheduled_us >= 20e6]
    assert len({r.request_id for r in later}) == 40
    assert sum(r.outcome == "refused" and r.router_try == 0 for r in later) == refused_later
    assert sum(r.outcome == "ok" for r in later) == 40 - refused_later


def test_the_usual_stack_is_conserved_and_the_same_seed_gives_the_same_rows() -> None:
    a_cell = cell("least_outstanding", USUAL, replicas=3, changes={"max_running": 8, "max_queued": 20})
    one, run = replayed(a_cell, burst(1))
    two, _ = replayed(a_cell, burst(1))
    assert [astuple(r) for r in one] == [astuple(r) for r in two]
    assert (run.router.open_requests, run.router.held_requests) == (0, 0)
    served = [r for r in one if r.outcome == "ok"]
    late = [r for r in served if r.first_token_us is not None and r.first_token_us - (r.scheduled_us or 0) > 3.5e6]
    assert len(served) > 200
    assert late == [], "who is let in is served in time"
