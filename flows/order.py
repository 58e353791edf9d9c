"""The order in which arms take turns on one live pool: no arm always comes first, or after the same other. It runs nothing.

A pool that is run for hours drifts (its cards warm up, its neighbours wake), and a cell may leave something behind for the next.
Williams, E. J. (1949), Experimental designs balanced for the estimation of residual effects of treatments, Australian Journal of
Scientific Research A 2: in n rows (n even) or 2n (n odd) every arm stands once (twice) at each place, and every arm follows every
other equally often.
"""


def balanced_order(arms: int, blocks: int) -> list[list[int]]:
    """For each block (one run of every arm: a seed's repeat) the order of arms 0 … arms − 1.

    Rows of Williams' design, each followed by its mirror image: so after every second block each arm has come as early as late,
    however few blocks there are; over a whole design, each has followed each other equally often. ValueError below 1 arm.
    """
    if arms < 1:
        raise ValueError(f"arms = {arms}: must be 1 or more")
    rows = [row for start in range((arms + 1) // 2) for row in (_row(arms, start), _row(arms, start)[::-1])]
    if arms % 2:  # a mirror image is no row of an odd square: those of all its rows are needed
        rows += [row for start in range((arms + 1) // 2, arms) for row in (_row(arms, start), _row(arms, start)[::-1])]
    return [rows[i % len(rows)] for i in range(blocks)]


def _row(arms: int, start: int) -> list[int]:
    """start, start + 1, start − 1, start + 2, start − 2, … around a circle of `arms`."""
    steps = [(i + 1) // 2 if i % 2 else -(i // 2) for i in range(arms)]
    return [(start + step) % arms for step in steps]
