"""The draws and content ids of `workloads.draws` and `workloads.content`, for whole arrays: equal, bit for bit."""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mixed(start: int | Words, *parts: int | Ints | Words) -> Words:
    """SplitMix64 finalisers chained over the parts (broadcast), beginning from `start`."""
    x = np.asarray(start, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            x = x + np.asarray(part).astype(np.uint64) + _GOLDEN
            x = (x ^ (x >> np.uint64(30))) * _FIRST
            x = (x ^ (x >> np.uint64(27))) * _SECOND
            x = x ^ (x >> np.uint64(31))
    return x


def uniforms(*key: int | Ints) -> Floats:
    """`workloads.draws.uniform` of every row of the key."""
    return np.asarray((mixed(0, *key) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def content_ids(kind: int, *parts: int | Ints) -> Ints:
    """`workloads.content.content_id` of every row of the coordinates."""
    return np.asarray((mixed(kind, *parts) & np.uint64((1 << 63) - 1)).astype(np.int64))
