"""Prompts as block lists: joined into runs they share exactly what their blocks share."""

import numpy as np
import pytest

from workloads.request import Prompt, Segment
from workloads.sources.blocks import Blocks, Runs, runs, shared_opening, sorted_prompts


def blocks_of(*prompts: tuple[list[int], int], block_tokens: int = 10) -> Blocks:
    bounds = np.cumsum([0, *(len(ids) for ids, _ in prompts)]).tolist()
    flat = np.array([i for ids, _ in prompts for i in ids], dtype=np.int64)
    return Blocks.of(flat, bounds, [tokens for _, tokens in prompts], block_tokens)


def segments_of(cut: Runs) -> list[tuple[Segment, ...]]:
    pairs = [Segment(i, t) for i, t in zip(cut.ids.tolist(), cut.tokens.tolist(), strict=True)]
    return [tuple(pairs[a:b]) for a, b in zip(cut.bounds[:-1].tolist(), cut.bounds[1:].tolist(), strict=True)]


def common_tokens(one: tuple[Segment, ...], other: tuple[Segment, ...]) -> int:
    """Tokens of the longest prefix that two prompts share."""
    a, b = Prompt.of(one), Prompt.of(other)
    return max((end for key, end in zip(a.keys, a.ends, strict=True) if key in b.keys), default=0)


def test_runs_are_cut_where_another_prompt_leaves_or_ends() -> None:
    prompts = blocks_of(([1, 2, 3, 4], 40), ([1, 2, 5], 30), ([1, 2, 3], 30), ([9], 10))
    cut = segments_of(runs(prompts, *sorted_prompts(prompts)))
    assert [[s.tokens for s in row] for row in cut] == [[20, 10, 10], [20, 10], [20, 10], [10]]
    assert cut[0][:2] == cut[2]
    assert cut[0][0] == cut[1][0]


def test_equal_ids_elsewhere_and_partial_blocks_are_other_content() -> None:
    prompts = blocks_of(([1, 2], 20), ([2, 1], 20), ([1, 2], 13), ([1, 2], 13), ([1, 3], 14))
    cut = segments_of(runs(prompts, *sorted_prompts(prompts)))
    assert common_tokens(cut[0], cut[1]) == 0
    assert common_tokens(cut[0], cut[2]) == 10, "what a partial block holds is not the whole block of that id"
    assert common_tokens(cut[2], cut[3]) == 13
    assert len({s.content_id for row in cut for s in row}) == 5


@pytest.mark.parametrize("seed", range(20))
def test_any_two_prompts_share_the_tokens_that_their_blocks_share(seed: int) -> None:
    draw = np.random.default_rng(seed)
    prompts = []
    for _ in range(40):
        ids = draw.integers(0, 3, draw.integers(1, 9)).tolist()
        prompts.append((ids, 10 * len(ids) - int(draw.integers(0, 3))))
    blocks = blocks_of(*prompts)
    cut = segments_of(runs(blocks, *sorted_prompts(blocks)))
    single = segments_of(Runs(blocks.ids, blocks.block_lengths(), blocks.bounds))
    assert [sum(s.tokens for s in row) for row in cut] == [tokens for _, tokens in prompts]
    for a in range(40):
        for b in range(40):
            assert common_tokens(cut[a], cut[b]) == common_tokens(single[a], single[b])


def test_no_prompt_and_empty_prompts() -> None:
    assert segments_of(runs(blocks_of(), *sorted_prompts(blocks_of()))) == []
    some = blocks_of(([], 0), ([1], 4), ([], 0))
    assert [[s.tokens for s in row] for row in segments_of(runs(some, *sorted_prompts(some)))] == [[], [4], []]


def test_the_shared_opening_leaves_every_prompt_something_of_its_own() -> None:
    assert shared_opening(blocks_of(([7, 8, 9], 30), ([7, 8, 1], 25))) == 2
    assert shared_opening(blocks_of(([7], 10), ([7, 8], 20))) == 0
    assert shared_opening(blocks_of(([7, 8], 20))) == 0
