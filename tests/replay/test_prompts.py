"""Prompts are the same whether a turn is written after the one before, alone, or after a reply was lost."""

import pytest

from replay.prompts import PromptWriter
from tests.replay.scenes import conversation
from workloads.request import Prompt, Request, Segment
from workloads.request_table import RequestTable

TURNS = conversation(6).requests


def written(writer: PromptWriter, table: RequestTable, i: int) -> Prompt:
    _, session_id, *_, ids, tokens = table.rows().row(i)
    return writer.write(i, session_id, ids, tokens)[0]


def with_lost(request: Request, lost: set[int]) -> Prompt:
    return Prompt.of(tuple(Segment(~s.content_id if s.content_id in lost else s.content_id, s.tokens) for s in request.segments))


@pytest.mark.parametrize("turns", [range(6), [0, 1, 4, 5], [3], [0, 0, 1]], ids=str)
def test_a_prompt_is_its_segments_whatever_was_written_before(turns: list[int]) -> None:
    table = RequestTable.of(TURNS)
    writer = PromptWriter(table.rows(), "engine")
    for i in turns:
        assert written(writer, table, i) == Prompt.of(TURNS[i].segments)


def test_a_prompt_that_does_not_extend_the_one_before_stands_alone() -> None:
    cut = Request(2, 0, 2, None, 1.0, (Segment(9, 5), *TURNS[2].segments), 77, 10, 0)
    table = RequestTable.of((*TURNS[:2], cut))
    writer = PromptWriter(table.rows(), "engine")
    assert [written(writer, table, i) for i in range(3)] == [Prompt.of(r.segments) for r in (*TURNS[:2], cut)]


def test_a_lost_reply_stays_lost_until_the_session_is_over() -> None:
    table = RequestTable.of(TURNS)
    writer = PromptWriter(table.rows(), "engine")
    written(writer, table, 0)
    written(writer, table, 1)
    writer.lose(0, TURNS[1].reply_id)
    for i in (2, 3):
        assert written(writer, table, i) == with_lost(TURNS[i], {TURNS[1].reply_id}) != Prompt.of(TURNS[i].segments)
    writer.forget_after(4, 0)
    assert written(writer, table, 5) == with_lost(TURNS[5], {TURNS[1].reply_id}), "its last turn is still to come"
    writer.forget_after(5, 0)
    assert written(writer, table, 0) == Prompt.of(TURNS[0].segments)


def test_history_trace_has_none_of_an_engines_replies() -> None:
    table = RequestTable.of(TURNS)
    writer = PromptWriter(table.rows(), "trace")
    for i in range(6):
        assert written(writer, table, i) == with_lost(TURNS[i], {r.reply_id for r in TURNS[:i]})
