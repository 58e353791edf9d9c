"""sticky_least_sessions: who lives where, for how long, and that real load does not matter."""

from collections import Counter

from routers.policies import build_policy
from routers.policies.sticky_least_sessions import StickyLeastSessions
from routers.policy import Decision
from tests.routers.fake_driver import context, loaded, request, views


def sticky(n: int = 4, **parameters: object) -> StickyLeastSessions:
    policy = build_policy("sticky_least_sessions", context(n, 1, **parameters))
    assert isinstance(policy, StickyLeastSessions)
    return policy


def send(policy: StickyLeastSessions, session: int, n: int = 4, now_s: float = 0.0, away: int | None = None) -> Decision:
    pool = [v for v in views(n) if v.replica_id != away]
    decision = policy.choose(request(1, session=session), pool, now_s)
    policy.on_sent(request(1, session=session), decision, now_s)
    return decision


def test_new_sessions_go_where_the_fewest_live() -> None:
    policy = sticky()
    counts = Counter(send(policy, session).replica_id for session in range(40))
    assert counts == {0: 10, 1: 10, 2: 10, 3: 10}


def test_ties_are_broken_by_the_session_not_by_the_order_of_replicas() -> None:
    firsts = Counter(send(sticky(), session).replica_id for session in range(400))
    assert sum((n - 100) ** 2 / 100 for n in firsts.values()) < 16.3  # chi-square, 3 degrees, p = 0.001


def test_a_known_session_stays_though_its_replica_is_swamped() -> None:
    """Measured on vllm-router: a slow replica still got 40 of 160."""
    policy = sticky()
    home = send(policy, 7).replica_id
    swamped = loaded(*[1000 if i == home else 0 for i in range(4)])
    assert policy.choose(request(2, session=7), swamped, 1.0).replica_id == home


def test_a_session_whose_replica_is_away_moves_for_good() -> None:
    policy = sticky()
    home = send(policy, 7).replica_id
    moved = send(policy, 7, away=home)
    assert moved.reason == "session's replica is away: fewest sessions"
    assert send(policy, 7).replica_id == moved.replica_id
    assert policy._table.counts == {moved.replica_id: 1}


def test_two_hours_of_silence_end_a_session_at_the_next_sweep() -> None:
    policy = sticky(2)
    first, second = send(policy, 1, 2).replica_id, send(policy, 2, 2).replica_id
    assert {first, second} == {0, 1}
    send(policy, 2, 2, now_s=7000.0)
    assert send(policy, 3, 2, now_s=7199.0).reason == "new session: fewest sessions"
    assert len(policy._table) == 3
    send(policy, 2, 2, now_s=7250.0)  # the last sweep was at 7199: not yet
    assert len(policy._table) == 3
    send(policy, 2, 2, now_s=7260.0)
    assert policy._table.replica_of(1) is None
    assert sum(policy._table.counts.values()) == len(policy._table) == 2


def test_the_table_is_bounded_the_longest_silent_goes_first() -> None:
    policy = sticky(2, max_sessions=3)
    for session in (1, 2, 3, 1, 4):
        send(policy, session, 2)
    assert [policy._table.replica_of(s) is not None for s in (1, 2, 3, 4)] == [True, False, True, True]
    assert sum(policy._table.counts.values()) == 3


def test_a_replica_that_leaves_takes_its_sessions_along() -> None:
    policy = sticky(2)
    for session in range(6):
        send(policy, session, 2)
    policy.on_pool((1, 2), 1.0)
    assert policy._table.counts == {1: 3}
    pool = views(3)[1:]
    chosen = policy.choose(request(9, session=99), pool, 1.0)
    assert (chosen.replica_id, chosen.reason) == (2, "new session: fewest sessions")
