"""From segments to token ids: the same content is the same tokens on every machine, in every process. It does not know text.

Token i of a content is number i of the SplitMix64 stream (Steele, Lea, Flood 2014) seeded by the content id, scaled to the
number of usable ids by Lemire's multiply and shift (2019; bias below n/2³²).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from workloads.prompts.vocabulary import Vocabulary
from workloads.request import Segment

Ids = npt.NDArray[np.int32]

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BLOCK = 1 << 14  # numbers made at a time: they stay in the processor's cache
_STEPS = np.arange(1, _BLOCK + 1, dtype=np.uint64) * np.uint64(_GAMMA)


def segment_ids(segment: Segment, vocabulary: Vocabulary) -> Ids:
    """The `segment.tokens` ids of one content; a longer segment of the same content begins alike."""
    return prompt_ids((segment,), vocabulary)


def prompt_ids(
    segments: Sequence[Segment], vocabulary: Vocabulary, known: Mapping[int, Sequence[int] | Ids] | None = None
) -> Ids:
    """The ids of a whole prompt, Σ tokens of them.

    `known` (content id → ids) holds contents whose tokens an engine has made, so that a later turn repeats them. Raises
    ValueError where one has not exactly the segment's tokens or an id outside the vocabulary.
    """
    made = np.empty(sum(s.tokens for s in segments), dtype=np.int32)
    start = 0
    for segment in segments:
        place = made[start : start + segment.tokens]
        start += segment.tokens
        if known is not None and segment.content_id in known:
            place[:] = _checked(known[segment.content_id], segment, vocabulary)
        else:
            draw(segment.content_id, vocabulary.usable, place)
    return made


def draw(content_id: int, choices: Ids, into: Ids) -> None:
    """Fill `into` with the first len(into) of the endless series of `choices` that belongs to a content."""
    key = _mixed(content_id & _MASK)
    for start in range(0, len(into), _BLOCK):
        place = into[start : start + _BLOCK]
        x = _STEPS[: len(place)] + np.uint64((key + start * _GAMMA) & _MASK)
        x ^= x >> np.uint64(30)
        x *= np.uint64(_MIX_1)
        x ^= x >> np.uint64(27)
        x *= np.uint64(_MIX_2)
        x ^= x >> np.uint64(31)
        x >>= np.uint64(32)
        x *= np.uint64(len(choices))
        x >>= np.uint64(32)
        np.take(choices, x.view(np.int64), out=place, mode="clip")  # "raise" would buffer `out`


def _mixed(x: int) -> int:
    """SplitMix64's finaliser: neighbouring content ids start far apart."""
    x = (x + _GAMMA) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _checked(ids: Sequence[int] | Ids, segment: Segment, vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
    made = np.asarray(ids, dtype=np.int64)
    if made.shape != (segment.tokens,):
        raise ValueError(f"content {segment.content_id}: {made.size} ids are known, its segment has {segment.tokens} tokens")
    if made.size and not (made.min() >= 0 and made.max() < vocabulary.size):
        wrong = made[(made < 0) | (made >= vocabulary.size)][0]
        raise ValueError(f"content {segment.content_id}: id {wrong} is known; 0 … {vocabulary.size - 1} allowed")
    return made
