"""Requests in columns are the requests: prompts that extend each other, and prompts that do not."""

from hypothesis import given
from hypothesis import strategies as st

from tests.replay.scenes import conversation, single_turns
from workloads.request import Request, Segment
from workloads.request_table import RequestTable

SEGMENTS = st.lists(st.builds(Segment, st.integers(1, 9), st.integers(1, 99)), min_size=1, max_size=4).map(tuple)


def test_a_growing_conversation_keeps_only_what_is_new() -> None:
    requests = conversation(4).requests
    table = RequestTable.of(requests)
    assert table.extends.tolist() == [False, True, True, True]
    assert len(table.new_ids) == 5, "the system prompt once, then one message a turn"
    assert table.requests() == requests


def test_a_prompt_that_does_not_extend_the_one_before_stands_whole() -> None:
    first, second, *_ = conversation(3).requests
    cut = Request(1, 0, 1, None, 1.0, second.segments[1:], 8, 1, 0)
    table = RequestTable.of((first, cut))
    assert table.extends.tolist() == [False, False]
    assert table.requests() == (first, cut)


def test_tables_one_after_another() -> None:
    one, two = conversation(3).requests, single_turns([1.0, 2.0]).requests
    both = RequestTable.joined([RequestTable.of(one), RequestTable.of(two)]).requests()
    assert [r.segments for r in both] == [r.segments for r in (*one, *two)]
    assert [r.request_id for r in both] == list(range(5))
    assert len(RequestTable.joined([RequestTable.of(()), RequestTable.of(one)])) == 3


@given(st.lists(st.tuples(st.integers(0, 2), SEGMENTS, st.booleans()), max_size=8))
def test_any_requests_come_back(rows: list[tuple[int, tuple[Segment, ...], bool]]) -> None:
    requests = [
        Request(i, session, i, 1.0 if timed else None, None if timed else 0.25, segments, 100 + i, 3, session)
        for i, (session, segments, timed) in enumerate(rows)
    ]
    assert RequestTable.of(requests).requests() == tuple(requests)
