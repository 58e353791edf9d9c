"""Highest random weight: every replica draws a number for a key, the highest wins. It knows neither load nor health."""

from collections.abc import Sequence
from math import log

from replicas.view import ReplicaView
from routers.hashing.hash_ring import hash_of

_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15


class RendezvousHash:
    """Thaler & Ravishankar 1998; with weights w the score is −w / ln u for a uniform u (Schindelhauer & Schomaker 2005).

    u is a hash of key XOR replica's hash, as Envoy has it; mixed by two products here, by xorshift* there.
    """

    __slots__ = ("_salts", "_weights")

    def __init__(self, weights: dict[int, int]) -> None:
        self._salts = {i: hash_of(i, -1) for i in weights}
        self._weights = weights if len(set(weights.values())) > 1 else None

    def first_of(self, replicas: Sequence[ReplicaView], key_hash: int) -> int:
        """The replica with the highest score, the first of them on a tie."""
        salts, weights = self._salts, self._weights
        if weights is not None:
            scores = [-weights[v.replica_id] / log(self._uniform(v.replica_id, key_hash)) for v in replicas]
            return replicas[scores.index(max(scores))].replica_id
        best, highest = replicas[0].replica_id, -1
        for view in replicas:
            x = ((key_hash ^ salts[view.replica_id]) * _ODD) & _MASK
            x = ((x ^ (x >> 32)) * _ODD) & _MASK
            if x > highest:
                best, highest = view.replica_id, x
        return best

    def _uniform(self, replica_id: int, key_hash: int) -> float:
        """Strictly between 0 and 1."""
        x = ((key_hash ^ self._salts[replica_id]) * _ODD) & _MASK
        x = ((x ^ (x >> 32)) * _ODD) & _MASK
        return ((x >> 12) + 0.5) * 2**-52
