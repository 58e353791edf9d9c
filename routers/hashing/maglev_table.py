"""Maglev's table: slots filled by the replicas in turn, each by its own permutation. It knows neither load nor health."""

from collections.abc import Sequence
from functools import lru_cache

from xxhash import xxh64_intdigest


@lru_cache(maxsize=16)
def maglev_table(replica_ids: Sequence[int], weights: Sequence[int], slots: int) -> tuple[int, ...]:
    """slot → replica. Eisenbud et al. 2016, listing 1, with Envoy's weights (`maglev_lb.cc`).

    Replica i tries the slots offset + n·skip in turn: offset = h₀ mod slots and skip = h₁ mod (slots − 1) + 1 are two hashes of
    its name. In each round a replica takes its next free slot if round·weight has reached its target, which then grows by the
    highest weight. `slots` must be prime, or a permutation would not meet them all.
    """
    if not replica_ids:
        return ()
    free = -1
    table = [free] * slots
    highest = max(weights)
    names = [str(i).encode() for i in replica_ids]
    next_slot = [xxh64_intdigest(name) % slots for name in names]
    skips = [xxh64_intdigest(name, seed=1) % (slots - 1) + 1 for name in names]
    targets = [0] * len(names)
    filled = turn = 0
    while True:
        turn += 1
        for place, replica_id in enumerate(replica_ids):
            if turn * weights[place] < targets[place]:
                continue
            targets[place] += highest
            slot, skip = next_slot[place], skips[place]
            while table[slot] != free:
                slot = (slot + skip) % slots
            table[slot] = replica_id
            next_slot[place] = (slot + skip) % slots
            filled += 1
            if filled == slots:
                return tuple(table)


def is_prime(number: int) -> bool:
    return number > 1 and all(number % n for n in range(2, int(number**0.5) + 1))
