"""consistent_hash: sessions stay, only those of a lost replica move, load is not seen."""

from collections import Counter

from routers.policies import build_policy
from routers.policies.consistent_hash import hash_of
from tests.routers.fake_driver import context, loaded, request, views

SESSIONS = range(2000)


def homes(n: int, away: int | None = None) -> dict[int, int]:
    policy = build_policy("consistent_hash", context(n))
    pool = [v for v in views(n) if v.replica_id != away]
    return {s: policy.choose(request(s, session=s), pool, 0.0).replica_id for s in SESSIONS}


def test_a_session_stays_whatever_is_asked_and_however_loaded_its_home_is() -> None:
    policy = build_policy("consistent_hash", context(4))
    home = policy.choose(request(1, session=42), views(4), 0.0).replica_id
    busy = loaded(*[10_000 if i == home else 0 for i in range(4)])
    assert {policy.choose(request(i, session=42), busy, 0.0).replica_id for i in range(50)} == {home}


def test_only_the_sessions_of_a_replica_that_is_away_move() -> None:
    before, after = homes(4), homes(4, away=2)
    assert all(after[s] == before[s] for s in SESSIONS if before[s] != 2)
    assert set(after.values()) == {0, 1, 3}


def test_as_vllm_router_they_all_go_to_the_first_of_the_pool() -> None:
    """Read in its `consistent_hash.rs`: a home that is not healthy is replaced by the first healthy replica."""
    policy, pool = build_policy("consistent_hash", context(4, 1, away="first")), views(4)
    before = {s: policy.choose(request(s, session=s), pool, 0.0).replica_id for s in SESSIONS}
    decisions = {s: policy.choose(request(s, session=s), [pool[0], pool[1], pool[3]], 0.0) for s in SESSIONS}
    assert all(decisions[s].replica_id == (0 if home == 2 else home) for s, home in before.items())
    assert {decisions[s].reason for s, home in before.items() if home == 2} == {"first of the pool, home is away"}


def test_a_pool_change_makes_the_ring_anew() -> None:
    policy = build_policy("consistent_hash", context(5))
    policy.on_pool((0, 1, 2, 3), 1.0)
    assert {s: policy.choose(request(s, session=s), views(4), 1.0) for s in SESSIONS[:200]} == {
        s: build_policy("consistent_hash", context(4)).choose(request(s, session=s), views(4), 1.0) for s in SESSIONS[:200]
    }


def test_they_spread_over_the_others() -> None:
    before, after = homes(4), homes(4, away=2)
    heirs = Counter(after[s] for s in SESSIONS if before[s] == 2)
    assert min(heirs.values()) > 0.15 * sum(heirs.values())


def test_one_more_replica_takes_about_its_share_and_nothing_else_moves() -> None:
    before, after = homes(4), homes(5)
    moved = [s for s in SESSIONS if before[s] != after[s]]
    assert all(after[s] == 4 for s in moved)
    assert 0.12 < len(moved) / len(SESSIONS) < 0.28  # 1/5 ± what 160 points leave


def test_160_points_share_within_a_third() -> None:
    counts = Counter(homes(4).values())
    assert all(0.67 < n / (len(SESSIONS) / 4) < 1.33 for n in counts.values())


def test_the_seed_does_not_matter_and_the_hash_is_the_same_everywhere() -> None:
    pool = views(4)
    one, other = (build_policy("consistent_hash", context(4, seed)) for seed in (1, 2))
    assert all(one.choose(request(s), pool, 0.0) == other.choose(request(s), pool, 0.0) for s in range(100))
    assert hash_of(0) == 0xAF09F71516247C32  # XXH64 of sixteen zero bytes
    assert hash_of(1, 2) != hash_of(2, 1)
