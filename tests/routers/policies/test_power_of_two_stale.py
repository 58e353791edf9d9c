"""power_of_two_stale: two choices by old news, and the herd that follows."""

from collections import Counter

from routers.policies import build_policy
from tests.routers.fake_driver import context, request, views

N = 4000


def test_observed_waiting_and_running_decide_not_the_own_count() -> None:
    """Of two distinct among n, the one with k lighter ones loses k of n-1 times."""
    policy, pool = build_policy("power_of_two_stale", context(4)), views(4)
    for view, (waiting, running) in zip(pool, [(2, 1), (0, 1), (0, 0), (1, 1)], strict=True):
        view.waiting, view.running, view.in_flight = waiting, running, 9 - waiting
    counts = Counter(policy.choose(request(i), pool, 0.0).replica_id for i in range(N))
    expected = {2: 3 / 6, 1: 2 / 6, 3: 1 / 6}
    assert set(counts) == set(expected)
    assert sum((counts[i] - N * p) ** 2 / (N * p) for i, p in expected.items()) < 13.8  # chi-square, 2 degrees, p = 0.001


def test_what_was_never_observed_counts_nothing() -> None:
    policy, pool = build_policy("power_of_two_stale", context(2)), views(2)
    pool[0].running = 1
    assert {policy.choose(request(i), pool, 0.0).replica_id for i in range(50)} == {1}


def test_between_two_polls_the_lightest_gets_twice_its_share() -> None:
    """Herding (Mitzenmacher, "How Useful Is Old Information?"): with fresh counts all get n/8; with one old poll the lightest of
    eight is in a pair with probability 2/8 and wins them all, and the heaviest gets nothing."""
    stale, fresh = build_policy("power_of_two_stale", context(8)), build_policy("power_of_two", context(8))
    old_news, own_counts = views(8), views(8)
    for view in old_news:
        view.running = view.replica_id
    by_old_news = Counter(stale.choose(request(i), old_news, 0.0).replica_id for i in range(N))
    by_count: Counter[int] = Counter()
    for i in range(N):
        chosen = fresh.choose(request(i), own_counts, 0.0).replica_id
        own_counts[chosen].in_flight += 1
        by_count[chosen] += 1
    assert by_old_news[7] == 0
    assert 0.22 * N < by_old_news[0] < 0.28 * N
    assert max(by_count.values()) < 1.02 * N / 8
