"""Which tokens a simulated engine puts out: the same after the same prompt, everywhere. It knows no engine and no text.

Token i is number i of the SplitMix64 stream (Steele, Lea, Flood 2014) that the prompt's hash seeds, scaled by multiply and shift.
"""

import numpy as np
import numpy.typing as npt
import xxhash

Ids = npt.NDArray[np.int32]

_GAMMA, _MIX_1, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_MASK = (1 << 63) - 1


def reply_seed(prompt: Ids) -> int:
    """63 bits of a prompt's tokens."""
    return xxhash.xxh3_64_intdigest(prompt.tobytes()) & _MASK


def reply_numbers(seed: int, tokens: int, below: int) -> Ids:
    """The first `tokens` of the endless series of numbers 0 … below−1 that belongs to a seed."""
    x = np.arange(1, tokens + 1, dtype=np.uint64) * _GAMMA + np.uint64(seed)
    x ^= x >> np.uint64(30)
    x *= _MIX_1
    x ^= x >> np.uint64(27)
    x *= _MIX_2
    x ^= x >> np.uint64(31)
    return ((x >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int32)
