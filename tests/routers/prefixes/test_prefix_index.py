"""The prefix index against a plain reading of its rule."""

from hypothesis import given, settings
from hypothesis import strategies as st

from routers.prefixes.prefix_index import PrefixIndex
from workloads.request import Prompt, Segment

NOWHERE = (0, None)
Segments = list[tuple[int, int]]  # (content_id, tokens)


def prompt(*segments: tuple[int, int]) -> Prompt:
    return Prompt.of(tuple(Segment(c, n) for c, n in segments))


SYSTEM, ASK, TELL, MORE = (1, 100), (2, 30), (3, 40), (4, 50)


def test_an_empty_index_and_an_empty_prompt_match_nothing() -> None:
    index = PrefixIndex([0, 1], 1000)
    assert index.longest_match(prompt(SYSTEM)) == NOWHERE
    index.insert(prompt(), 0)
    assert index.longest_match(prompt()) == NOWHERE


def test_a_match_ends_where_the_segments_part() -> None:
    index = PrefixIndex([0, 1], 1000)
    index.insert(prompt(SYSTEM, ASK), 1)
    assert index.longest_match(prompt(SYSTEM, ASK, MORE)) == (130, 1)
    assert index.longest_match(prompt(SYSTEM, TELL)) == (100, 1)
    assert index.longest_match(prompt(ASK)) == NOWHERE


def test_equal_segments_after_different_prefixes_are_different() -> None:
    index = PrefixIndex([0], 1000)
    index.insert(prompt(SYSTEM, ASK), 0)
    assert index.longest_match(prompt(TELL, ASK)) == NOWHERE


def test_the_replica_sent_last_owns_a_shared_prefix_and_the_longer_match_wins() -> None:
    index = PrefixIndex([0, 1], 1000)
    index.insert(prompt(SYSTEM, ASK), 0)
    index.insert(prompt(SYSTEM, TELL), 1)
    assert index.longest_match(prompt(SYSTEM, MORE)) == (100, 1)
    assert index.longest_match(prompt(SYSTEM, ASK)) == (130, 0)


def test_a_shared_prefix_is_counted_once_a_replica() -> None:
    index = PrefixIndex([0, 1], 1000)
    index.insert(prompt(SYSTEM, ASK), 0)
    index.insert(prompt(SYSTEM, TELL), 0)
    index.insert(prompt(SYSTEM, TELL), 1)
    assert (index.tokens_of(0), index.tokens_of(1), len(index)) == (170, 140, 3)


def test_the_least_recently_sent_leaf_is_evicted_first_and_the_shared_prefix_stays() -> None:
    index = PrefixIndex([0], 100 + 30 + 40)
    index.insert(prompt(SYSTEM, ASK), 0)
    index.insert(prompt(SYSTEM, TELL), 0)
    index.insert(prompt(SYSTEM, ASK), 0)  # again: now TELL is the older one
    index.insert(prompt(SYSTEM, MORE), 0)
    assert index.longest_match(prompt(SYSTEM, TELL)) == (100, 0)
    assert index.longest_match(prompt(SYSTEM, MORE)) == (150, 0)
    assert index.tokens_of(0) == 150  # 30 more would have fitted beside MORE only without ASK: 100 + 30 + 50 > 170


def test_eviction_for_one_replica_leaves_the_others_alone() -> None:
    index = PrefixIndex([0, 1], 100)
    index.insert(prompt((1, 60)), 0)
    index.insert(prompt((1, 60)), 1)
    index.insert(prompt((2, 60)), 1)
    assert index.longest_match(prompt((1, 60))) == (60, 0)


def test_a_prompt_longer_than_the_capacity_keeps_its_head() -> None:
    index = PrefixIndex([0], 120)
    index.insert(prompt(SYSTEM, ASK, TELL), 0)
    assert index.longest_match(prompt(SYSTEM, ASK, TELL)) == (100, 0)
    assert index.tokens_of(0) == 100


segments = st.lists(st.tuples(st.integers(1, 4), st.just(10)), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(inserts=st.lists(st.tuples(segments, st.integers(0, 2)), max_size=30), asked=segments)
def test_unbounded_it_remembers_everything(inserts: list[tuple[Segments, int]], asked: Segments) -> None:
    index = PrefixIndex([0, 1, 2], 1 << 30)
    best: tuple[int, int | None] = NOWHERE
    for sent, replica_id in inserts:
        index.insert(prompt(*sent), replica_id)
        shared = 0
        while shared < min(len(sent), len(asked)) and sent[shared] == asked[shared]:
            shared += 1
        if shared and 10 * shared >= best[0]:
            best = 10 * shared, replica_id
    assert index.longest_match(prompt(*asked)) == best


@settings(max_examples=150, deadline=None)
@given(inserts=st.lists(st.tuples(segments, st.integers(0, 2)), max_size=60), capacity=st.integers(10, 80))
def test_bounded_it_never_holds_more_and_counts_what_it_holds(inserts: list[tuple[Segments, int]], capacity: int) -> None:
    index = PrefixIndex([0, 1, 2], capacity)
    for sent, replica_id in inserts:
        index.insert(prompt(*sent), replica_id)
        held = {i: sum(n.tokens for n in index._nodes.values() if i in n.owners) for i in range(3)}
        assert held == {i: index.tokens_of(i) for i in range(3)}
        assert max(held.values()) <= capacity
        assert all(n.parent is None or n.owners.keys() <= index._nodes[n.parent].owners.keys() for n in index._nodes.values())
        matched, owner = index.longest_match(prompt(*sent))
        assert matched == min(10 * len(sent), capacity // 10 * 10)  # what was just sent is the last to go
        assert owner == replica_id


def test_a_replica_that_leaves_is_forgotten_and_one_that_comes_begins_empty() -> None:
    index = PrefixIndex([0, 1], 1000)
    index.insert(prompt(SYSTEM, ASK), 0)
    index.insert(prompt(SYSTEM, TELL), 1)
    index.set_replicas([1, 2])
    assert index.longest_match(prompt(SYSTEM, ASK)) == (100, 1)
    assert (len(index), index.tokens_of(1), index.tokens_of(2)) == (2, 140, 0)
    index.insert(prompt(SYSTEM, MORE), 2)
    assert index.longest_match(prompt(SYSTEM)) == (100, 2)
    index.set_replicas([0])
    assert (len(index), index.tokens_of(0)) == (0, 0)
