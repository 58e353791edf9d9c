"""What targets can do to the sender, each shown on a small server that does it: every attempt has one outcome."""

import gc
import socket
import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from replay.cell import SessionRule
from replay.retry import RetryRule
from replay.send.sender import Sender
from replay.send.spec import SendSpec
from tests.replay.scenes import cell, conversation, single_turns
from tests.replay.send.scripted import (
    CLOSE,
    STREAM,
    Answering,
    Asked,
    Script,
    ending,
    event,
    framed,
    played,
    send_cell,
    server,
    well,
)
from workloads.events import Event

ONE = single_turns([0.0])


def test_an_answer_as_it_should_be() -> None:
    with server(well) as (url, asked):
        rows, sender = played(single_turns([0.0, 0.1, 0.2]), url, model="m", body={"top_k": 1})
    assert [(r.outcome, r.status, r.error, r.output_tokens, r.decoded_tokens) for r in rows] == [("ok", 200, "", 8, 8)] * 3
    assert [(r.replica_id, r.router_try, r.client_attempt, r.prefilled_tokens) for r in rows] == [(0, 1, 1, 256)] * 3
    for row, due_us in zip(rows, (0, 100_000, 200_000), strict=True):
        assert row.scheduled_us == due_us
        assert row.sent_us is not None
        assert row.first_token_us is not None
        assert row.ended_us is not None
        assert due_us <= row.sent_us <= row.first_token_us <= row.ended_us == row.engine_ended_us
    assert sender.client.counts["ok"] == sender.client.counts["planned"] == 3
    assert [(a.connection, a.number) for a in asked] == [(0, 0), (0, 1), (0, 2)], "one connection, kept"
    assert sender.facts == {"opened": 1, "late_bodies": 0}
    body = asked[0].body
    assert len(body.pop("prompt")) == 256
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "temperature": 0,
        "top_k": 1,
        "max_tokens": 8,
    }
    assert asked[1].headers["x-stampede-request"] == "1.1"
    assert asked[1].headers["x-session-id"] == "1"


def test_a_gateway_knows_the_session_by_its_own_header() -> None:
    with server(well) as (url, asked):
        played(single_turns([0.0, 0.05]), url, session_header="x-smg-routing-key")
    assert [one.headers["x-smg-routing-key"] for one in asked] == ["0", "1"]
    assert "x-session-id" not in asked[0].headers
    with pytest.raises(ValueError, match="session_header: 'a b'; allowed: a header's name"):
        played(single_turns([0.0]), url, session_header="a b")


def scripted(*pieces: bytes | float | object) -> Answering:
    return lambda asked: list(pieces)


def wrong_count(asked: Asked) -> Script:
    return [STREAM % b"", event() * 3, ending(asked, 3)]


HEAD = STREAM % b""
ERROR = b'{"error":{"message":"full","code":%d}}'


@pytest.mark.parametrize(
    ("answer", "outcome", "status", "error"),
    [
        (scripted(CLOSE), "error", 0, "closed without an answer"),
        (scripted(b"not HTTP at all\r\n\r\n"), "error", 0, "stream: not an HTTP response"),
        (scripted(HEAD, event(), CLOSE), "error", 0, "truncated stream: closed after 1 chunks"),
        (scripted(HEAD, event() + b"0\r\n\r\n"), "error", 0, "truncated stream: ended after 1 chunks"),
        (scripted(HEAD, framed(b"{not json")), "error", 0, "stream: not JSON"),
        (scripted(HEAD, event(reason="length"), framed(b"[DONE]") + b"0\r\n\r\n"), "error", 200, "no usage"),
        (scripted(HEAD, framed(ERROR % 503) + framed(b"[DONE]") + b"0\r\n\r\n"), "refused", 503, "error event: full"),
        (scripted(HEAD, framed(ERROR % 500) + framed(b"[DONE]") + b"0\r\n\r\n"), "error", 500, "error event: full"),
        (scripted(b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n"), "refused", 429, "HTTP 429"),
        (scripted(b"HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\nsorry"), "refused", 503, "HTTP 503: sorry"),
        (scripted(b"HTTP/1.1 500 Oops\r\n\r\nboom\nboom", CLOSE), "error", 500, "HTTP 500: boom boom"),
        (scripted(b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\n{}"), "error", 400, "HTTP 400: {}"),
        (wrong_count, "error", 200, "wrong token count: 3 of 8"),
        (lambda asked: [HEAD, event("", reason="abort"), ending(asked, 0)], "error", 200, "empty answer: finish_reason abort"),
        (lambda asked: [HEAD, event() * 2, event("", reason="abort"), ending(asked, 2)], "error", 200, "aborted after 2 tokens"),
    ],
)
def test_a_bad_answer_has_one_outcome(answer: Answering, outcome: str, status: int, error: str) -> None:
    with server(answer) as (url, _):
        (row,), sender = played(ONE, url)
    assert (row.outcome, row.status) == (outcome, status)
    assert error in row.error
    assert sender.client.counts["failed"] == sender.client.counts["scheduled"] == 1


def test_a_model_that_may_stop_makes_no_wrong_count() -> None:
    with server(wrong_count) as (url, asked):
        (row,), _ = played(ONE, url, length="free")
    assert (row.outcome, row.output_tokens) == ("ok", 3)
    assert "ignore_eos" not in asked[0].body
    with server(wrong_count) as (url, asked):
        (row,), _ = played(ONE, url, length="min_tokens")
    assert row.error == "wrong token count: 3 of 8"
    assert (asked[0].body["min_tokens"], asked[0].body.get("ignore_eos")) == (8, None)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (row,), sender = played(ONE, f"http://127.0.0.1:{port}")
    assert (row.outcome, row.status) == ("error", 0)
    assert row.error == "connect: [Errno 111] Connection refused"
    assert sender.facts["no_socket"] == 0


def test_retries_go_on_with_the_rule_and_to_the_next_replica() -> None:
    refusing = scripted(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
    rule = RetryRule("r", max_attempts=3, backoff_s=0.1, backoff_factor=2.0, jitter=0.0)
    with server(refusing) as (first, asked), server(well) as (second, _):
        rows, sender = played(ONE, [first, second], send_cell(rule))
        assert [(r.attempt, r.client_attempt, r.replica_id, r.outcome) for r in rows] == [(1, 1, 0, "refused"), (2, 2, 1, "ok")]
        rows, sender = played(ONE, first, send_cell(rule))
    assert [r.outcome for r in rows] == ["refused"] * 3
    waits_us = [b.scheduled_us - a.ended_us for a, b in pairwise(rows)]  # type: ignore[operator]
    assert waits_us == [100_000, 200_000]
    assert sender.client.counts["failed"] == 1
    assert [a.headers["x-stampede-request"] for a in asked[-3:]] == ["0.1", "0.2", "0.3"]
    assert sender.facts["late_bodies"] == 0, "retries are not first attempts"


SLOW = RetryRule("slow", ttft_timeout_s=None, max_attempts=1)


@pytest.mark.parametrize(
    ("limits", "answer", "why", "after_s", "tokens"),
    [
        ({"ttft_timeout_s": 0.3}, scripted(2.0), "no first token in time", 0.3, 0),
        ({"ttft_timeout_s": 0.3}, scripted(HEAD, 2.0), "no first token in time", 0.3, 0),
        ({"idle_timeout_s": 0.3}, scripted(HEAD, event(), 0.2, event() * 2, 2.0), "no chunk in time", 0.5, 3),
        ({"total_timeout_s": 0.5}, scripted(HEAD, *[event(), 0.1] * 20), "no whole answer in time", 0.5, None),
    ],
)
def test_kinds_of_impatience(limits: dict[str, float], answer: Answering, why: str, after_s: float, tokens: int | None) -> None:
    rule = RetryRule("r", **{"ttft_timeout_s": None, "max_attempts": 1, **limits})  # type: ignore[arg-type]
    with server(answer) as (url, _):
        (row,), sender = played(ONE, url, send_cell(rule))
    assert (row.outcome, row.status, row.error) == ("timeout", 0, f"client gave up: {why}")
    assert row.ended_us is not None
    assert after_s - 0.01 <= row.ended_us / 1e6 <= after_s + 1.0
    assert row.engine_ended_us is None, "hung up: what the engine does is not known"
    assert tokens is None or row.decoded_tokens == tokens
    assert sender.client.counts["failed"] == 1


def test_cancelling_closes_the_connection_and_orphaning_reads_on() -> None:
    def late(asked: Asked) -> Script:
        return [HEAD, 0.5, *well(asked)[1:]]  # type: ignore[index]

    for cancel in (True, False):
        rule = RetryRule("r", ttft_timeout_s=0.2, max_attempts=1, cancel=cancel)
        with server(late) as (url, asked):
            rows, _ = played(single_turns([0.0, 0.8]), url, send_cell(rule))
        assert [r.outcome for r in rows] == ["timeout", "timeout"]
        first = rows[0]
        assert first.ended_us == pytest.approx(200_000, abs=200_000)
        assert first.first_token_us is None
        if cancel:
            assert first.engine_ended_us is None
            assert asked[1].connection == 1
        else:
            assert first.engine_ended_us == pytest.approx(500_000, abs=300_000)
            assert (first.decoded_tokens, first.output_tokens) == (8, 0), "work for nobody"
            assert (asked[1].connection, asked[1].number) == (0, 1), "the connection is good for another request"


def test_a_kept_connection_that_dies_is_replaced_once_and_counted() -> None:
    def dies(asked: Asked) -> Script:
        return well(asked) if asked.number == 0 and asked.connection < 2 else [CLOSE]

    with server(dies) as (url, asked):
        rows, sender = played(single_turns([0.0, 0.2, 0.4]), url)
    assert [r.outcome for r in rows] == ["ok", "ok", "error"]
    assert rows[2].error == "closed without an answer"
    assert [(a.connection, a.number) for a in asked] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert sender.facts["resent"] == 2


def test_an_answer_ends_with_its_last_event_and_the_connection_with_the_message() -> None:
    def ends_late(asked: Asked) -> Script:
        *pieces, last = well(asked)
        assert isinstance(last, bytes)
        return [*pieces, last.removesuffix(b"0\r\n\r\n"), 0.3, b"0\r\n\r\n"]

    with server(ends_late) as (url, asked):
        rows, sender = played(single_turns([0.0, 0.1, 0.5, 1.3]), url)
    assert [r.outcome for r in rows] == ["ok"] * 4
    assert rows[0].ended_us is not None
    assert rows[0].ended_us < 200_000
    assert [(a.connection, a.number) for a in asked] == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert sender.facts["resent"] == 0


def test_a_connection_is_not_used_after_its_time() -> None:
    with server(well) as (url, asked):
        played(single_turns([0.0, 0.1, 0.6]), url, keep_alive_s=0.3)
    assert [(a.connection, a.number) for a in asked] == [(0, 0), (0, 1), (1, 0)]


def test_later_turns_come_after_the_answer_and_repeat_what_the_engine_said() -> None:
    def says(asked: Asked) -> Script:
        return [HEAD, *(event(ids=[7, 8]) for _ in range(19)), event(ids=[7, 8], reason="length") + ending(asked)]

    with server(says) as (url, asked):
        rows, sender = played(conversation(3, think_s=0.2), url)
    assert [r.outcome for r in rows] == ["ok"] * 3
    for before, after in pairwise(rows):
        assert before.ended_us is not None
        assert after.scheduled_us == before.ended_us + 200_000
    assert asked[1].prompt == asked[0].prompt + [7, 8] * 20 + asked[1].prompt[-50:]
    assert asked[2].prompt[: len(asked[1].prompt) + 40] == asked[1].prompt + [7, 8] * 20
    assert [a.body.get("return_token_ids") for a in asked] == [True, True, None], "the last reply is repeated by nobody"
    assert sender.facts["late_bodies"] == 0, "a later turn's body is made while its user thinks"
    assert sender.facts["unknown_replies"] == 0


def test_a_reply_that_never_came_is_the_traces_own_text() -> None:
    def second_fails(asked: Asked) -> Script:
        return [CLOSE] if asked.headers["x-stampede-request"] == "1.1" else well(asked)

    with server(second_fails) as (url, asked):
        rows, _ = played(conversation(3, think_s=0.05), url)
    assert [r.outcome for r in rows] == ["ok", "error", "ok"]
    replies = [asked[2].prompt[114:154], asked[2].prompt[204:244]]
    assert replies[0] == [*range(39), 9]
    assert len(set(replies[1]) & set(replies[0])) < 5


def test_with_the_traces_own_history_no_reply_is_repeated() -> None:
    with server(well) as (url, asked):
        rows, sender = played(conversation(3, think_s=0.1), url, send_cell(session=SessionRule(history="trace")))
    assert [r.outcome for r in rows] == ["ok"] * 3
    reply = asked[1].prompt[114:154]
    assert reply != [*range(39), 9]
    assert asked[2].prompt[114:154] == reply
    assert not any("return_token_ids" in a.body for a in asked)
    assert sender.facts["late_bodies"] == 0


def test_a_later_turn_with_a_time_of_its_own_repeats_the_answer_that_has_come() -> None:
    first, second = conversation(2).requests
    workload = conversation(2).sending((first, replace(second, arrival_s=0.3, think_s=None)))
    with server(well) as (url, asked):
        rows, sender = played(workload, url)
    assert [(r.outcome, r.scheduled_us) for r in rows] == [("ok", 0), ("ok", 300_000)]
    assert asked[1].prompt[114:154] == [*range(39), 9]
    assert sender.facts["late_bodies"] == 0


def test_a_router_says_who_answered_and_an_opaque_one_does_not() -> None:
    def ours(asked: Asked) -> Script:
        return well(asked, b"x-stampede-replica: 3\r\nx-stampede-try: 2\r\n")

    with server(ours) as (url, _):
        (row,), _ = played(ONE, url, target="router")
    assert (row.replica_id, row.router_try) == (3, 2)
    with server(well) as (url, _):
        (row,), _ = played(ONE, url, target="router")
    assert [row.replica_id, row.router_try] == [None, None]


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_KEY", "s3cret")

    def echoes(asked: Asked) -> Script:
        words = f"no such key: {asked.headers['authorization']}".encode()
        return [b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%b" % (len(words), words)]

    with server(echoes) as (url, asked):
        (row,), sender = played(ONE, url, api_key_env="POOL_KEY")
    assert asked[0].headers["authorization"] == "Bearer s3cret"
    assert row.error == "HTTP 401: no such key: Bearer ***"
    assert "s3cret" not in repr(sender._targets)


def test_what_is_open_when_the_drain_ends_is_censored() -> None:
    with server(scripted(HEAD, event(), 5.0)) as (url, _):
        (row,), sender = played(ONE, url, send_cell(SLOW, drain_s=0.2))
    assert (row.outcome, row.ended_us, row.decoded_tokens) == ("censored", None, 1)
    assert row.first_token_us is not None
    assert sender.client.counts["censored"] == 1


def test_a_long_prompt_goes_out_whole() -> None:
    with server(well) as (url, asked):
        (row,), _ = played(single_turns([0.0], prompt_tokens=1_500_000), url)
    assert row.outcome == "ok"
    assert len(asked[0].prompt) == 1_500_000


@pytest.mark.parametrize("cancel", [True, False])
def test_a_run_leaves_nothing_to_the_collector(cancel: bool) -> None:
    """Reference counts free what is over: a cycle would grow with the run, since nobody collects meanwhile."""

    def mixed(asked: Asked) -> Script:
        number = int(asked.headers["x-stampede-request"].partition(".")[0])
        return [well(asked), [CLOSE], [HEAD, 0.3, *list(well(asked))[1:]]][number % 3]

    rule = RetryRule("r", ttft_timeout_s=0.2, idle_timeout_s=0.2, max_attempts=2, backoff_s=0.01, cancel=cancel)
    with server(mixed) as (url, _):
        played(ONE, url)
        spec = SendSpec(send_cell(rule), (url,), "")
        sender = Sender(spec, single_turns([0.05 * i for i in range(12)]))
        gc.collect()
        gc.disable()
        try:
            sender.run(time.monotonic())
            assert gc.collect() == 0
        finally:
            gc.enable()
    assert {sender.client.counts[name] for name in ("ok", "failed")} == {4, 8}


def test_a_refusal_before_the_request_is_out_is_heard_and_spoils_the_connection() -> None:
    """A server that reads only the head of a request longer than all buffers, answers and goes on without closing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Long\r\ncontent-length: 4\r\n\r\nlong")
                kept.append(connection)

        kept: list[socket.socket] = []
        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        rows, sender = played(single_turns([0.0, 1.0], prompt_tokens=2_000_000), url)
        thread.join(5)
        for connection in kept:
            connection.close()
    assert [(r.outcome, r.status, r.error) for r in rows] == [("error", 413, "HTTP 413: long")] * 2
    assert sender.facts["opened"] == 2


def test_localhost_is_where_somebody_listens() -> None:
    with server(well) as (url, _):
        (row,), _ = played(ONE, url.replace("127.0.0.1", "localhost"))
    assert row.outcome == "ok"


def test_events_are_not_ignored_in_silence() -> None:
    workload = replace(ONE, events=(Event(0.5, "flush", 0),))
    with pytest.raises(ValueError, match="events_elsewhere"):
        played(workload, "http://127.0.0.1:1")
    rows, _ = played(workload, "http://127.0.0.1:1", events_elsewhere=True)
    assert len(rows) == 1


def test_a_pair_needs_a_router() -> None:
    a_cell = cell(roles=("prefill", "decode"))
    with pytest.raises(ValueError, match="target: replicas"):
        played(ONE, ["http://127.0.0.1:1", "http://127.0.0.1:2"], a_cell)
