"""Random numbers named by what they are for: one more draw in one place moves nothing elsewhere.

Policies, clients and generators draw here. It does not know any sequence: every number is a pure function of its key.
"""

import zlib

import numpy as np

_MASK = (1 << 64) - 1


def purpose_id(purpose: str) -> int:
    """A stable integer for a purpose's name (CRC-32), to be used as one key of `uniform`."""
    return zlib.crc32(purpose.encode())


def uniform(*key: int) -> float:
    """A number in [0, 1) from an integer key, by chained SplitMix64 finalisers (Steele, Lea, Flood 2014)."""
    x = 0
    for part in key:  # `_mixed`, in place
        x = (x + part + 0x9E3779B97F4A7C15) & _MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        x ^= x >> 31
    return (x >> 11) * 2.0**-53


class Draws:
    """The numbers `uniform(purpose, part)` for one purpose, at half the price."""

    def __init__(self, purpose: int) -> None:
        self._begun = _mixed(0, purpose)

    def uniform(self, part: int) -> float:
        return (_mixed(self._begun, part) >> 11) * 2.0**-53


def _mixed(x: int, part: int) -> int:
    x = (x + part + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A numpy stream for bulk drawing, keyed by (seed, purpose, key…)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose_id(purpose), *key])))
