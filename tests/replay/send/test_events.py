"""What a stream's events say, told apart by their bytes where that is safe."""

import json

import pytest

from replay.send.events import BadEvent, Events


def line(event: object, compact: bool = True) -> bytes:
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":") if compact else None).encode()


def choice(**fields: object) -> dict[str, object]:
    return {"id": "x", "choices": [{"index": 0, "text": " hi", "finish_reason": None} | fields], "usage": None}


NASTY = '"finish_reason":null "error": "usage":{} "text":"" data: [DONE] \n\ndata: x'


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(
    ("event", "chunks"),
    [
        (choice(), 1),
        (choice(text=NASTY), 1),
        (choice(text=""), 1),  # a token whose letters are not whole yet
        (choice(text="", token_ids=[4]), 1),
        (choice(finish_reason="length"), 1),
        (choice(text="", finish_reason="stop"), 0),
        (choice(text="", token_ids=[4], finish_reason="length"), 1),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}, 0),
        ({"choices": [{"delta": {"content": "hi"}, "finish_reason": None}]}, 1),
        ({"choices": [], "usage": {"completion_tokens": 5}}, 0),
        ({"object": "ping"}, 0),
    ],
)
def test_which_events_carry_tokens(event: dict[str, object], chunks: int, compact: bool) -> None:
    events = Events()
    events.feed(line(event, compact))
    assert events.chunks == chunks
    assert not events.error
    assert not events.done


@pytest.mark.parametrize("compact", [True, False])
def test_the_end_of_a_stream(compact: bool) -> None:
    events = Events()
    events.feed(line(choice(), compact) + line(choice(finish_reason="length"), compact))
    events.feed(line({"choices": [], "usage": {"completion_tokens": 2}}, compact) + b"data: [DONE]\n\n")
    assert (events.chunks, events.finish_reason, events.usage, events.done) == (2, "length", {"completion_tokens": 2}, True)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("step", [1, 3, 11, 64])
def test_every_cut_gives_the_same(step: int, compact: bool) -> None:
    said = choice(token_ids=[1, 2], prompt_token_ids=[9, 9]), choice(text=NASTY, token_ids=[3]), choice(text="", token_ids=[])
    data = b": comment\r\n" + b"".join(line(event, compact) for event in said) + b"data:[DONE]\r\n\r\n"
    ids, text, nothing = Events("ids"), Events("text"), Events()
    for events in (ids, text, nothing):
        for i in range(0, len(data), step):
            events.feed(data[i : i + step])
        assert (events.chunks, events.done) == (3, True)
    assert ids.token_ids() == [1, 2, 3]
    assert text.text() == " hi" + NASTY
    assert (nothing.token_ids(), nothing.text()) == ([], "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"message": "full", "code": 503}, 503, "full"),
        ({"message": "full", "code": "503"}, 503, "full"),
        ({"message": "who knows", "type": "x", "code": None}, 500, "who knows"),
        ("plain", 500, "plain"),
    ],
)
def test_an_error_event(error: object, code: int, message: str) -> None:
    events = Events()
    events.feed(line({"error": error}))
    assert (events.error_code, events.error) == (code, message)


@pytest.mark.parametrize("data", [b"data: {not json\n", b"data: 5\n", b'data: {"choices":[5]}\n'])
def test_what_is_no_event_is_said(data: bytes) -> None:
    with pytest.raises(BadEvent):
        Events().feed(data)
