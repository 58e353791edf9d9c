"""kv_cost: Dynamo's cost in blocks, by hand: prefill backlog and prompt less what is cached, plus active blocks."""

import pytest

from routers.policies import build_policy
from routers.policies.kv_cost import KvCost, _sample
from routers.policy import Decision, KvEvent, TryEnd
from tests.routers.fake_driver import context, loaded, request, views

PREFIX, REST = (1, 160), (2, 160)  # 10 blocks each
OK = TryEnd(True, 200, 0, 1, True, 10)


def kv_cost(n: int = 3, **parameters: object) -> KvCost:
    policy = build_policy("kv_cost", context(n, 1, **parameters))
    assert isinstance(policy, KvCost)
    return policy


def send(policy: KvCost, rid: int, replica_id: int, *segments: tuple[int, int], now_s: float = 0.0) -> None:
    policy.on_sent(request(rid, *segments), Decision(replica_id), now_s)


def costs(policy: KvCost, *segments: tuple[int, int], now_s: float = 0.0) -> list[float]:
    """Less the prompt itself, which every replica would have to do."""
    n = len(policy._flat)
    return policy._costs(request(99, *segments), views(n), now_s)


def test_what_is_under_way_costs_its_prefill_until_the_first_token_and_its_blocks_until_the_end() -> None:
    policy = kv_cost()
    send(policy, 1, 0, PREFIX, REST)
    assert costs(policy, (9, 160)) == [20.0 + 20.0, 0.0, 0.0]
    policy.on_first_token(request(1, PREFIX, REST), Decision(0), 1.0)
    assert costs(policy, (9, 160)) == [20.0, 0.0, 0.0]
    policy.on_end(request(1, PREFIX, REST), Decision(0), OK, 2.0)
    assert costs(policy, (9, 160)) == [0.0, 0.0, 0.0]


def test_active_blocks_that_are_shared_count_once() -> None:
    policy = kv_cost()
    send(policy, 1, 0, PREFIX, REST)
    send(policy, 2, 0, PREFIX, (3, 160))
    for rid in (1, 2):
        policy.on_first_token(request(rid), Decision(0), 1.0)
    assert costs(policy, (9, 160)) == [30.0, 0.0, 0.0]
    assert costs(policy, PREFIX, (4, 160)) == [30.0 - 10.0, 0.0, 0.0]  # its own first half is active there already
    policy.on_end(request(1, PREFIX, REST), Decision(0), OK, 2.0)
    assert costs(policy, (9, 160)) == [20.0, 0.0, 0.0]


def tell(policy: KvCost, replica_id: int, number: int, *segments: tuple[int, int]) -> None:
    keys = request(0, *segments).prompt.keys
    policy.on_kv_event(replica_id, KvEvent(number, tuple(zip(keys, [n for _, n in segments], strict=True))), 0.0)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [0.0, -10.0, -20.0]),
        ({"overlap_credit": 0.5}, [0.0, -5.0, -10.0]),
        ({"prefill_scale": 2.0}, [0.0, -20.0, -40.0]),
        ({"overlap_credit": 0.0}, [0.0, 0.0, 0.0]),
    ],
)
def test_cached_blocks_are_taken_off_the_prefill(parameters: dict[str, object], expected: list[float]) -> None:
    policy = kv_cost(3, **parameters)
    assert policy.wants_kv_events
    tell(policy, 1, 1, PREFIX)
    tell(policy, 2, 1, PREFIX, REST)
    assert costs(policy, PREFIX, REST) == expected


def test_a_cached_prompt_leaves_little_to_prefill() -> None:
    policy = kv_cost()
    tell(policy, 1, 1, PREFIX)
    send(policy, 1, 1, PREFIX, REST)
    assert costs(policy, (9, 160)) == [0.0, 10.0 + 20.0, 0.0]


def test_the_credit_decays_with_the_backlog_above_the_least() -> None:
    policy = kv_cost(credit_decay=1.0)
    tell(policy, 1, 1, PREFIX)
    send(policy, 1, 1, (7, 320))  # 20 blocks of backlog, as long as the prompt: half the credit
    assert costs(policy, PREFIX, REST) == [0.0, 40.0 - 5.0, 0.0]


def test_requests_may_weigh() -> None:
    policy = kv_cost(request_weight=4.0)
    assert policy._costs(request(1, (9, 160)), loaded(0, 2, 1), 0.0) == [0.0, 8.0, 4.0]


def test_an_approximate_index_believes_what_it_sent_for_two_minutes() -> None:
    policy = kv_cost(index="approximate")
    assert not policy.wants_kv_events
    send(policy, 1, 2, PREFIX)
    policy.on_end(request(1, PREFIX), Decision(2), OK, 1.0)
    assert costs(policy, PREFIX, REST, now_s=119.0) == [0.0, 0.0, -10.0]
    assert costs(policy, PREFIX, REST, now_s=120.0) == [0.0, 0.0, 0.0]


def test_the_least_cost_wins_and_ties_are_drawn() -> None:
    policy = kv_cost()
    send(policy, 1, 0, (7, 160))
    chosen = [policy.choose(request(i, (9, 160)), views(3), 0.0) for i in range(60)]
    assert {(d.replica_id, d.reason) for d in chosen} == {(1, "least cost, tie drawn"), (2, "least cost, tie drawn")}
    send(policy, 2, 1, (7, 160))
    assert policy.choose(request(3, (9, 160)), views(3), 0.0) == Decision(2, "least cost")


@pytest.mark.parametrize(
    ("costs_", "temperature", "draw", "place"),
    [
        # weights exp(−(cost − least)/(range·T)): 1, e^-1
        ((0.0, 10.0), 1.0, 0.73, 0),  # 1/(1 + e^-1) = 0.731
        ((0.0, 10.0), 1.0, 0.74, 1),
        ((0.0, 1e6), 1.0, 0.74, 1),  # only the range's share counts
        ((0.0, 10.0), 0.1, 0.99, 0),
        ((5.0, 5.0, 5.0, 5.0), 1.0, 0.6, 2),
        ((0.0, 10.0), 1e-300, 0.999, 0),
    ],
)
def test_with_a_temperature_it_draws_by_softmax(costs_: tuple[float, ...], temperature: float, draw: float, place: int) -> None:
    assert _sample(costs_, temperature, draw) == place


def test_a_replica_that_leaves_takes_its_counts_with_it() -> None:
    policy = kv_cost()
    tell(policy, 0, 1, PREFIX)
    send(policy, 1, 0, (7, 320))
    send(policy, 2, 1, (8, 160))
    policy.on_pool((1, 2, 3), 1.0)
    assert policy._flat == {1: 20.0, 2: 0.0, 3: 0.0}
    policy.on_first_token(request(1, (7, 320)), Decision(0), 2.0)
    policy.on_end(request(1, (7, 320)), Decision(0), OK, 3.0)
    policy.on_pool((0, 1, 2, 3), 4.0)
    assert policy._flat == {0: 0.0, 1: 20.0, 2: 0.0, 3: 0.0}
    assert policy._costs(request(3, PREFIX), views(4), 4.0) == [0.0, 20.0, 0.0, 0.0]
