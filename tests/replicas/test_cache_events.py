"""KV events: whoever reads all of them knows the cache of an engine, whatever it went through."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicas.cache_events import CacheChange, CacheLog, TellingPrefixCache, TellingRadixCache, telling
from replicas.engine import Engine
from replicas.prefix_cache import PrefixCache
from replicas.radix_cache import Node, RadixCache
from replicas.schedulers import SCHEDULERS
from replicas.sequence import Sequence
from routers.policy import KvEvent
from routers.prefixes.block_index import ExactIndex
from tests.replicas.test_engine import PROFILE
from tests.replicas.test_radix_cache import hold, let_go
from workloads.request import Prompt, Segment


def path(*segments: tuple[int, int]) -> Prompt:
    return Prompt.of(tuple(Segment(*s) for s in segments))


# The log


def test_changes_are_numbered_and_told_once_with_the_latest_word() -> None:
    log = CacheLog(16)
    assert log.take() is None
    log.note(7, 2)
    log.note(7, 3)
    log.note(8, 1)
    assert log.take() == CacheChange(1, ((7, 48), (8, 16)))
    assert log.take() is None
    log.note(7, 3)  # no news
    assert log.take() is None
    log.note(7, 0)
    assert log.take() == CacheChange(2, ((7, 0),))


def test_a_clear_and_a_summary_void_what_was_told_before() -> None:
    log = CacheLog(16)
    log.note(7, 2)
    log.note(8, 1)
    log.take()
    log.note(8, 2)
    assert log.everything() == CacheChange(2, ((7, 32), (8, 32)), cleared=True)
    assert log.take() is None  # the summary told the last change too
    log.clear()
    log.note(9, 1)
    assert log.take() == CacheChange(3, ((9, 16),), cleared=True)
    log.clear()
    assert log.take() == CacheChange(4, (), cleared=True)


def test_a_telling_cache_is_of_the_same_kind_and_size() -> None:
    log = CacheLog(4)
    blocks, pages = telling(PrefixCache(10, 4), log), telling(RadixCache(20, 4), log)
    assert isinstance(blocks, TellingPrefixCache)
    assert isinstance(pages, TellingRadixCache)
    assert ((blocks.kv_blocks, blocks.block_tokens), (pages.kv_blocks, pages.block_tokens)) == ((10, 4), (20, 4))


def test_pages_are_told_by_their_segments() -> None:
    log = CacheLog(1)
    cache = TellingRadixCache(100, 1, log)
    prompt = path((1, 10), (2, 10), (3, 10))
    one, two, three = prompt.keys
    let_go(cache, hold(cache, prompt, 8))
    assert log.take() == CacheChange(1, ((one, 8),))
    let_go(cache, hold(cache, prompt, 25))
    assert log.take() == CacheChange(2, ((one, 10), (two, 10), (three, 5)))
    cache.evict(1)  # the leaf goes whole: all beyond the first 8
    assert log.take() == CacheChange(3, ((one, 8), (two, 0), (three, 0)))


# An engine that tells


@contextmanager
def telling_engine(scheduler: str, log: CacheLog, **changes: object) -> Iterator[Engine]:
    profile = replace(PROFILE, scheduler=scheduler, **changes)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patched:
        plain = SCHEDULERS[scheduler].new_cache
        patched.setattr(SCHEDULERS[scheduler], "new_cache", staticmethod(lambda p: telling(plain(p), log)))
        yield Engine(profile)


def cached_now(cache: PrefixCache | RadixCache) -> dict[int, int]:
    """Key → blocks, read from the cache itself."""
    if isinstance(cache, PrefixCache):
        cache.match((0,), (1,))
        return {key: node.cached for key, node in cache._nodes.items() if node.cached}
    found: dict[int, int] = {}
    left: list[Node] = [cache.root]
    while left:
        node = left.pop()
        first = node.start
        for key, end in node.runs:
            found[key] = found.get(key, 0) + end - first
            first = end
        left += node.children.values()
    return found


KNOWN = [
    path(*segments) for segments in ([(1, 50)], [(1, 50), (2, 30)], [(1, 50), (3, 45)], [(1, 50), (3, 45), (4, 40)], [(5, 90)])
]
asks = st.lists(
    st.tuples(
        st.integers(0, len(KNOWN) - 1),
        st.integers(1, 40),  # output
        st.sampled_from([0.0, 0.0, 0.03, 0.2]),  # then wait
        st.sampled_from(["serve", "serve", "serve", "cancel", "flush", "restart"]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize(("scheduler", "block_tokens"), [("vllm", 16), ("sglang", 1), ("sglang", 16)])
@settings(max_examples=40, deadline=None)
@given(story=asks)
@example(story=[(0, 3, 0.03, "serve"), (0, 2, 0.0, "serve")])  # an answer cut short after the longer one was cached
def test_a_reader_of_all_events_knows_the_cache(
    scheduler: str, block_tokens: int, story: list[tuple[int, int, float, str]]
) -> None:
    log = CacheLog(block_tokens)
    index = ExactIndex([0], block_tokens, 1 << 40)
    limits = {"block_tokens": block_tokens, "kv_blocks": 320 // block_tokens, "context_tokens": 288, "max_batched_tokens": 64}
    with telling_engine(scheduler, log, **limits) as engine:
        cache, now_s = engine.cache, 0.0

        def read() -> None:
            change = log.take()
            if change is not None:
                index.heard(0, KvEvent(*change), now_s)
            known = {key: index._held.held(0, key) for key in index._held._nodes}
            assert known == cached_now(cache) == log._cached

        for number, (known, output, wait_s, event) in enumerate(story):
            sequence = Sequence(number, KNOWN[known], 100 + known, output)
            engine.submit(sequence, now_s)
            if event == "cancel":
                engine.cancel(sequence, now_s + 0.02)
            elif event == "flush":
                cache.flush()
                read()
            now_s += wait_s
            while engine.next_s <= now_s:
                engine.on_wake(engine.next_s)
                read()
            if event == "restart":
                engine = Engine(engine.profile)
                cache = engine.cache
                log.clear()
                read()
        while engine.next_s < float("inf"):
            engine.on_wake(engine.next_s)
            read()
        assert index.gaps == 0
        for prompt in KNOWN:
            ends_within = (prompt.tokens - 1) // block_tokens
            assert min(index.matched(prompt, now_s).get(0, 0) // block_tokens, ends_within) == cache.match(*prompt)


def test_who_missed_an_event_knows_all_again_after_a_summary() -> None:
    log, index = CacheLog(16), ExactIndex([0], 16, 1000)
    with telling_engine("vllm", log) as engine:
        for number, prompt in enumerate(KNOWN):
            engine.submit(Sequence(number, prompt, 100 + number, 4), 0.0)
            while engine.next_s < float("inf"):
                engine.on_wake(engine.next_s)
            change = log.take()
            assert change is not None
            if number != 1:  # lost
                index.heard(0, KvEvent(*change), 0.0)
        assert (index.gaps, len(index)) == (1, 0)
        index.heard(0, KvEvent(*log.everything()), 0.0)
        assert {key: index._held.held(0, key) for key in index._held._nodes} == cached_now(engine.cache)
