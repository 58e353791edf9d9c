"""fair_vtc: counters, the queue that holds, and who goes first."""

from collections import Counter
from dataclasses import replace

import pytest

from replicas.profile import EngineProfile
from routers.factory import build_router
from routers.lines.fair_queue import FairQueueGuard
from routers.policies import build_policy
from routers.policies.fair_vtc import FairVtc, VirtualCounters
from routers.policy import Decision, RoutedRequest, TryEnd
from routers.router import Router
from tests.routers.fake_driver import FakeDriver, context, request, views


def asked(rid: int, tenant: int, prompt_tokens: int = 100, **more: float) -> RoutedRequest:
    return replace(request(rid, (rid, prompt_tokens), **more), tenant=tenant)  # type: ignore[arg-type]


def vtc(**parameters: object) -> FairVtc:
    policy = build_policy("fair_vtc", context(2, 1, **parameters))
    assert isinstance(policy, FairVtc)
    return policy


def router(name: str = "fair_vtc", n: int = 1, **parameters: object) -> tuple[Router, FakeDriver]:
    driver = FakeDriver()
    made = build_router(name, parameters, [], views(n), driver, 1)
    driver.router = made
    return made, driver


def finish(made: Router, driver: FakeDriver, place: int, now_s: float = 1.0, output_tokens: int = 0) -> None:
    made.on_try_end(driver.sent[place].try_id, True, 200, now_s, output_tokens=output_tokens)


def order(driver: FakeDriver) -> list[int]:
    return [t.request.tenant for t in driver.sent]


@pytest.mark.parametrize(
    ("parameters", "end", "after_send", "after_end"),
    [
        ({}, TryEnd(True, 200, 0, 1, True, 30), 100, 100 + 2 * 30),  # w_p = 1, w_q = 2
        ({"prompt_weight": 0.5, "output_weight": 3.0}, TryEnd(True, 200, 0, 1, True, 30), 50, 50 + 90),
        ({"expected_output_tokens": 50}, TryEnd(True, 200, 0, 1, True, 30), 200, 160),  # charged before, put right at the end
        ({"tenant_weights": [1, 4]}, TryEnd(True, 200, 0, 1, True, 30), 25, 40),
        ({}, TryEnd(False, 503, 0, 1), 100, 0),  # refused: not served
        ({}, TryEnd(False, 0, 0, 1), 100, 100),  # hung up: nobody knows what was served
        ({}, TryEnd(False, 0, 0, 1, True, 10), 100, 120),  # broke off while streaming
    ],
)
def test_a_tenant_is_charged_for_prompt_and_output(
    parameters: dict[str, object], end: TryEnd, after_send: float, after_end: float
) -> None:
    policy = vtc(**parameters)
    policy.on_sent(asked(1, 1), Decision(0), 0.0)
    assert policy._counters.served == {1: after_send}
    policy.on_end(asked(1, 1), Decision(0), end, 1.0)
    assert policy._counters.served == {1: after_end}


def test_the_queue_holds_only_while_every_replica_is_full() -> None:
    made, driver = router(n=2, cap=2)
    for rid in range(6):
        made.on_request(asked(rid, 0), 0.0)
    assert (len(driver.sent), made.held_requests) == (4, 2)
    assert Counter(driver.routes) == {0: 2, 1: 2}
    finish(made, driver, 0)
    assert driver.routes[4] == driver.routes[0]  # where room is
    assert made.held_requests == 1


def test_the_least_counter_is_next() -> None:
    """Tenant 0 floods, tenant 1 asks for little: 1 is next whenever it waits, though it came last."""
    made, driver = router(cap=1)
    for rid in range(5):
        made.on_request(asked(rid, 0, 1000), 0.0)
    made.on_request(asked(10, 1, 100), 0.1)
    made.on_request(asked(11, 1, 100), 0.1)
    for place in range(6):
        finish(made, driver, place)
    # 1 came back lifted to the counter of the only one waiting, 0: it was 1000 then, and is so for both: the lowest id first
    assert order(driver) == [0, 0, 1, 1, 0, 0, 0]
    assert made.policy._counters.served == {0: 5000.0, 1: 1200.0}  # type: ignore[attr-defined]


def test_outputs_count_twice_and_decide_too() -> None:
    made, driver = router(cap=1)
    for rid, tenant in enumerate((0, 0, 0, 1, 1)):
        made.on_request(asked(rid, tenant, 100), 0.0)
    finish(made, driver, 0, output_tokens=500)  # tenant 0: 100 + 1000; tenant 1, lifted to 100 when it came
    assert order(driver) == [0, 1]
    finish(made, driver, 1)
    assert order(driver) == [0, 1, 1]


def test_backlogged_tenants_are_served_alike_whatever_they_send() -> None:
    """The theorem: while two tenants wait, their counters stay within one request's cost of each other."""
    made, driver = router(cap=1)
    for rid in range(300):
        made.on_request(asked(2 * rid, 0, 1000), 0.0)
        for piece in range(3):
            made.on_request(asked(10_000 + 3 * rid + piece, 1, 100), 0.0)
    for place in range(400):
        finish(made, driver, place)
        served = made.policy._counters.served  # type: ignore[attr-defined]
        assert abs(served[0] - served[1]) <= 1000
    tokens = Counter[int]()
    for attempt in driver.sent:
        tokens[attempt.request.tenant] += attempt.request.prompt.tokens
    assert abs(tokens[0] - tokens[1]) <= 2000


def test_who_comes_back_is_lifted_and_gains_nothing_by_having_been_away() -> None:
    counters = VirtualCounters()
    counters.served = {0: 500.0, 1: 900.0, 2: 10.0}
    counters.enters(2, (0, 1))
    assert counters.served[2] == 500.0  # the least of those who wait
    counters.enters(1, (0, 2))
    assert counters.served[1] == 900.0  # nobody is lowered
    counters.leaves(1)
    counters.enters(3, ())
    assert counters.served[3] == 900.0  # nobody waits: as the one who left last
    assert VirtualCounters().served == {}


def test_first_come_first_served_within_a_tenant_and_a_full_queue_refuses() -> None:
    made, driver = router(cap=1, max_length=2)
    for rid in range(4):
        made.on_request(asked(rid, 0), 0.0)
    assert driver.answers[3].status == 503
    finish(made, driver, 0)
    finish(made, driver, 1)
    assert [t.request.rid for t in driver.sent] == [0, 1, 2]


def test_a_held_request_leaves_at_its_deadline_or_when_its_client_hangs_up() -> None:
    made, driver = router(cap=1)
    made.on_request(asked(0, 0), 0.0)
    made.on_request(asked(1, 0, deadline_s=5.0), 0.0)
    made.on_request(asked(2, 0, deadline_s=3.0), 0.0)
    made.on_request(asked(3, 1), 0.0)
    made.on_cancel(3, 1.0)
    assert made.next_wake_s() == 3.0
    made.on_wake(3.0)
    assert driver.answers[2].status == 408
    assert made.next_wake_s() == 5.0
    finish(made, driver, 0)
    assert driver.last.request.rid == 1
    assert (made.held_requests, made.next_wake_s()) == (0, float("inf"))
    guard = made.guards[-1]
    assert isinstance(guard, FairQueueGuard)
    assert not guard._waiting
    assert not guard._lines
    assert not guard._lengths


def test_it_stands_after_the_other_guards_and_a_retry_waits_in_line_again() -> None:
    driver = FakeDriver()
    made = build_router("fair_vtc", {"cap": 1}, [("retry", {"backoff_s": 0.0})], views(1), driver, 1)
    for rid, tenant in ((0, 0), (1, 1)):
        made.on_request(asked(rid, tenant), 0.0)
    made.on_try_end(driver.sent[0].try_id, False, 503, 1.0)
    assert order(driver) == [0, 1]  # the retry of 0 comes by the timer, behind the one that waits
    made.on_wake(made.next_wake_s())
    assert made.held_requests == 1
    finish(made, driver, 1, 3.0)
    assert order(driver) == [0, 1, 0]


@pytest.mark.parametrize("name", ["fair_vtc", "dlpm"])
@pytest.mark.parametrize(
    ("cap", "profile", "places"), [(None, None, 64), (None, "h100-vllm-llama8b", 256), (3, "h100-vllm-llama8b", 3)]
)
def test_the_queue_holds_when_the_engines_batches_are_full(name: str, cap: int | None, profile: str | None, places: int) -> None:
    """A lower number would leave engines idle while requests wait for fairness' sake."""
    driver = FakeDriver()
    engine = None if profile is None else EngineProfile.load(profile)
    made = build_router(name, {"cap": cap}, [], views(1), driver, 1, profile=engine)
    for rid in range(places + 5):
        made.on_request(request(rid), 0.0)
    assert (len(driver.sent), made.held_requests) == (places, 5)
