"""Blocks and prefixes: what is found again, what is evicted first, and that no block is ever lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from replicas.prefix_cache import Lease, PrefixCache
from workloads.request import Prompt, Segment

BLOCK_TOKENS = 16


def path(*segments: tuple[int, int]) -> Prompt:
    return Prompt.of(tuple(Segment(*s) for s in segments))


def hold(cache: PrefixCache, prompt: Prompt) -> Lease:
    """Admit a prompt whole, as the engine does: find, hold, take, fill."""
    lease = cache.find(*prompt)
    cache.hold(lease)
    blocks = -(-prompt.tokens // BLOCK_TOKENS) - lease.blocks
    cache.take(blocks)
    lease.blocks += blocks
    cache.fill(lease, prompt.tokens)
    return lease


def visit(cache: PrefixCache, prompt: Prompt) -> None:
    cache.release(hold(cache, prompt))


@pytest.mark.parametrize(
    ("before", "after", "blocks"),
    [
        ([(1, 64)], [(1, 64), (2, 1)], 4),  # 64 tokens shared: 4 blocks
        ([(1, 64)], [(1, 64)], 3),  # the last token is never taken from cache
        ([(1, 63)], [(1, 63), (2, 9)], 3),  # the fourth block holds a token of 2
        ([(1, 60), (2, 4)], [(1, 60), (2, 4), (3, 1)], 4),
        ([(1, 60), (2, 4)], [(1, 60), (9, 4), (3, 1)], 3),  # the block that straddles belongs to the later segment
        ([(1, 60), (2, 4)], [(9, 60), (2, 4), (3, 1)], 0),  # a prefix is shared from its start or not at all
        ([(1, 8), (2, 4), (3, 4)], [(1, 8), (2, 4), (3, 4), (4, 1)], 1),  # a block over three segments
        ([(1, 8), (2, 4), (3, 4)], [(1, 8), (2, 4), (5, 4), (4, 1)], 0),
        ([(1, 32), (2, 32)], [(1, 32)], 1),
        ([(1, 15)], [(1, 15), (2, 100)], 0),  # shorter than a block: nothing to keep
        ([(1, 64)], [(1, 32), (2, 50)], 2),  # the longer segment of the same content begins alike
        ([(1, 64)], [(1, 40), (2, 50)], 2),
    ],
)
def test_a_prefix_is_found_as_far_as_its_blocks_hold_the_same_tokens(
    before: list[tuple[int, int]], after: list[tuple[int, int]], blocks: int
) -> None:
    cache = PrefixCache(100, BLOCK_TOKENS)
    visit(cache, path(*before))
    prompt = path(*after)
    assert cache.match(prompt.keys, prompt.ends) == blocks


def test_the_least_recently_released_goes_first() -> None:
    cache = PrefixCache(4, BLOCK_TOKENS)
    for content in (1, 2, 3, 1):
        visit(cache, path((content, 16), (9, 1)))
    cache.take(2)  # one block was empty, so one prefix must go
    found = {c: cache.match(path((c, 16), (9, 1)).keys, (16, 17)) for c in (1, 2, 3)}
    assert found == {1: 1, 2: 0, 3: 1}


def test_tails_go_before_heads() -> None:
    cache = PrefixCache(4, BLOCK_TOKENS)
    visit(cache, path((1, 32), (2, 32)))
    prompt = path((1, 32), (2, 32), (3, 1))
    found = []
    for _ in range(4):
        cache.take(1)
        found.append(cache.match(prompt.keys, prompt.ends))
    assert found == [3, 2, 1, 0]


def test_what_a_sequence_holds_is_not_evictable() -> None:
    cache = PrefixCache(4, BLOCK_TOKENS)
    lease = hold(cache, path((1, 32), (2, 20)))
    assert (cache.free, cache.evictable, cache.used) == (0, 0, 1.0)
    cache.release(lease)
    assert (cache.free, cache.evictable, cache.used) == (1, 3, 0.0)


def test_two_holders_of_a_prefix_count_its_blocks_once() -> None:
    cache = PrefixCache(8, BLOCK_TOKENS)
    first = hold(cache, path((1, 32), (2, 5)))
    second = hold(cache, path((1, 32), (3, 5)))
    assert cache.available == 8 - 2 - 1 - 1
    cache.release(first)
    assert (cache.free, cache.evictable) == (5, 0)  # the prefix is still in use
    cache.release(second)
    assert (cache.free, cache.evictable) == (6, 2)


def test_a_block_computed_twice_at_once_is_kept_once() -> None:
    cache = PrefixCache(8, BLOCK_TOKENS)
    prompt = path((1, 48))
    leases = []
    for _ in range(2):
        lease = cache.find(*prompt)
        cache.hold(lease)
        cache.take(3)
        lease.blocks = 3
        leases.append(lease)
    for lease in leases:
        cache.fill(lease, 48)
    assert cache.free == 2
    for lease in leases:
        cache.release(lease)
    assert (cache.free, cache.evictable) == (5, 3)


def test_a_find_tells_what_holding_it_would_pin() -> None:
    cache = PrefixCache(20, BLOCK_TOKENS)
    prompt = path((1, 32), (2, 32), (3, 1))
    visit(cache, prompt)
    lease = hold(cache, path((1, 32), (9, 1)))  # pins the first segment
    before, found = cache.available, cache.find(*prompt)
    assert (cache.available, found.blocks, found.evictable) == (before, 4, 2)
    cache.hold(found)
    assert (before - cache.available, lease.blocks) == (2, 3)


def test_a_find_needs_no_node_for_the_block_that_is_never_taken_from_cache() -> None:
    cache = PrefixCache(20, BLOCK_TOKENS)
    prompt = path((1, 32), (2, 16))
    visit(cache, prompt)
    found = cache.find(*prompt)
    assert (found.blocks, found.evictable, len(found.pinned)) == (2, 2, 1)


def test_a_flush_forgets_all_but_what_is_held() -> None:
    cache = PrefixCache(20, BLOCK_TOKENS)
    visit(cache, path((1, 64)))
    held = hold(cache, path((2, 64)))
    cache.flush()
    assert (cache.free, cache.evictable) == (16, 0)
    assert [cache.match(path((c, 64), (3, 1)).keys, (64, 65)) for c in (1, 2)] == [0, 4]
    cache.release(held)
    assert (cache.free, cache.evictable) == (16, 4)


class Accounting(RuleBasedStateMachine):
    """Whatever sequences come, grow and go, blocks are free, evictable or held, and their sum is the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(24, BLOCK_TOKENS)
        self.held: list[tuple[Lease, int, int]] = []  # lease, tokens computed, tokens of its prompt

    @rule(contents=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 1, 7, 16, 40])), min_size=1, max_size=4))
    def admit(self, contents: list[tuple[int, int]]) -> None:
        prompt = path(*((c * 100 + tokens, tokens) for c, tokens in contents), (7, 1))
        lease = self.cache.find(*prompt)
        if self.cache.available - lease.evictable >= 1:
            self.cache.hold(lease)
            self.held.append((lease, lease.blocks * BLOCK_TOKENS, prompt.tokens))

    @precondition(lambda self: self.held)
    @rule(tokens=st.integers(1, 50), data=st.data())
    def prefill(self, tokens: int, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.held) - 1))
        lease, computed, total = self.held[index]
        upto = min(total, computed + tokens)
        blocks = -(-upto // BLOCK_TOKENS) - lease.blocks
        if blocks <= self.cache.available:
            self.cache.take(max(blocks, 0))
            lease.blocks += max(blocks, 0)
            self.cache.fill(lease, upto)
            self.held[index] = (lease, upto, total)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        lease, _, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.cache.release(lease)

    @rule()
    def flush(self) -> None:
        self.cache.flush()

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        pinned = {id(node): node.cached for lease, _, _ in self.held for node in lease.pinned}
        private = sum(lease.blocks - lease.node_blocks for lease, _, _ in self.held)
        shared = sum(pinned.values())
        hit_but_not_filled = [lease for lease, _, _ in self.held if lease.node_blocks > lease.blocks]
        assert not hit_but_not_filled
        assert self.cache.free >= 0
        assert self.cache.evictable >= 0
        assert self.cache.free + self.cache.evictable + private + shared == self.cache.kv_blocks

    def teardown(self) -> None:
        for lease, _, _ in self.held:
            self.cache.release(lease)
        assert self.cache.available == self.cache.kv_blocks


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
