"""Prompts as text: what is sent is encoded to the tokens that were planned, and a reply is repeated as it was written."""

from pathlib import Path

import pytest

from replay.send.writing import Pieces, TextWriting
from tests.replay.scenes import conversation
from tests.replay.send.scripted import STREAM, Asked, Script, event, framed, played, server
from tests.workloads.test_prompts_text import tokenizer_of, words_of
from workloads.prompts.words import prompt_text
from workloads.request import Segment


@pytest.mark.parametrize("family", ["gpt-2", "llama-2"])
def test_pieces_make_the_text_of_the_whole(family: str) -> None:
    words = words_of(family)
    segments = [Segment(1, 5), Segment(2, 0), Segment(3, 70)]
    assert Pieces(TextWriting(words)).whole(segments).decode() == f'"{prompt_text(segments, words)}"'


def test_a_later_turn_repeats_what_was_written(tmp_path: Path) -> None:
    said = ' "fine"\n\u20ac '

    def says(asked: Asked) -> Script:
        usage = framed(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":40}}')
        return [STREAM % b"", event(said), event(" end", reason="length"), usage + framed(b"[DONE]") + b"0\r\n\r\n"]

    tokenizer_of("gpt-2").save(str(tmp_path / "tokenizer.json"))
    with server(says) as (url, asked):
        rows, sender = played(conversation(2, think_s=0.1), url, prompt="text", tokenizer=str(tmp_path))
    assert [r.outcome for r in rows] == ["ok", "ok"]
    first, second = (str(a.body["prompt"]) for a in asked)
    assert second.startswith(first + said + " end ")
    assert "return_token_ids" not in asked[0].body
    assert len(tokenizer_of("gpt-2").encode(first, add_special_tokens=False).ids) == 114
    assert sender.facts["other_prompt_length"] == 2, "the server counts its own"
