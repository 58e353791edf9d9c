"""rendezvous and maglev: shares, weights, and who moves when a replica comes or goes."""

from collections import Counter

import pytest

from routers.hashing.maglev_table import is_prime, maglev_table
from routers.policies import build_policy
from routers.policy import Policy
from tests.routers.fake_driver import context, loaded, request, views

SESSIONS = range(4000)


def homes(policy: Policy, ids: range | list[int]) -> dict[int, int]:
    pool = [v for v in views(max(ids) + 1) if v.replica_id in ids]
    return {s: policy.choose(request(s, session=s), pool, 0.0).replica_id for s in SESSIONS}


@pytest.mark.parametrize("name", ["rendezvous", "maglev"])
def test_sessions_share_out_evenly_whatever_the_load(name: str) -> None:
    policy = build_policy(name, context(5))
    counts = Counter(homes(policy, range(5)).values())
    assert sum((n - 800) ** 2 / 800 for n in counts.values()) < 18.5  # chi-square, 4 degrees, p = 0.001
    busy = loaded(0, 0, 99, 0, 0)
    assert all(
        policy.choose(request(1, session=s), busy, 0.0).replica_id == h for s, h in list(homes(policy, range(5)).items())[:99]
    )


@pytest.mark.parametrize("name", ["rendezvous", "maglev"])
def test_a_weight_of_two_draws_twice_the_sessions(name: str) -> None:
    counts = Counter(homes(build_policy(name, context(3, 1, weights=[1, 2, 1])), range(3)).values())
    expected = {0: 1000, 1: 2000, 2: 1000}
    assert sum((counts[i] - n) ** 2 / n for i, n in expected.items()) < 13.8  # chi-square, 2 degrees, p = 0.001


@pytest.mark.parametrize("name", ["rendezvous", "maglev"])
def test_one_that_is_away_moves_only_its_own_sessions_and_spreads_them(name: str) -> None:
    policy = build_policy(name, context(5))
    before, after = homes(policy, range(5)), homes(policy, [0, 1, 3, 4])
    assert all(after[s] == h for s, h in before.items() if h != 2)
    heirs = Counter(after[s] for s, h in before.items() if h == 2)
    mean = sum(heirs.values()) / 4
    assert set(heirs) == {0, 1, 3, 4}
    assert sum((n - mean) ** 2 / mean for n in heirs.values()) < 16.3  # chi-square, 3 degrees, p = 0.001


@pytest.mark.parametrize(("name", "most_moved"), [("rendezvous", 0.0), ("maglev", 0.06)])
def test_a_pool_change_moves_little_of_what_could_have_stayed(name: str, most_moved: float) -> None:
    """Rendezvous moves nothing that it need not; Maglev a few per cent (the paper's section 5.3)."""
    policy = build_policy(name, context(5))
    before = homes(policy, range(5))
    policy.on_pool((0, 1, 3, 4), 1.0)
    fewer = homes(policy, [0, 1, 3, 4])
    stayed = [s for s, h in before.items() if h != 2]
    assert sum(fewer[s] != before[s] for s in stayed) <= most_moved * len(stayed)
    policy.on_pool((0, 1, 2, 3, 4), 2.0)
    assert homes(policy, range(5)) == before  # the table depends on who is in the pool alone


def test_maglev_goes_on_with_one_replica_of_many() -> None:
    policy = build_policy("maglev", context(64))
    lone = [views(64)[63]]
    assert {policy.choose(request(s, session=s), lone, 0.0).replica_id for s in range(200)} == {63}


@pytest.mark.parametrize(("n", "slots"), [(2, 7), (3, 7), (5, 101), (7, 65537)])
def test_the_table_gives_every_replica_as_many_slots_give_or_take_one(n: int, slots: int) -> None:
    counts = Counter(maglev_table(tuple(range(n)), (1,) * n, slots))
    assert len(counts) == n
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_first_slots_go_by_the_permutation() -> None:
    """Listing 1 of the paper with two replicas and seven slots, by hand: in turn each takes its next free slot."""
    from xxhash import xxh64_intdigest

    offsets = [xxh64_intdigest(str(i).encode()) % 7 for i in range(2)]
    skips = [xxh64_intdigest(str(i).encode(), seed=1) % 6 + 1 for i in range(2)]
    wanted = [[(offsets[i] + n * skips[i]) % 7 for n in range(7)] for i in range(2)]
    table: dict[int, int] = {}
    while len(table) < 7:
        for i in range(2):
            if len(table) < 7:
                table[next(slot for slot in wanted[i] if slot not in table)] = i
    assert maglev_table((0, 1), (1, 1), 7) == tuple(table[slot] for slot in range(7))


@pytest.mark.parametrize("number", [2, 3, 5, 7, 101, 65537])
def test_primes(number: int) -> None:
    assert is_prime(number)
    assert not is_prime(number * 3)
    assert not is_prime(1)


def test_a_table_size_that_is_no_prime_is_refused() -> None:
    with pytest.raises(ValueError, match="maglev: table_size = 65536 is not allowed; it must be a prime"):
        build_policy("maglev", context(2, 1, table_size=65536))
