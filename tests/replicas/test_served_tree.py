"""The token tree of a served replica: two prompts share their paths exactly as far as they share their tokens."""

import random

import numpy as np
import pytest

from replicas.served.made_up import Ids, reply_numbers, reply_seed
from replicas.served.token_tree import TokenTree, chunk_tokens
from workloads.request import Prompt, extend_key

NOTHING = 1_000_000  # no prompt here has this token


def enter(tree: TokenTree, ids: list[int], reply: list[int] | None = None) -> tuple[Prompt, int]:
    """The path of a prompt, and the key that an engine gives its reply."""
    prompt = np.array(ids, dtype=np.int32)
    seed = reply_seed(prompt)
    made = tree.enter(prompt, np.array(reply or [NOTHING], dtype=np.int32), seed)
    return made, extend_key(made.keys[-1], seed)


def shared(a: Prompt, b: Prompt) -> int:
    """Tokens that two paths have in common, where a node may be left after a part of it."""
    start = 0
    for key_a, end_a, key_b, end_b in zip(a.keys, a.ends, b.keys, b.ends, strict=False):
        if key_a != key_b:
            break
        start = min(end_a, end_b)
        if end_a != end_b:
            break
    return start


def common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("chunk", [1, 3, 16, 64])
def test_paths_share_what_the_tokens_share(chunk: int) -> None:
    draw = random.Random(chunk)
    tree = TokenTree(chunk, 10**9)
    known: list[tuple[list[int], Prompt]] = []
    for _ in range(300):
        old = draw.choice(known)[0] if known and draw.random() < 0.8 else []
        ids = old[: draw.randint(0, len(old))] + [draw.randint(0, 2) for _ in range(draw.randint(1, 60))]
        path, _ = enter(tree, ids)
        assert path.ends[-1] == len(ids)
        assert list(path.ends) == sorted(set(path.ends))
        for other, its_path in known:
            assert shared(path, its_path) == common(ids, other)
        assert enter(tree, ids)[0] == path, "the same prompt has the same path"
        known.append((ids, path))


def test_a_turn_finds_the_reply_before_it_and_a_part_of_it() -> None:
    tree = TokenTree(16, 10**9)
    prompt, reply = list(range(100)), list(range(500, 540))
    path, reply_key = enter(tree, prompt, reply)
    turn, _ = enter(tree, [*prompt, *reply, 7, 8, 9])
    place = turn.keys.index(reply_key)
    assert (turn.keys[:place], turn.ends[place]) == (path.keys, 140)
    part, _ = enter(tree, [*prompt, *reply[:23], 7])
    assert (part.keys[place], part.ends[place]) == (reply_key, 123)
    assert enter(tree, prompt, [*reply, 1, 2])[1] == reply_key, "a longer reply to the same prompt begins alike"
    longer, _ = enter(tree, [*prompt, *reply, 1, 2, 3])
    assert (longer.keys[place], longer.ends[place]) == (reply_key, 142)


def test_the_oldest_is_forgotten_and_what_is_used_stays() -> None:
    tree = TokenTree(16, 2000)
    kept = list(range(64))
    path, _ = enter(tree, kept)
    for i in range(200):
        assert enter(tree, [10_000 + i] * 100)[0].ends[-1] == 100
        assert enter(tree, kept)[0] == path
        assert tree.tokens <= 2000 + 200
    assert tree.tokens > 1000


def test_chunks_are_blocks_where_memory_is_small() -> None:
    cases = {(16, 28_934): 64, (16, 256): 16, (32, 128): 32, (1, 300_000): 64, (128, 10_000): 128}
    assert {case: chunk_tokens(*case) for case in cases} == cases


def test_replies_are_the_beginning_of_one_series_within_the_vocabulary() -> None:
    def numbers(seed: int, tokens: int) -> Ids:
        return reply_numbers(seed, tokens, 1000)

    assert numbers(7, 50).tolist() == numbers(7, 200)[:50].tolist()
    assert numbers(7, 50).tolist() != numbers(8, 50).tolist()
    many = numbers(7, 100_000)
    assert (many.min(), many.max()) == (0, 999)
    assert np.bincount(many).std() < 15, "evenly spread: the standard deviation of 100 a number is 10"
