"""The radix tree: what is found again token by token, what is evicted first, and that no page is ever lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from replicas.radix_cache import RadixCache, RadixLease
from workloads.request import Prompt, Segment


def path(*segments: tuple[int, int]) -> Prompt:
    return Prompt.of(tuple(Segment(*s) for s in segments))


def hold(cache: RadixCache, prompt: Prompt, computed: int | None = None) -> RadixLease:
    """Admit a prompt and compute `computed` tokens of it (all by default), as the scheduler does."""
    tokens = prompt.tokens if computed is None else computed
    node = cache.find(prompt.keys, prompt.ends, tokens - 1)
    cache.lock(node)
    lease = RadixLease(node)
    cache.take(-(-tokens // cache.block_tokens) - lease.blocks)
    lease.blocks = -(-tokens // cache.block_tokens)
    cache.move(lease, cache.insert(lease, prompt.keys, prompt.ends, tokens))
    return lease


def let_go(cache: RadixCache, lease: RadixLease) -> None:
    cache.free += lease.blocks - lease.node_blocks
    cache.unlock(lease.node)


def visit(cache: RadixCache, *segments: tuple[int, int]) -> None:
    let_go(cache, hold(cache, path(*segments)))


def found(cache: RadixCache, *segments: tuple[int, int]) -> int:
    prompt = path(*segments)
    return cache.match(prompt.keys, prompt.ends)


@pytest.mark.parametrize(
    ("page", "before", "after", "pages"),
    [
        (1, [(1, 300)], [(1, 300)], 299),  # all but the last token
        (1, [(1, 300)], [(1, 300), (2, 1)], 300),
        (1, [(1, 60), (2, 4)], [(1, 60), (9, 4)], 60),
        (1, [(1, 60), (2, 4)], [(9, 60), (2, 4)], 0),  # a prefix is shared from its start or not at all
        (1, [(1, 10), (2, 10), (3, 10)], [(1, 10), (2, 10), (4, 10)], 20),
        (4, [(1, 300)], [(1, 300)], 74),  # whole pages: 299 // 4
        (4, [(1, 301)], [(1, 301), (2, 1)], 75),  # 300 of 301 are in whole pages
        (4, [(1, 6), (2, 6)], [(1, 6), (3, 6)], 1),  # the page across both segments differs
        (4, [(1, 6), (2, 6)], [(1, 6), (2, 6), (3, 1)], 3),
        (16, [(1, 15)], [(1, 15), (2, 9)], 0),  # shorter than a page: nothing to keep
    ],
)
def test_a_prefix_is_found_as_far_as_its_pages_hold_the_same_tokens(
    page: int, before: list[tuple[int, int]], after: list[tuple[int, int]], pages: int
) -> None:
    cache = RadixCache(1000, page)
    visit(cache, *before)
    assert found(cache, *after) == pages


def test_an_unfinished_segment_is_found_as_far_as_it_was_computed() -> None:
    cache = RadixCache(1000, 1)
    prompt = path((1, 100), (2, 100))
    let_go(cache, hold(cache, prompt, 130))
    assert found(cache, (1, 100), (2, 100)) == 130
    let_go(cache, hold(cache, prompt))
    assert found(cache, (1, 100), (2, 100), (3, 1)) == 200
    assert cache.evictable == 200


def test_the_least_recently_used_leaf_goes_first_and_whole() -> None:
    cache = RadixCache(100, 1)
    for content in (1, 2, 3):
        visit(cache, (content, 30))
    visit(cache, (1, 30), (9, 1))  # refreshes 1
    cache.take(11)  # 9 pages are free
    assert [found(cache, (c, 30), (8, 1)) for c in (1, 2, 3)] == [30, 0, 30]
    assert (cache.free, cache.evictable) == (9 + 30 - 11, 61)


def test_a_match_refreshes_and_a_look_does_not() -> None:
    for refresh, survives in ((False, 0), (True, 30)):
        cache = RadixCache(60, 1)
        visit(cache, (1, 30))
        visit(cache, (2, 30))
        prompt = path((1, 30), (5, 9))
        if refresh:
            cache.find(prompt.keys, prompt.ends, 38)
        assert cache.match(prompt.keys, prompt.ends) == 30
        cache.take(1)
        assert found(cache, (1, 30), (8, 1)) == survives


def test_tails_go_before_heads_and_a_shared_head_stays_with_either() -> None:
    cache = RadixCache(100, 1)
    visit(cache, (1, 40), (2, 20))
    visit(cache, (1, 40), (3, 20))
    cache.take(40)  # 20 are free; it evicts for all 40, whole leaves at a time: both tails
    assert [found(cache, (1, 40), (c, 20), (9, 1)) for c in (2, 3)] == [40, 40]
    cache.free += 40
    visit(cache, (1, 40), (2, 20))
    visit(cache, (1, 40), (3, 20))
    cache.take(20)
    cache.take(20)  # one leaf is enough for these
    assert [found(cache, (1, 40), (c, 20), (9, 1)) for c in (2, 3)] == [40, 60]
    cache.take(20)
    assert found(cache, (1, 40), (3, 20), (9, 1)) == 40
    cache.take(40)
    assert found(cache, (1, 40), (3, 20), (9, 1)) == 0


def test_what_is_computed_twice_is_kept_once() -> None:
    cache = RadixCache(200, 1)
    root = [RadixLease(cache.root) for _ in range(2)]
    prompt = path((1, 50))
    for lease in root:
        cache.take(50)
        lease.blocks = 50
    for lease in root:
        cache.move(lease, cache.insert(lease, prompt.keys, prompt.ends, 50))
    assert (cache.free, cache.evictable) == (150, 0)
    for lease in root:
        let_go(cache, lease)
    assert (cache.free, cache.evictable) == (150, 50)


def test_a_flush_forgets_all_but_what_is_held() -> None:
    cache = RadixCache(200, 1)
    visit(cache, (1, 50), (2, 10))
    lease = hold(cache, path((1, 50), (3, 10)))
    assert cache.flush() == 10
    assert [found(cache, (1, 50), (c, 10), (9, 1)) for c in (2, 3)] == [50, 60]
    let_go(cache, lease)
    assert cache.flush() == 60
    assert (cache.free, cache.evictable) == (200, 0)


class Accounting(RuleBasedStateMachine):
    """Whatever sequences come, grow and go, pages are free, evictable or held, and their sum is the pool."""

    page = 1

    def __init__(self) -> None:
        super().__init__()
        self.cache = RadixCache(60, self.page)
        self.held: list[RadixLease] = []

    @rule(
        contents=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 7, 16])), min_size=1, max_size=4),
        part=st.floats(0.1, 1.0),
    )
    def admit(self, contents: list[tuple[int, int]], part: float) -> None:
        prompt = path(*((c * 100 + tokens, tokens) for c, tokens in contents))
        if prompt.tokens // self.page + 1 <= self.cache.available:
            self.held.append(hold(self.cache, prompt, max(1, int(part * prompt.tokens))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        let_go(self.cache, self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @rule(pages=st.integers(1, 20))
    def use_and_give_back(self, pages: int) -> None:
        if pages <= self.cache.available:
            self.cache.take(pages)
            self.cache.free += pages

    @rule()
    def flush(self) -> None:
        self.cache.flush()

    @invariant()
    def every_page_is_accounted_for(self) -> None:
        nodes, stack = [], [self.cache.root]
        while stack:
            node = stack.pop()
            nodes.append(node)
            for key, child in node.children.items():
                assert (child.parent, child.start, child.runs[0][0]) == (node, node.end, key)
                assert child.runs[-1][1] == child.end > child.start
                assert child.locks <= node.locks or node is self.cache.root
            stack += node.children.values()
        locked = {id(lease.node) for lease in self.held}
        assert all(n.locks >= 1 for n in nodes if id(n) in locked and n is not self.cache.root)
        unlocked = sum(n.pages for n in nodes[1:] if n.locks == 0)
        protected = sum(n.pages for n in nodes[1:] if n.locks)
        private = sum(lease.blocks - lease.node_blocks for lease in self.held)
        assert self.cache.free >= 0
        assert self.cache.evictable == unlocked
        assert self.cache.free + unlocked + protected + private == self.cache.kv_blocks

    def teardown(self) -> None:
        for lease in self.held:
            let_go(self.cache, lease)
        assert self.cache.available == self.cache.kv_blocks


class PagedAccounting(Accounting):
    page = 4


TestAccounting = Accounting.TestCase
TestPagedAccounting = PagedAccounting.TestCase
TestAccounting.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestPagedAccounting.settings = TestAccounting.settings
