"""Bodies made ahead of time: the same bytes as made on the spot, within a window of time and bytes."""

import json
from dataclasses import replace

import pytest

from replay.client import Root
from replay.prompts import NOTHING
from replay.send.bodies import Bodies, BodyForm
from replay.send.writing import IdsWriting, Pieces
from tests.replay.scenes import conversation, single_turns
from workloads.prompts.token_ids import prompt_ids
from workloads.prompts.vocabulary import Vocabulary
from workloads.request import Prompt, Segment
from workloads.workload import Workload

VOCABULARY = Vocabulary.of_size(1000)


def bodies_of(workload: Workload, ahead_s: float = 2.0, ahead_bytes: int = 1 << 20, kept_bytes: int = 1 << 20) -> Bodies:
    form = BodyForm("m", "ignore_eos", True, 4096, {})
    return Bodies(workload.table, form, Pieces(IdsWriting(VOCABULARY), kept_bytes), ahead_s, ahead_bytes)


def root_of(workload: Workload, request_id: int, lost: frozenset[int] = NOTHING) -> Root:
    rows = workload.table.rows()
    row = workload.requests[request_id]
    facts = request_id, row.session_id, row.tenant, row.reply_id, row.output_tokens, -1, 0
    root = Root(rows, facts, 0.0, Prompt.of(row.segments), lost)
    root.attempts = 1
    return root


def ids_in(body: bytes) -> list[int]:
    ids: list[int] = json.loads(body)["prompt"]
    return ids


def test_made_ahead_is_what_would_be_made_on_the_spot() -> None:
    workload = single_turns([0.0, 0.5, 1.0])
    ahead, spot = bodies_of(workload), bodies_of(workload)
    while ahead.work_ahead(0.0):
        pass
    for request in workload.requests:
        body = ahead.take(root_of(workload, request.request_id))
        assert body == spot.take(root_of(workload, request.request_id))
        assert ids_in(body) == prompt_ids(request.segments, VOCABULARY).tolist()
    assert (ahead.late, spot.late) == (0, 3)


def test_the_window_bounds_what_is_made() -> None:
    workload = single_turns([0.0, 1.0, 2.0, 3.0])
    in_time, in_bytes = bodies_of(workload, ahead_s=1.5), bodies_of(workload, ahead_bytes=1)
    assert [in_time.work_ahead(0.0) for _ in range(3)] == [True, True, False]
    assert [in_bytes.work_ahead(0.0) for _ in range(2)] == [True, False]
    in_time.take(root_of(workload, 0))
    in_bytes.take(root_of(workload, 0))
    assert in_bytes.work_ahead(0.0), "there is room again"
    assert in_time.work_ahead(1.0)
    assert not in_time.work_ahead(1.0)


def test_what_is_past_is_not_made_any_more() -> None:
    workload = single_turns([0.0, 1.0])
    bodies = bodies_of(workload)
    assert bodies.work_ahead(0.5)
    assert not bodies.work_ahead(0.5)
    for request_id, late in ((0, 1), (1, 1)):
        bodies.take(root_of(workload, request_id))
        assert bodies.late == late


def test_a_pause_of_the_machine_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One body seemed to take 10 s: with 2 ms of slack none is begun for a while, and then they are again."""
    bodies = bodies_of(single_turns([0.1 * i for i in range(10)]))
    times = iter([0.0, 10.0, *[10.0] * 100])
    monkeypatch.setattr("replay.send.bodies.time.perf_counter", lambda: next(times))
    assert bodies.work_ahead(0.0, slack_s=0.002)
    tries = [bodies.work_ahead(0.0, slack_s=0.002) for _ in range(1000)]
    assert not any(tries[:100])
    assert sum(tries) == 9


def test_a_later_turn_is_made_for_the_replies_that_it_repeats() -> None:
    workload = conversation(2, think_s=1.0)
    turn = workload.requests[1]
    bodies = bodies_of(workload)
    bodies.expect(1, 0.0, NOTHING)
    while bodies.work_ahead(0.0):
        pass
    lost = frozenset({workload.requests[0].reply_id})
    body = bodies.take(root_of(workload, 1, lost))
    expected = [replace(s, content_id=~s.content_id) if s.content_id in lost else s for s in turn.segments]
    assert ids_in(body) == prompt_ids(expected, VOCABULARY).tolist()
    assert bodies.late == 1, "another reply was lost than was thought: it had to be made again"


def test_a_reply_is_repeated_and_filled_up_with_the_plans() -> None:
    pieces = Pieces(IdsWriting(VOCABULARY))
    reply = Segment(5, 4)
    assert pieces.keep_reply(reply, [11, 12], "")
    planned = prompt_ids([reply], VOCABULARY).tolist()
    assert json.loads(pieces.whole([Segment(1, 0), reply])) == [11, 12, *planned[2:]]
    pieces.forget_replies([5, 6])
    assert json.loads(pieces.whole([reply])) == planned
    assert not pieces.keep_reply(reply, [1, 2, 3, 4, 5], "")
    assert not pieces.keep_reply(reply, [], "")


@pytest.mark.parametrize("kept_bytes", [0, 500, 1 << 20])
def test_how_much_is_kept_changes_no_byte(kept_bytes: int) -> None:
    workload = single_turns([0.0, 0.1, 0.2, 0.3])
    some, all_ = bodies_of(workload, kept_bytes=kept_bytes), bodies_of(workload)
    for _ in range(2):
        for i in range(4):
            assert some.take(root_of(workload, i)) == all_.take(root_of(workload, i))
