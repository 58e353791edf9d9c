"""dlpm: credit, prefixes, and the balance between them."""

from collections import Counter
from dataclasses import replace

import pytest

from routers.books.deficits import Deficits
from routers.factory import build_router
from routers.policies import build_policy
from routers.policies.dlpm import Dlpm
from routers.policy import Decision, RoutedRequest, TryEnd
from tests.routers.fake_driver import FakeDriver, context, loaded, request, views


def asked(rid: int, tenant: int, *segments: tuple[int, int]) -> RoutedRequest:
    return replace(request(rid, *segments), tenant=tenant)


def dlpm(n: int = 3, **parameters: object) -> Dlpm:
    policy = build_policy("dlpm", context(n, 1, **parameters))
    assert isinstance(policy, Dlpm)
    return policy


def send(policy: Dlpm, ask: RoutedRequest, n: int = 3) -> Decision:
    decision = policy.choose(ask, views(n), 0.0)
    policy.on_sent(ask, decision, 0.0)
    return decision


@pytest.mark.parametrize(
    ("spent", "able", "left"),
    [
        ({}, [0, 1], {0: 10.0, 1: 10.0}),  # new ones have none: all are refilled
        ({0: 10}, [1], {0: 0.0, 1: 10.0}),  # of both refilled, 0 used its quantum
        ({0: 10, 1: 10}, [0, 1], {0: 10.0, 1: 10.0}),
        ({0: 35, 1: 12}, [1], {0: -15.0, 1: 8.0}),  # one more quantum makes 1 positive
        ({0: 35, 1: 30}, [0, 1], {0: 5.0, 1: 10.0}),  # two would make it 0, which is not enough
    ],
)
def test_credit_is_refilled_when_nobody_who_competes_has_any(
    spent: dict[int, float], able: list[int], left: dict[int, float]
) -> None:
    credit = Deficits(10.0)
    if spent:
        credit.with_credit([0, 1])  # 10 each
    for key, amount in spent.items():
        credit.spend(key, amount)
    assert credit.with_credit([0, 1]) == able
    assert {key: credit[key] for key in (0, 1)} == left


def test_who_does_not_compete_gains_nothing() -> None:
    credit = Deficits(10.0)
    credit.with_credit([0, 1])
    for _ in range(5):
        credit.spend(0, 10.0)
        assert credit.with_credit([0]) == [0]
    assert (credit[0], credit[1]) == (10.0, 10.0)


def test_a_prompt_goes_where_most_of_it_is_cached() -> None:
    policy = dlpm()
    send(policy, asked(1, 0, (1, 320)))  # 0, as all are alike
    policy.on_sent(asked(2, 0, (1, 320), (2, 320)), Decision(2), 0.0)
    decision = policy.choose(asked(3, 0, (1, 320), (2, 320), (3, 50)), views(3), 0.0)
    assert (decision.replica_id, decision.reason) == (2, "longest match with credit")
    decision = policy.choose(asked(4, 0, (9, 320)), loaded(2, 1, 1), 0.0)
    assert (decision.replica_id, decision.reason) == (1, "no match with credit: fewest in flight")


def test_a_tenant_that_used_up_its_credit_with_a_replica_goes_elsewhere_and_no_other_tenant_does() -> None:
    policy = dlpm(replica_quantum=1000.0)
    first = send(policy, asked(1, 0, (1, 320)))
    policy.on_end(asked(1, 0, (1, 320)), first, TryEnd(True, 200, first.replica_id, 1, True, 400), 1.0)  # 320 + 800 spent
    moved = send(policy, asked(2, 0, (1, 320)))
    assert moved.replica_id != first.replica_id
    assert send(policy, asked(3, 1, (1, 320))).replica_id in (first.replica_id, moved.replica_id)  # it has a match there


def test_cached_tokens_cost_nothing() -> None:
    policy = dlpm()
    for rid in range(20):
        send(policy, asked(rid, 0, (1, 3200)))
    assert policy._tenants[0] == -3200.0


@pytest.mark.parametrize(
    ("end", "credit"),
    [
        (TryEnd(False, 503, 0, 1), 0.0),  # refused: as if it had not been sent
        (TryEnd(False, 0, 0, 1), -100.0),  # the connection was lost, or the client hung up: it was worked on
        (TryEnd(False, 500, 0, 1, streaming=True, output_tokens=7), -114.0),
        (TryEnd(True, 200, 0, 1, streaming=True, output_tokens=7), -114.0),
    ],
)
def test_a_try_that_was_refused_costs_nothing(end: TryEnd, credit: float) -> None:
    policy, ask = dlpm(), asked(1, 5, (1, 100))
    policy.on_sent(ask, Decision(0), 0.0)
    policy.on_end(ask, Decision(0), end, 1.0)
    assert (policy._tenants[5], policy._credit_of(5)[0]) == (credit, credit)
    assert not policy._paid


def test_a_large_quantum_keeps_locality_and_a_small_one_spreads() -> None:
    def used(quantum: float) -> int:
        policy = dlpm(4, replica_quantum=quantum)
        return len({send(policy, asked(rid, 0, (1, 1600), (100 + rid, 160)), 4).replica_id for rid in range(40)})

    assert used(1e9) == 1
    assert used(100.0) == 4


def test_full_replicas_are_left_out_while_others_have_room() -> None:
    policy = dlpm(cap=4)
    send(policy, asked(1, 0, (1, 320)))
    assert policy.choose(asked(2, 0, (1, 320)), loaded(4, 3, 3), 0.0).replica_id == 1
    assert policy.choose(asked(2, 0, (1, 320)), loaded(4, 4, 4), 0.0).replica_id == 0  # a retry's exclusion, say


def test_the_queue_lets_the_longest_prefix_go_first_among_those_with_credit() -> None:
    driver = FakeDriver()
    made = build_router("dlpm", {"cap": 1, "tenant_quantum": 500.0}, [], views(1), driver, 1)
    made.on_request(asked(0, 0, (1, 320)), 0.0)
    for rid, tenant, tail in ((1, 1, (7, 800)), (2, 0, (2, 160)), (3, 0, (3, 160)), (4, 1, (8, 160))):
        head = [(1, 320)] if tenant == 0 else []
        made.on_request(asked(rid, tenant, *head, tail), 0.0)
    for place in range(4):
        made.on_try_end(driver.sent[place].try_id, True, 200, 1.0, output_tokens=200)
    # Tenant 0 has the prefix. It has 500 - 320 - 400 < 0 left after request 0: both are refilled, and the prefix goes first.
    # After request 2 it has 280 - 160 - 400 < 0, tenant 1 still 500: now that one is next, with no prefix at all.
    assert [t.request.rid for t in driver.sent] == [0, 2, 1, 3, 4]
    assert made.held_requests == 0


def test_tenants_get_their_shares_though_one_has_all_the_prefixes() -> None:
    driver = FakeDriver()
    made = build_router("dlpm", {"cap": 1, "tenant_quantum": 2000.0}, [], views(1), driver, 1)
    for rid in range(400):
        made.on_request(asked(2 * rid, 0, (1, 1600), (10 + rid, 160)), 0.0)
        made.on_request(asked(2 * rid + 1, 1, (5000 + rid, 160)), 0.0)
    for place in range(300):
        made.on_try_end(driver.sent[place].try_id, True, 200, 1.0, output_tokens=20)
    counts = Counter(t.request.tenant for t in driver.sent)  # 200 tokens' cost each, the prefix once more
    assert abs(counts[0] - counts[1]) <= 25


def test_a_pool_change_forgets_index_and_credit_of_who_left() -> None:
    policy = dlpm()
    send(policy, asked(1, 0, (1, 320)))
    policy.on_pool((1, 2, 9), 1.0)
    assert len(policy._index) == 0
    assert policy._replicas[0][0] == 0.0
    policy.on_end(asked(1, 0, (1, 320)), Decision(0), TryEnd(True, 200, 0, 1, True, 50), 1.0)
    assert policy._replicas[0][0] == 0.0
    pool = [v for v in views(10) if v.replica_id in (1, 2, 9)]
    assert policy.choose(asked(2, 0, (1, 320)), pool, 1.0).replica_id == 1
