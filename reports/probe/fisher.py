"""Fisher's exact test of one fourfold table, one-sided. It knows counts, not what was counted."""

from math import comb


def fisher_greater(good: int, n: int, good_other: int, n_other: int) -> float:
    """p that `good` of `n` or more would be seen beside `good_other` of `n_other` if both had one probability (Fisher 1935).

    The hypergeometric tail, margins fixed. Raises ValueError unless 0 ≤ good ≤ n and 0 ≤ good_other ≤ n_other.
    """
    if not (0 <= good <= n and 0 <= good_other <= n_other):
        raise ValueError(f"fisher: {good} of {n} and {good_other} of {n_other}; allowed: 0 <= good <= n on both sides")
    all_good, total = good + good_other, n + n_other
    ways = sum(comb(n, x) * comb(n_other, all_good - x) for x in range(good, min(n, all_good) + 1))
    return ways / comb(total, all_good)
