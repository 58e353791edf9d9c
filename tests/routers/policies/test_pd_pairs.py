"""pd_pair and pd_conditional: two stages with any policy, and who stays on the decode replica."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from replicas.view import Observation, ReplicaView, Role
from routers.factory import build_router
from routers.policies import build_policy
from routers.policies.least_tokens import LeastTokens
from routers.policies.pd_pair import PdPair
from routers.policy import Decision, NoReplica, PolicyContext, TryEnd
from routers.router import Router
from tests.routers.fake_driver import FakeDriver, context, request, views

ROLES: tuple[Role, ...] = ("prefill", "decode", "prefill", "decode", "decode")


def pair(name: str = "pd_pair", **parameters: object) -> PdPair:
    policy = build_policy(name, context(5, 1, **parameters))
    assert isinstance(policy, PdPair)
    return policy


def router(name: str = "pd_pair", **parameters: object) -> tuple[Router, FakeDriver]:
    driver = FakeDriver()
    return build_router(name, parameters, [], views(5, ROLES), driver, 1), driver


def test_a_pair_takes_the_least_outstanding_of_each_role() -> None:
    policy, pool = pair(), views(5, ROLES)
    pool[0].in_flight = 2
    pool[2].in_flight = 1
    decisions = []
    for rid in range(6):  # none has reached decode yet: pairs given are what counts
        decisions.append(policy.choose(request(rid), pool, 0.0))
        policy.on_sent(request(rid), decisions[-1], 0.0)
    assert {d.prefill_id for d in decisions} == {2}
    assert Counter(d.replica_id for d in decisions) == {1: 2, 3: 2, 4: 2}
    assert {d.reason for d in decisions} <= {f"fewest in flight -> fewest in flight{tie}" for tie in ("", ", tie drawn")}
    for rid, decision in enumerate(decisions):
        if decision.replica_id == 3:
            policy.on_end(request(rid), decision, TryEnd(True, 200, 3, 1), 1.0)
    assert policy.choose(request(9), pool, 1.0).replica_id == 3


def test_pairs_break_ties_evenly_and_the_halves_draw_for_themselves() -> None:
    policy, pool = pair(), views(5, ROLES)
    pairs = Counter((d.prefill_id, d.replica_id) for d in (policy.choose(request(i), pool, 0.0) for i in range(3000)))
    assert sum((n - 500) ** 2 / 500 for n in pairs.values()) < 20.5  # chi-square, 5 degrees, p = 0.001
    assert len(pairs) == 6


@pytest.mark.parametrize("left", [{"prefill"}, {"decode"}])
def test_a_missing_role_is_said(left: set[str]) -> None:
    pool = [v for v in views(5, ROLES) if v.role in left]
    with pytest.raises(NoReplica):
        pair().choose(request(1), pool, 0.0)


@pytest.mark.parametrize(
    ("prefill", "decode"), [("round_robin", "least_tokens"), ("consistent_hash", "join_idle_queue"), ("bucket", "random")]
)
def test_each_half_goes_by_its_own_policy(prefill: str, decode: str) -> None:
    policy, pool = pair(prefill_policy=prefill, decode_policy=decode), views(5, ROLES)
    alone = {name: build_policy(name, PolicyContext(1, ids)) for name, ids in ((prefill, (0, 2)), (decode, (1, 3, 4)))}
    for rid in range(30):
        asked = request(rid, (rid, 100 * rid + 1), session=rid % 7)
        decision = policy.choose(asked, pool, 0.0)
        policy.on_sent(asked, decision, 0.0)
        for name, role, chosen in ((prefill, "prefill", decision.prefill_id), (decode, "decode", decision.replica_id)):
            expected = alone[name].choose(asked, [v for v in pool if v.role == role], 0.0)
            if "drawn" not in expected.reason:
                assert chosen == expected.replica_id
            assert chosen is not None
            alone[name].on_sent(replace(asked, max_tokens=1) if role == "prefill" else asked, Decision(chosen), 0.0)


def test_a_prefill_counts_its_prompt_until_the_decode_replica_relays_the_first_token() -> None:
    policy, pool = pair(prefill_policy="least_tokens", decode_policy="least_tokens"), views(5, ROLES)
    asked = request(1, (1, 800), max_tokens=100)
    decision = policy.choose(asked, pool, 0.0)
    policy.on_sent(asked, decision, 0.0)
    prefill, decode = policy._prefill.policy, policy._decode.policy
    assert isinstance(prefill, LeastTokens)
    assert isinstance(decode, LeastTokens)
    assert sum(prefill._books.tokens.values) == 801
    assert sum(decode._books.tokens.values) == 900
    policy.on_first_token(asked, decision, 1.0)
    assert sum(prefill._books.tokens.values) == 0
    assert sum(decode._books.tokens.values) == 100
    policy.on_end(asked, decision, TryEnd(True, 200, decision.replica_id, 1, True, 5), 2.0)
    assert sum(decode._books.tokens.values) == 0
    assert not policy._at


@pytest.mark.parametrize("where", ["prefill", "decode"])
def test_a_failure_of_either_half_ends_both(where: str) -> None:
    policy, pool = pair(prefill_policy="least_tokens", decode_policy="least_tokens"), views(5, ROLES)
    decision = policy.choose(request(1), pool, 0.0)
    policy.on_sent(request(1), decision, 0.0)
    at = decision.prefill_id if where == "prefill" else decision.replica_id
    assert at is not None
    policy.on_end(request(1), decision, TryEnd(False, 503, at, 1), 1.0)
    for stage in policy._stages:
        assert isinstance(stage.policy, LeastTokens)
        assert len(stage.policy._books) == 0
    assert all(v.in_flight == 0 and v.in_flight_tokens == 0 for v in policy._decode._shown.values())


def test_weights_are_of_the_whole_pool_in_ascending_id() -> None:
    weights: dict[str, object] = {"weights": [3, 1, 1, 1, 2]}
    policy = pair(prefill_policy="weighted_round_robin", prefill_parameters=weights, decode_policy="weighted_round_robin")
    pool = views(5, ROLES)
    prefills = Counter(policy.choose(request(i), pool, 0.0).prefill_id for i in range(40))
    assert prefills == {0: 30, 2: 10}
    policy = pair(decode_policy="weighted_round_robin", decode_parameters=weights)
    decodes = Counter(policy.choose(request(i), pool, 0.0).replica_id for i in range(40))
    assert decodes == {1: 10, 3: 10, 4: 20}


def test_news_reaches_the_half_that_it_is_for() -> None:
    policy, pool = pair(prefill_policy="drain_time", decode_policy="drain_time"), views(5, ROLES)
    for view in pool:
        view.waiting = {0: 5, 1: 5, 3: 5}.get(view.replica_id, 0)
        policy.on_observation(view, 0.0)
    decision = policy.choose(request(1), pool, 1.0)
    assert (decision.prefill_id, decision.replica_id) == (2, 4)


def test_probes_and_wakes_of_both_halves_are_joined() -> None:
    probing: dict[str, object] = {"probes": 2, "idle_probe_s": 0.5}
    policy, pool = pair(prefill_policy="prequal", decode_policy="prequal", prefill_parameters=probing), views(5, ROLES)
    decision = policy.choose(request(1), pool, 0.0)
    assert {ROLES[i] for i in decision.probes} == {"prefill", "decode"}
    assert len(decision.probes) == 2 + 3
    assert policy.next_wake_s() == 0.5
    assert set(policy.on_wake(0.5)) == {0, 2}
    for replica_id, latency_s in ((0, 0.2), (2, 0.1), (1, 0.3), (3, 0.2), (4, 0.1)):
        policy.on_probe(replica_id, Observation(0, 1, 0.0, latency_s), 0.6)
    decision = policy.choose(request(2), pool, 0.6)
    assert (decision.prefill_id, decision.replica_id) == (2, 4)


def test_a_pool_change_reaches_the_half_that_it_is_for() -> None:
    policy = pair(prefill_policy="consistent_hash", decode_policy="maglev")
    pool = views(5, ROLES)
    policy.choose(request(1), pool, 0.0)
    policy.on_pool((0, 1, 3, 4, 7), 1.0)
    pool = [*[v for v in pool if v.replica_id != 2], ReplicaView(7, role="prefill")]
    decisions = [policy.choose(request(s, session=s), pool, 1.0) for s in range(200)]
    assert {d.prefill_id for d in decisions} == {0, 7}
    assert {d.replica_id for d in decisions} == {1, 3, 4}
    assert {d.reason.split(" -> ")[0] for d in decisions} == {"session's place on the ring"}  # nobody is taken for away


def test_a_replica_that_left_is_not_met_again_by_its_last_news() -> None:
    policy, pool = pair(), views(5, ROLES)
    policy.choose(request(1), pool, 0.0)
    policy.on_pool((0, 1, 2, 3), 1.0)
    pool[4].waiting = 9
    policy.on_observation(pool[4], 1.5)  # it still works off what it had
    policy.on_pool((0, 1, 2, 3, 4), 2.0)  # a new one of its name
    again = ReplicaView(4, role="decode")
    assert [v.waiting for v in policy.by_role([*pool[:4], again], 2.0)[1]] == [0, 0, 0]


def test_what_was_given_to_a_replica_that_left_is_not_taken_off_its_successor() -> None:
    """While a pair is in prefill, its decode replica holds nothing yet: it may leave and come back."""
    policy, pool = pair(), views(5, ROLES)
    decision = policy.choose(request(1), pool, 0.0)
    policy.on_sent(request(1), decision, 0.0)
    gone = decision.replica_id
    policy.on_pool(tuple(i for i in range(5) if i != gone), 1.0)
    policy.on_pool((0, 1, 2, 3, 4), 2.0)
    pool[gone] = ReplicaView(gone, role="decode")
    policy.on_end(request(1), decision, TryEnd(False, 503, 0, 1), 3.0)
    assert [v.in_flight for v in policy.by_role(pool, 3.0)[1]] == [0, 0, 0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prefill_policy": "nearest"}, "pd_pair: prefill_policy: unknown policy 'nearest'; allowed: "),
        ({"decode_policy": "pd_pair"}, "pd_pair: decode_policy = 'pd_pair' is not allowed; it must choose one replica"),
        ({"prefill_policy": "fair_vtc"}, "pd_pair: prefill_policy = 'fair_vtc' is not allowed; .* hold no queue"),
        ({"decode_parameters": 3}, "pd_pair: decode_parameters = 3 is not allowed; it must be a mapping"),
        ({"decode_parameters": {"k": 3}}, "pd_pair: decode_policy: least_outstanding: unknown parameter 'k'"),
        ({"policy": "x"}, "pd_pair: unknown parameter 'policy'; allowed: prefill_policy, decode_policy, prefill_parameters, "),
    ],
)
def test_a_wrong_half_is_one_clear_line(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        pair(**parameters)
    assert "\n" not in str(error.value)


HISTORY = (1, 4000)


@pytest.mark.parametrize(
    ("prompt", "parameters", "stays"),
    [
        ([HISTORY, (2, 500)], {}, True),  # 500 new of 4,500: below 2048 and below 0.7
        ([HISTORY, (2, 2047)], {}, True),
        ([HISTORY, (2, 2048)], {}, False),
        ([(9, 500)], {}, False),  # short, but all of it is new
        ([(9, 500)], {"local_below_share": None}, True),  # Dynamo's early rule
        ([(9, 2048)], {"local_below_share": None}, False),
        ([HISTORY, (2, 500)], {"local_below_tokens": 0}, False),
        ([HISTORY, (2, 1000)], {"local_below_share": 0.2}, False),  # 1,000 of 5,000 is not below 0.2
    ],
)
def test_what_has_little_to_prefill_stays_on_the_decode_replica(
    prompt: list[tuple[int, int]], parameters: dict[str, object], stays: bool
) -> None:
    policy = pair("pd_conditional", decode_policy="consistent_hash", **parameters)
    pool = views(5, ROLES)
    first = policy.choose(request(1, HISTORY, session=7), pool, 0.0)
    assert first.prefill_id is not None
    policy.on_sent(request(1, HISTORY, session=7), first, 0.0)
    decision = policy.choose(request(2, *prompt, session=7), pool, 1.0)
    assert decision.replica_id == first.replica_id
    assert (decision.prefill_id is None) is stays
    assert decision.reason.startswith("stays on decode, little to prefill") is stays


def test_what_the_chosen_replica_has_is_what_counts() -> None:
    policy, pool = pair("pd_conditional"), views(5, ROLES)
    policy.on_sent(request(1, HISTORY), Decision(1, prefill_id=0), 0.0)
    decision = policy.choose(request(2, HISTORY, (2, 100)), pool, 0.0)
    assert decision.replica_id != 1  # the fewest in flight are elsewhere
    assert decision.prefill_id is not None


def test_without_a_prefill_replica_all_stay_and_without_a_decode_replica_none_can() -> None:
    policy, pool = pair("pd_conditional"), views(5, ROLES)
    decision = policy.choose(request(1, (1, 90_000)), [v for v in pool if v.role == "decode"], 0.0)
    assert (decision.prefill_id, ROLES[decision.replica_id]) == (None, "decode")
    with pytest.raises(NoReplica):
        policy.choose(request(1), [v for v in pool if v.role == "prefill"], 0.0)


def test_the_router_sends_one_try_for_what_stays_and_two_for_a_pair() -> None:
    made, driver = router("pd_conditional", local_below_share=None)
    made.on_request(request(1, (1, 100)), 0.0)
    assert [(t.stage, ROLES[t.replica_id]) for t in driver.sent] == [("serve", "decode")]
    made.on_request(request(2, (2, 5000)), 0.0)
    made.on_try_end(driver.last.try_id, True, 200, 0.1)
    assert [(t.stage, ROLES[t.replica_id]) for t in driver.sent[1:]] == [("prefill", "prefill"), ("decode", "decode")]
    for attempt in (driver.sent[0], driver.sent[2]):
        made.on_first_token(attempt.try_id, 0.2)
        made.on_try_end(attempt.try_id, True, 200, 0.3)
    assert all(driver.answers[rid].ok for rid in (1, 2))
    assert all((v.in_flight, v.in_flight_tokens) == (0, 0) for v in made.views)
    assert isinstance(made.policy, PdPair)
    assert not made.policy._at
    assert all((v.in_flight, v.in_flight_tokens) == (0, 0) for v in made.policy._decode._shown.values())
