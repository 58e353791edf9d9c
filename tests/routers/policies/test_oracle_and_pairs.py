"""oracle and pd_pair."""

from collections import Counter

import pytest

from routers.policies import build_policy
from routers.policy import NoReplica, PolicyContext, RoutedRequest, TryEnd
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


ROLES = ("prefill", "decode", "prefill", "decode", "decode")


def test_a_pair_takes_the_least_outstanding_of_each_role() -> None:
    policy, pool = build_policy("pd_pair", context(5)), views(5, ROLES)  # type: ignore[arg-type]
    pool[0].in_flight = 2
    pool[2].in_flight = 1
    decisions = []
    for rid in range(6):  # none has reached decode yet: pairs given are what counts
        decisions.append(policy.choose(request(rid), pool, 0.0))
        policy.on_sent(request(rid), decisions[-1], 0.0)
    assert {d.prefill_id for d in decisions} == {2}
    assert Counter(d.replica_id for d in decisions) == {1: 2, 3: 2, 4: 2}
    for decision in decisions:
        if decision.replica_id == 3:
            policy.on_end(request(0), decision, TryEnd(True, 200, decision.replica_id, 1), 1.0)
    assert policy.choose(request(9), pool, 1.0).replica_id == 3


def test_pairs_break_ties_evenly() -> None:
    policy, pool = build_policy("pd_pair", context(5)), views(5, ROLES)  # type: ignore[arg-type]
    pairs = Counter((d.prefill_id, d.replica_id) for d in (policy.choose(request(i), pool, 0.0) for i in range(3000)))
    assert sum((n - 500) ** 2 / 500 for n in pairs.values()) < 20.5  # chi-square, 5 degrees, p = 0.001
    assert len(pairs) == 6


@pytest.mark.parametrize("left", [{"prefill"}, {"decode"}])
def test_a_missing_role_is_said(left: set[str]) -> None:
    pool = [v for v in views(5, ROLES) if v.role in left]  # type: ignore[arg-type]
    with pytest.raises(NoReplica):
        build_policy("pd_pair", context(5)).choose(request(1), pool, 0.0)
