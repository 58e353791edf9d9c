"""Reads the weights of replicas from a study: a list in ascending id, of the pool as it is at the start (both halves of a pair).

It does not know what they are used for.
"""

from collections.abc import Sequence


def weights_of(given: Sequence[int], replica_ids: Sequence[int], owner: str) -> dict[int, int]:
    """Replica → weight, 1 where the list is too short; ValueError for more weights than replicas or one below 1."""
    if len(given) > len(replica_ids):
        raise ValueError(f"{owner}: weights = {list(given)!r} is not allowed; there are {len(replica_ids)} replicas")
    for weight in given:
        if weight < 1:
            raise ValueError(f"{owner}: weights = {list(given)!r} is not allowed; each must be at least 1")
    weights = dict.fromkeys(replica_ids, 1)
    weights.update(zip(replica_ids, given, strict=False))
    return weights
