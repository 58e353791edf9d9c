"""oracle: the least by the true engine state."""

import pytest

from routers.policies import build_policy
from routers.policy import PolicyContext, RoutedRequest
from tests.routers.fake_driver import context, request, views


class Known:
    def __init__(self, *ttft_s: float) -> None:
        self.ttft_s = ttft_s

    def predicted_ttft_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        return self.ttft_s[replica_id]

    def predicted_e2e_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        return 10 - self.ttft_s[replica_id]


@pytest.mark.parametrize(("ttft_s", "chosen"), [((0.3, 0.1, 0.2), 1), ((0.2, 0.1, 0.1), 1), ((0.5, 0.5, 0.5), 0)])
def test_oracle_takes_the_least_predicted_ttft_and_the_lowest_id_on_a_tie(ttft_s: tuple[float, ...], chosen: int) -> None:
    policy = build_policy("oracle", PolicyContext(1, (0, 1, 2), truth=Known(*ttft_s)))
    decision = policy.choose(request(1), views(3), 0.0)
    assert (decision.replica_id, decision.scores) == (chosen, ttft_s)


def test_oracle_may_look_at_the_end_instead() -> None:
    policy = build_policy("oracle", PolicyContext(1, (0, 1, 2), {"least": "e2e"}, Known(0.1, 0.3, 0.2)))
    assert policy.choose(request(1), views(3), 0.0).replica_id == 1


def test_oracle_chooses_among_the_eligible_only() -> None:
    policy = build_policy("oracle", PolicyContext(1, (0, 1, 2), truth=Known(0.1, 0.3, 0.2)))
    assert policy.choose(request(1), views(3)[1:], 0.0).replica_id == 2


def test_oracle_needs_the_truth() -> None:
    with pytest.raises(ValueError, match="oracle: it needs the true engine state"):
        build_policy("oracle", context(3))
