"""epp_weighted: 2·queue + 2·kv + 3·prefix, by hand; the weights and normalisations are llm-d's."""

from dataclasses import replace

import pytest

from replicas.profile import EngineProfile
from replicas.view import ReplicaView
from routers.policies import build_policy
from routers.policies.epp_weighted import EppWeighted
from routers.policy import KvEvent, PolicyContext
from tests.routers.fake_driver import context, request, views

HALF, REST = (1, 160), (2, 160)  # 10 blocks each


def seen(*gauges: tuple[int, float]) -> list[ReplicaView]:
    """Views with (waiting, KV use) observed."""
    return [ReplicaView(i, waiting=waiting, kv_used=kv, observed_s=0.0) for i, (waiting, kv) in enumerate(gauges)]


def taught(n: int = 3, **parameters: object) -> EppWeighted:
    """Replica 1 was sent the first half of the prompt."""
    policy = build_policy("epp_weighted", context(n, 1, **parameters))
    assert isinstance(policy, EppWeighted)
    policy._index.sent(request(0, HALF).prompt, 1, 0.0)
    return policy


@pytest.mark.parametrize(
    ("gauges", "prompt", "chosen"),
    [
        # queue: (max − q)/(max − min); kv: 1 − use; prefix: matched/total
        (((0, 0.5), (4, 0.5), (2, 0.5)), [(9, 160)], 0),  # 2·1 + 1 | 0 + 1 | 2·0.5 + 1
        (((0, 0.9), (4, 0.1), (1, 0.1)), [(9, 160)], 2),  # 2 + 0.2 | 0 + 1.8 | 1.5 + 1.8
        (((0, 0.5), (4, 0.5), (2, 0.5)), [HALF, REST], 0),  # 3 | 1 + 3·0.5 = 2.5 | 2
        (((0, 0.5), (4, 0.5), (2, 0.5)), [HALF], 1),  # 3 | 1 + 3 = 4 | 2
        (((3, 0.2), (3, 0.3), (3, 0.1)), [(9, 160)], 2),  # equal queues score 1 each
        (((3, 0.2), (3, 0.3), (3, 0.1)), [HALF, REST], 1),  # 3.6 | 3.4 + 1.5 | 3.8
    ],
)
def test_the_greatest_weighted_sum_wins(
    gauges: tuple[tuple[int, float], ...], prompt: list[tuple[int, int]], chosen: int
) -> None:
    decision = taught().choose(request(1, *prompt), seen(*gauges), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, "greatest score")


def test_a_replica_without_news_scores_by_prefix_alone() -> None:
    policy, pool = taught(), seen((0, 0.9), (9, 0.9), (5, 0.9))
    pool[1].observed_s = float("-inf")
    assert policy.choose(request(1, HALF), pool, 0.0).replica_id == 1  # 2.2 | 3 | 0.2: its 9 waiting do not count
    pool[0].kv_used = 0.4
    assert policy.choose(request(2, HALF), pool, 0.0).replica_id == 0  # 2 + 1.2


def test_ties_take_turns_by_one_counter() -> None:
    policy, pool = taught(), views(3)
    assert [policy.choose(request(i, (9, 160)), pool, 0.0).replica_id for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_tokens_beyond_the_cap_are_not_looked_at() -> None:
    policy = taught(prefix_tokens=160)
    assert policy.choose(request(1, HALF, REST), seen((0, 0.0), (2, 0.0), (1, 0.0)), 0.0).replica_id == 1  # 10 of 10 blocks: 5
    assert taught().choose(request(1, HALF, REST), seen((0, 0.0), (2, 0.0), (1, 0.0)), 0.0).replica_id == 0  # 10 of 20: 3.5 < 4


def test_weights_are_parameters() -> None:
    gauges = seen((0, 0.5), (4, 0.5), (2, 0.5))
    assert taught(prefix=10.0).choose(request(1, HALF, REST), gauges, 0.0).replica_id == 1
    assert taught(queue=0.0).choose(request(1, HALF, REST), gauges, 0.0).replica_id == 1


def test_the_index_is_as_large_as_the_engines_cache_where_it_is_known() -> None:
    small = replace(EngineProfile.load("h100-vllm-llama8b"), kv_blocks=10, context_tokens=160, block_tokens=16)
    policy = build_policy("epp_weighted", PolicyContext(1, (0, 1), {}, None, small))
    assert isinstance(policy, EppWeighted)
    policy._index.sent(request(0, HALF, REST).prompt, 0, 0.0)
    assert policy._index.blocks_of(0) == 10


def test_with_an_exact_index_it_believes_events_only() -> None:
    policy = taught(index="exact")
    assert policy.wants_kv_events
    policy.on_kv_event(2, KvEvent(1, ((request(1, HALF).prompt.keys[0], 160),)), 0.0)
    assert policy.choose(request(1, HALF), views(3), 0.0).replica_id == 2


def test_a_replica_that_leaves_the_pool_is_forgotten() -> None:
    policy = taught()
    policy.on_pool((0, 2), 0.0)
    policy.on_pool((0, 1, 2), 0.0)
    assert policy.choose(request(1, HALF), seen((0, 0.0), (0, 0.1), (0, 0.1)), 0.0).replica_id == 0
