"""Prompts given as lists of block ids, as segments of content. It does not know which format the lists come from."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from workloads.content import PARTIAL_BLOCK
from workloads.mixing import content_ids, mixed

Ints = npt.NDArray[np.int64]
RUN_OF_BLOCKS, LOCAL_BLOCK, UNNAMED_TAIL, PROMPT_CHUNK = 101, 102, 103, 104
"""Kinds of content beside those of `workloads.content`: a run of blocks, a block whose id counts in its session only, the end of
a prompt that has no id, and what a prompt known by length has more than the one before."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Prompt i has the blocks `ids[bounds[i]:bounds[i+1]]` of `block_tokens` each; the last one holds the rest of `tokens[i]`."""

    ids: Ints
    bounds: Ints
    tokens: Ints
    block_tokens: int

    @staticmethod
    def of(ids: "array[int] | Ints", bounds: Sequence[int], tokens: Sequence[int], block_tokens: int) -> "Blocks":
        """From flat arrays filled while reading; equal ids become equal content, a partial block is another than the whole one.

        What the last block holds differs with its length, and some sources give it another id once it is full.
        """
        flat = np.array(ids, dtype=np.int64)
        edges, lengths = np.array(bounds, dtype=np.int64), np.array(tokens, dtype=np.int64)
        last = edges[1:] - 1
        left = lengths - block_tokens * (np.diff(edges) - 1)
        partial = (np.diff(edges) > 0) & (left != block_tokens)
        flat[last[partial]] = content_ids(PARTIAL_BLOCK, flat[last[partial]], left[partial])
        return Blocks(flat, edges, lengths, block_tokens)

    def block_lengths(self) -> Ints:
        """Tokens of every block."""
        lengths = np.full(len(self.ids), self.block_tokens, dtype=np.int64)
        counts = np.diff(self.bounds)
        some = counts > 0
        lengths[self.bounds[1:][some] - 1] = self.tokens[some] - self.block_tokens * (counts[some] - 1)
        return lengths

    def keys(self) -> list[bytes]:
        """Every prompt as bytes that compare like its list of ids."""
        raw = self.ids.astype(">i8").tobytes()
        edges = (self.bounds * 8).tolist()
        return [raw[a:b] for a, b in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Runs:
    """Prompt i has the segments `ids[bounds[i]:bounds[i+1]]` of `tokens` each."""

    ids: Ints
    tokens: Ints
    bounds: Ints


def shared_opening(blocks: Blocks) -> int:
    """How many whole blocks open *every* prompt and leave each of them something of its own."""
    if len(blocks.tokens) < 2:
        return 0
    keys = blocks.keys()
    least, most = min(keys), max(keys)  # in lexicographic order, so what these two share all share
    return min(_common(least, most), max(0, int(np.diff(blocks.bounds).min()) - 1))


def sorted_prompts(blocks: Blocks) -> tuple[list[int], list[int]]:
    """(prompts in lexicographic order, blocks that each shares with the one before it; the first 0)."""
    keys = blocks.keys()
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return order, [0, *(_common(keys[a], keys[b]) for a, b in pairwise(order))][: len(order)]


def runs(blocks: Blocks, order: Sequence[int], common: Sequence[int]) -> Runs:
    """Every prompt cut only where some other prompt leaves it or ends: the same sharing in far fewer segments.

    These are the edges of the compressed prefix tree of all prompts, found from `sorted_prompts`. A run's content id hashes its
    blocks and their places.
    """
    cuts: list[set[int]] = [set() for _ in order]
    _open_cuts(order, common, cuts)
    _open_cuts(order[::-1], [0, *common[:0:-1]][: len(order)], cuts)
    ends = np.diff(blocks.bounds).tolist()
    starts = [sorted({0, *cut} - {end}) if end else [] for cut, end in zip(cuts, ends, strict=True)]
    counts = np.array([len(s) for s in starts], dtype=np.int64)
    heads = np.array([s for row in starts for s in row], dtype=np.int64) + np.repeat(blocks.bounds[:-1], counts)
    return Runs(_run_ids(blocks, heads), _run_tokens(blocks, heads), np.concatenate([[0], np.cumsum(counts)]))


def _open_cuts(order: Sequence[int], common: Sequence[int], cuts: list[set[int]]) -> None:
    """Add to every prompt the lengths that it shares with any prompt before it in the order."""
    shared: list[int] = []
    for prompt, length in zip(order, common, strict=True):
        while shared and shared[-1] > length:
            shared.pop()
        if length and (not shared or shared[-1] < length):
            shared.append(length)
        cuts[prompt].update(shared)


def _run_ids(blocks: Blocks, heads: Ints) -> Ints:
    if not len(heads):
        return np.empty(0, dtype=np.int64)
    lengths = np.diff(np.append(heads, len(blocks.ids)))
    place = np.arange(len(blocks.ids)) - np.repeat(heads, lengths)
    sums = np.add.reduceat(mixed(RUN_OF_BLOCKS, place, blocks.ids), heads)
    return content_ids(RUN_OF_BLOCKS, lengths, (sums >> np.uint64(1)).astype(np.int64))


def _run_tokens(blocks: Blocks, heads: Ints) -> Ints:
    return np.add.reduceat(blocks.block_lengths(), heads) if len(heads) else np.empty(0, dtype=np.int64)


def _common(one: bytes, other: bytes) -> int:
    """How many ids two keys share from the start."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size // 8
    a, b = np.frombuffer(one[:size], dtype=np.int64), np.frombuffer(other[:size], dtype=np.int64)
    return int((a != b).argmax())
