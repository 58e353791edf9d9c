"""The block indexes: what a match is, what is forgotten when, and both against a plain reading of their rules, block by block."""

from collections import OrderedDict
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.policy import KvEvent
from routers.prefixes.block_index import ApproximateIndex, BlockIndex, ExactIndex
from workloads.request import Prompt, Segment

SIZE = 16


def prompt(*segments: tuple[int, int]) -> Prompt:
    return Prompt.of(tuple(Segment(c, n) for c, n in segments))


SYSTEM, ASK, TELL, MORE = (1, 100), (2, 30), (3, 40), (4, 50)


def approximate(n: int = 3, max_blocks: int = 1000, ttl_s: float | None = None) -> ApproximateIndex:
    return ApproximateIndex(range(n), SIZE, max_blocks, ttl_s)


def exact(n: int = 3, max_blocks: int = 1000) -> ExactIndex:
    return ExactIndex(range(n), SIZE, max_blocks)


# What a match is


@pytest.mark.parametrize(
    ("sent", "asked", "matched"),
    [
        ([SYSTEM], [SYSTEM, ASK], 96),  # 100 tokens are 6 whole blocks
        ([SYSTEM, ASK], [SYSTEM, ASK], 128),  # 130 are 8: the 7th block holds the end of SYSTEM and belongs to ASK
        ([SYSTEM, ASK], [SYSTEM, TELL], 96),  # that 7th block is another one after another segment
        ([SYSTEM, ASK], [SYSTEM, ASK, MORE], 128),
        ([SYSTEM, ASK], [ASK], 0),
        ([(1, 15)], [(1, 15)], 0),  # no whole block
        ([(1, 15), (2, 1)], [(1, 15), (2, 1)], 16),  # one, of the second segment
        ([(1, 15), (2, 1)], [(1, 15), (3, 1)], 0),
        ([(1, 160)], [(1, 80)], 80),  # a reply cut short begins alike
        ([(1, 80)], [(1, 160), (2, 100)], 80),
        ([], [], 0),
    ],
)
def test_whole_blocks_are_matched(sent: list[tuple[int, int]], asked: list[tuple[int, int]], matched: int) -> None:
    index = approximate()
    index.sent(prompt(*sent), 1, 0.0)
    assert index.matched(prompt(*asked), 0.0) == ({1: matched} if matched else {})


def test_each_replica_has_its_own_match() -> None:
    index = approximate()
    index.sent(prompt(SYSTEM), 0, 0.0)
    index.sent(prompt(SYSTEM, ASK), 1, 0.0)
    index.sent(prompt(SYSTEM, ASK, MORE), 2, 0.0)
    assert index.matched(prompt(SYSTEM, ASK, MORE, TELL), 0.0) == {0: 96, 1: 128, 2: 176}
    assert index.matched(prompt(SYSTEM, TELL), 0.0) == {0: 96, 1: 96, 2: 96}
    assert index.matched(prompt(TELL), 0.0) == {}
    assert (len(index), index.blocks_of(0), index.blocks_of(1), index.blocks_of(2)) == (6, 6, 8, 11)


# What is forgotten


def test_the_tail_of_the_least_recently_sent_prompt_goes_first() -> None:
    index = approximate(max_blocks=10)
    index.sent(prompt((1, 64), (2, 64)), 0, 0.0)  # 4 + 4 blocks
    index.sent(prompt((3, 96)), 0, 1.0)  # 6 more: 4 too many
    assert index.matched(prompt((1, 64), (2, 64)), 1.0) == {0: 64}
    assert index.blocks_of(0) == 10
    index.sent(prompt((4, 16)), 0, 2.0)  # a part of a segment can go
    assert index.matched(prompt((1, 64), (2, 64)), 2.0) == {0: 48}


def test_sent_again_is_recent_again() -> None:
    index = approximate(max_blocks=8)
    index.sent(prompt((1, 64)), 0, 0.0)
    index.sent(prompt((2, 64)), 0, 1.0)
    index.sent(prompt((1, 64)), 0, 2.0)
    index.sent(prompt((3, 64)), 0, 3.0)
    assert index.matched(prompt((1, 64)), 3.0) == {0: 64}
    assert index.matched(prompt((2, 64)), 3.0) == {}


def test_a_prompt_longer_than_the_bound_keeps_its_head() -> None:
    index = approximate(max_blocks=5)
    index.sent(prompt((1, 64), (2, 64)), 0, 0.0)
    assert index.matched(prompt((1, 64), (2, 64)), 0.0) == {0: 80}


def test_one_replicas_eviction_leaves_the_others_alone() -> None:
    index = approximate(max_blocks=4)
    for replica_id in (0, 1):
        index.sent(prompt((1, 64)), replica_id, 0.0)
    index.sent(prompt((2, 32)), 0, 1.0)
    assert index.matched(prompt((1, 64)), 1.0) == {0: 32, 1: 64}


@pytest.mark.parametrize(("at_s", "matched"), [(129.9, {0: 128}), (130.0, {0: 96}), (140.0, {})])
def test_entries_live_for_the_ttl_after_they_were_sent_last(at_s: float, matched: dict[int, int]) -> None:
    index = approximate(ttl_s=120.0)
    index.sent(prompt(SYSTEM, ASK), 0, 10.0)
    index.sent(prompt(SYSTEM), 0, 20.0)
    assert index.matched(prompt(SYSTEM, ASK), at_s) == matched
    assert len(index) == len(matched) + (matched == {0: 128})


def test_a_replica_that_leaves_is_forgotten_and_its_place_is_used_again() -> None:
    for index in (approximate(), approximate(ttl_s=5.0)):
        for replica_id in range(3):
            index.sent(prompt(SYSTEM, ASK), replica_id, 0.0)
        index.set_replicas((0, 2, 7))
        assert index.matched(prompt(SYSTEM, ASK), 0.0) == {0: 128, 2: 128}
        index.sent(prompt(SYSTEM), 7, 1.0)
        assert index.matched(prompt(SYSTEM, ASK), 1.0) == {0: 128, 2: 128, 7: 96}
        index.set_replicas((1,))
        assert (index.matched(prompt(SYSTEM, ASK), 1.0), len(index)) == ({}, 0)


# What replicas tell


def path(*segments: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(key, tokens in whole blocks) of a prompt's segments, as an event tells them."""
    p = prompt(*segments)
    starts = (0, *p.ends[:-1])
    return tuple((k, (e // SIZE - s // SIZE) * SIZE) for k, s, e in zip(p.keys, starts, p.ends, strict=True))


def test_an_exact_index_holds_what_it_was_told_last() -> None:
    index = exact()
    index.heard(1, KvEvent(1, path(SYSTEM, ASK)), 0.0)
    assert index.matched(prompt(SYSTEM, ASK), 0.0) == {1: 128}
    (_, ask) = path(SYSTEM, ASK)
    index.heard(1, KvEvent(2, ((ask[0], 16),)), 0.0)
    assert index.matched(prompt(SYSTEM, ASK), 0.0) == {1: 112}
    index.heard(1, KvEvent(3, ((ask[0], 0),)), 0.0)
    assert index.matched(prompt(SYSTEM, ASK), 0.0) == {1: 96}
    index.heard(1, KvEvent(4, path(TELL), cleared=True), 0.0)
    assert index.matched(prompt(SYSTEM, ASK), 0.0) == {}
    assert index.matched(prompt(TELL), 0.0) == {1: 32}


def test_what_was_only_sent_is_not_believed() -> None:
    index = exact()
    index.sent(prompt(SYSTEM), 0, 0.0)
    assert index.matched(prompt(SYSTEM), 0.0) == {}


def test_after_a_lost_event_nothing_is_believed_until_all_is_told_again() -> None:
    index = exact()
    index.heard(0, KvEvent(1, path(SYSTEM)), 0.0)
    index.heard(1, KvEvent(1, path(SYSTEM)), 0.0)
    index.heard(0, KvEvent(3, path(TELL)), 1.0)
    assert (index.gaps, index.lost, index.blocks_of(0)) == (1, frozenset({0}), 0)
    index.heard(0, KvEvent(4, path(SYSTEM, ASK)), 1.5)
    index.heard(0, KvEvent(9, path(SYSTEM, ASK)), 1.6)  # while it is lost another gap is no news
    assert (index.matched(prompt(SYSTEM), 2.0), index.gaps) == ({1: 96}, 1)
    index.heard(0, KvEvent(12, path(SYSTEM, ASK), cleared=True), 3.0)
    assert (index.matched(prompt(SYSTEM, ASK), 3.0), index.lost) == ({0: 128, 1: 96}, frozenset())


def test_whoever_is_heard_too_late_is_lost_and_an_old_event_is_no_news() -> None:
    index = exact()
    index.heard(0, KvEvent(5, path(SYSTEM)), 0.0)  # four were told before
    assert (index.gaps, index.matched(prompt(SYSTEM), 0.0)) == (1, {})
    index.heard(1, KvEvent(1, path(SYSTEM)), 0.0)
    index.heard(1, KvEvent(1, path(TELL)), 0.0)
    assert (index.gaps, index.matched(prompt(TELL), 0.0)) == (1, {})
    index.heard(1, KvEvent(1, path(TELL), cleared=True), 0.0)  # number 1 that clears: started anew
    index.heard(1, KvEvent(2, path(ASK)), 0.0)
    assert (index.gaps, index.blocks_of(1)) == (1, 3)
    index.heard(9, KvEvent(1, path(TELL)), 0.0)  # not in the pool
    assert len(index) == 2


# Against a plain reading, block by block


class PlainBlocks:
    """Every block of every replica by itself, in order of use: head blocks are used after the tail's."""

    def __init__(self, max_blocks: int) -> None:
        self.max_blocks = max_blocks
        self.used: dict[int, OrderedDict[tuple[int, int], float]] = {}

    def blocks(self, p: Prompt) -> list[tuple[int, int]]:
        """(key, number within the segment) from head to tail."""
        first, found = 0, []
        for key, end in zip(p.keys, p.ends, strict=True):
            found += [(key, n) for n in range(end // SIZE - first)]
            first = end // SIZE
        return found

    def sent(self, p: Prompt, replica_id: int, now_s: float) -> None:
        used = self.used.setdefault(replica_id, OrderedDict())
        for block in reversed(self.blocks(p)):
            used[block] = now_s
            used.move_to_end(block)
        while len(used) > self.max_blocks:
            used.popitem(last=False)

    def expire(self, until_s: float) -> None:
        for replica_id, used in self.used.items():
            self.used[replica_id] = OrderedDict((b, t) for b, t in used.items() if t > until_s)

    def matched(self, p: Prompt) -> dict[int, int]:
        found = {}
        for replica_id, used in self.used.items():
            n = 0
            for block in self.blocks(p):
                if block not in used:
                    break
                n += 1
            found[replica_id] = n * SIZE
        return {i: n for i, n in found.items() if n}


tokens_of = [7, 16, 40, 33, 90]  # each content has its own length
paths = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(lambda cs: [(c + 1, tokens_of[c]) for c in cs])


@settings(max_examples=150, deadline=None)
@given(
    sends=st.lists(st.tuples(paths, st.integers(0, 2), st.integers(0, 3)), max_size=40),
    max_blocks=st.integers(1, 25),
    ttl_s=st.none() | st.integers(1, 12),
)
def test_the_approximate_index_is_an_lru_of_blocks_with_a_ttl(
    sends: list[tuple[list[tuple[int, int]], int, int]], max_blocks: int, ttl_s: int | None
) -> None:
    index, plain, now_s = approximate(max_blocks=max_blocks, ttl_s=ttl_s), PlainBlocks(max_blocks), 0.0
    for segments, replica_id, wait_s in sends:
        now_s += wait_s
        if ttl_s is not None:
            plain.expire(now_s - ttl_s)
        p = prompt(*segments)
        assert index.matched(p, now_s) == plain.matched(p)
        index.sent(p, replica_id, now_s)
        plain.sent(p, replica_id, now_s)
        assert index.matched(p, now_s) == plain.matched(p)
        assert_sound(index, range(3), max_blocks)
        assert all(index.blocks_of(i) == len(plain.used.get(i, ())) for i in range(3))


changes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=4)
events = st.lists(st.tuples(st.integers(0, 2), changes, st.booleans(), st.sampled_from([0, 0, 0, 0, 1])), max_size=40)


@settings(max_examples=150, deadline=None)
@given(told=events)
def test_the_exact_index_is_what_was_told_since_the_last_gap(
    told: list[tuple[int, list[tuple[int, int]], bool, int]],
) -> None:
    p = prompt(*[(c, 48) for c in range(4)])  # 3 blocks a segment; keys of two others are told too
    keys = [*p.keys, 11, 12]
    index, numbers, known, lost = exact(), [0, 0, 0], [dict.fromkeys(keys, 0) for _ in range(3)], [False] * 3
    for replica_id, changed, cleared, skipped in told:
        numbers[replica_id] += 1 + skipped
        now_cached = tuple((keys[k], n * SIZE) for k, n in changed)
        index.heard(replica_id, KvEvent(numbers[replica_id], now_cached, cleared and bool(changed)), 0.0)
        if cleared and changed:
            lost[replica_id] = False
            known[replica_id] = dict.fromkeys(keys, 0)
        elif skipped:
            lost[replica_id] = True
        if lost[replica_id]:
            known[replica_id] = dict.fromkeys(keys, 0)
        else:
            known[replica_id].update({keys[k]: n for k, n in changed})
        assert_sound(index, range(3), 1000)
        assert index.lost == {i for i in range(3) if lost[i]}
        assert [index.blocks_of(i) for i in range(3)] == [sum(held.values()) for held in known]
        assert index.matched(p, 0.0) == {i: n for i in range(3) if (n := leading(known[i], p))}


def leading(held: dict[int, int], p: Prompt) -> int:
    blocks = 0
    for key in p.keys:
        blocks += min(3, held[key])
        if held[key] < 3:
            break
    return blocks * SIZE


def assert_sound(index: BlockIndex, replica_ids: Iterable[int], max_blocks: int) -> None:
    """The bound holds, and the counts, the order of use and the nodes tell the same story."""
    held = index._held
    for replica_id in replica_ids:
        blocks = {key: held.held(replica_id, key) for key in held._nodes}
        assert sum(blocks.values()) == held.blocks_of(replica_id) <= max_blocks
        assert {key for key, n in blocks.items() if n} == set(held._touched[replica_id])
    for key, fewer in held._fewer.items():
        assert fewer
        assert all(0 < n < held._nodes[key] & 0xFFFFFF for n in fewer.values())
