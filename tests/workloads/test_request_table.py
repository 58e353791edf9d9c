"""Requests in columns are the requests: prompts that extend each other, and prompts that do not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replay.scenes import conversation, single_turns
from workloads import request_table
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
    table = RequestTable.of(requests)
    assert table.requests() == tuple(requests)
    by_row = table.rows()
    assert [by_row.request(i) for i in range(len(by_row))] == requests
    backwards = list(range(len(requests)))[::-1]
    assert list(by_row.rows(np.array(backwards, dtype=np.int64))) == [by_row.row(i) for i in backwards]


def test_rows_are_read_in_blocks_of_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_table, "_BLOCK", 2)
    rows = RequestTable.of(conversation(5).requests).rows()
    ids = [4, 0, 3, 3, 1]
    read = list(rows.rows(np.array(ids)))
    assert read == [rows.row(i) for i in ids]
    assert [(row[0], row[7], row[9]) for row in read] == [
        (4, 0, [50]),
        (0, 4, [64, 50]),
        (3, 1, [50]),
        (3, 1, [50]),
        (1, 3, [50]),
    ]


def test_turns_wait_for_those_before_them_unless_they_have_a_time() -> None:
    first, second, third, fourth = conversation(4).requests
    timed = replace(third, arrival_s=9.0, think_s=None)
    other = replace(single_turns([1.0]).requests[0], request_id=4, session_id=8)
    rows = RequestTable.of((first, second, timed, fourth, other)).rows()
    assert list(rows.turns_waiting) == [1, 0, 1, 0, 0]
