"""Replicas on a ring of hashes, many points each: who comes first after a key. It knows neither load nor health."""

from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence

from xxhash import xxh64_intdigest


class HashRing:
    """`points` a replica; a removed replica's arcs fall to the next ones, all others stay (Karger et al. 1997)."""

    __slots__ = ("_hashes", "_owners", "ids", "place")

    def __init__(self, replica_ids: Sequence[int], points: int) -> None:
        ring = sorted((hash_of(i, copy), i) for i in replica_ids for copy in range(points))
        self._hashes = [h for h, _ in ring]
        self._owners = [i for _, i in ring]
        self.ids = tuple(replica_ids)
        self.place = {i: place for place, i in enumerate(self.ids)}

    def home(self, key_hash: int) -> int:
        """The first replica clockwise of the hash."""
        return self._owners[bisect_right(self._hashes, key_hash) % len(self._owners)]

    def walk(self, key_hash: int) -> Iterator[int]:
        """All replicas, each once, in the order they are met clockwise of the hash."""
        owners, start = self._owners, bisect_right(self._hashes, key_hash)
        met: set[int] = set()
        for place in range(start, start + len(owners)):
            owner = owners[place % len(owners)]
            if owner not in met:
                met.add(owner)
                yield owner
                if len(met) == len(self.ids):
                    return

    def first_in(self, eligible: Container[int], key_hash: int) -> int:
        """The first of the eligible replicas clockwise of the hash; StopIteration where none of them is on the ring."""
        return next(i for i in self.walk(key_hash) if i in eligible)


def hash_of(*key: int) -> int:
    """64 bits (XXH64) of integers, the same on every machine."""
    return xxh64_intdigest(b"".join([part.to_bytes(16, "little", signed=True) for part in key]))
