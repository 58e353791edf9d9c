"""least_tokens: what counts as in flight, from a request's sending to its end."""

import pytest

from routers.policies import build_policy
from routers.policies.least_tokens import LeastTokens
from routers.policy import Decision, TryEnd
from tests.routers.fake_driver import context, request, views


def policy_of(n: int = 2, **parameters: object) -> LeastTokens:
    policy = build_policy("least_tokens", context(n, 1, **parameters))
    assert isinstance(policy, LeastTokens)
    return policy


def tokens(policy: LeastTokens) -> list[float]:
    return policy._books.tokens.values


@pytest.mark.parametrize(
    ("expected_output", "max_tokens", "sent", "after_first_token"),
    [
        (1024, 4096, 800 + 1024, 1024),  # an unknown output counts 1024
        (1024, 10, 800 + 10, 10),  # or what it may be at most
        (0, 10, 800, 0),
    ],
)
def test_a_prompt_counts_until_its_first_token_and_the_output_until_the_end(
    expected_output: int, max_tokens: int, sent: int, after_first_token: int
) -> None:
    policy, asked = policy_of(expected_output_tokens=expected_output), request(1, (1, 800), max_tokens=max_tokens)
    policy.on_sent(asked, Decision(1), 0.0)
    assert tokens(policy) == [0, sent]
    policy.on_first_token(asked, Decision(1), 0.1)
    assert tokens(policy) == [0, after_first_token]
    policy.on_end(asked, Decision(1), TryEnd(True, 200, 1, 1), 0.2)
    assert tokens(policy) == [0, 0]


def test_one_that_ends_before_its_first_token_takes_all_of_it_along() -> None:
    policy = policy_of()
    policy.on_sent(request(1), Decision(0), 0.0)
    policy.on_end(request(1), Decision(0), TryEnd(False, 503, 0, 1), 0.0)
    assert tokens(policy) == [0, 0]
    assert len(policy._books) == 0


def test_the_fewest_tokens_win_and_the_lowest_id_on_a_tie() -> None:
    policy, pool = policy_of(3), views(3)
    assert policy.choose(request(0), pool, 0.0).replica_id == 0
    policy.on_sent(request(1, (1, 5000)), Decision(0), 0.0)  # one long one
    for rid in (2, 3):
        policy.on_sent(request(rid, (1, 100)), Decision(1), 0.0)  # two short ones: fewer tokens, more requests
    assert policy.choose(request(4), pool, 0.0).replica_id == 2
    assert policy.choose(request(4), pool[:2], 0.0).replica_id == 1


def test_a_replica_that_leaves_is_forgotten_and_may_come_back() -> None:
    policy = policy_of(3)
    policy.on_sent(request(1), Decision(1), 0.0)
    policy.on_pool((0, 2, 5), 1.0)
    policy.on_end(request(1), Decision(1), TryEnd(True, 200, 1, 1), 1.0)
    policy.on_pool((0, 1, 2), 2.0)
    policy.on_end(request(1), Decision(1), TryEnd(True, 200, 1, 1), 2.0)
    assert tokens(policy) == [0, 0, 0]
