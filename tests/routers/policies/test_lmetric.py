"""lmetric: tokens to prefill × (requests in flight + 1), the least product wins."""

import pytest

from routers.policies import build_policy
from routers.policy import KvEvent, Policy
from tests.routers.fake_driver import context, loaded, request

PREFIX, REST = (1, 800), (2, 200)


def taught(**parameters: object) -> Policy:
    """Replica 1 was sent the first 800 tokens of the prompt."""
    policy = build_policy("lmetric", context(3, 1, **parameters))
    sent = request(0, PREFIX)
    policy.on_sent(sent, policy.choose(sent, loaded(1, 0, 1), 0.0), 0.0)
    return policy


@pytest.mark.parametrize(
    ("in_flight", "chosen"),
    [
        ((0, 0, 0), 1),  # 1000·1, 200·1, 1000·1
        ((0, 3, 0), 1),  # 200·4 < 1000·1
        ((0, 5, 0), 0),  # 200·6 > 1000·1, the first in order
        ((1, 9, 1), 0),  # 200·10 = 1000·2: the fewer in flight
        ((9, 9, 8), 1),
    ],
)
def test_the_least_product_wins(in_flight: tuple[int, ...], chosen: int) -> None:
    assert taught().choose(request(1, PREFIX, REST), loaded(*in_flight), 0.0).replica_id == chosen


def test_a_full_hit_still_counts_the_load() -> None:
    policy = taught()
    assert policy.choose(request(1, PREFIX), loaded(0, 798, 0), 0.0).replica_id == 1  # 1·799 < 800·1
    assert policy.choose(request(2, PREFIX), loaded(0, 800, 0), 0.0).replica_id == 0


def test_with_an_exact_index_it_believes_events_only() -> None:
    policy = taught(index="exact")
    assert policy.wants_kv_events
    assert policy.choose(request(1, PREFIX, REST), loaded(0, 0, 0), 0.0).replica_id == 0
    policy.on_kv_event(2, KvEvent(1, ((request(1, PREFIX).prompt.keys[0], 800),)), 0.0)
    assert policy.choose(request(2, PREFIX, REST), loaded(0, 0, 0), 0.0).replica_id == 2


def test_a_replica_that_leaves_the_pool_is_forgotten() -> None:
    policy = taught()
    policy.on_pool((0, 2), 0.0)
    policy.on_pool((0, 1, 2), 0.0)
    assert policy.choose(request(1, PREFIX, REST), loaded(0, 0, 0), 0.0).replica_id == 0
