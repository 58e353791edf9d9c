"""The Qwen-Bailian JSONL: chats that name their parents become sessions, prompts are lists of 16-token blocks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.request import Prompt
from workloads.sources import SOURCES
from workloads.trace import load_trace
from workloads.trace_table import Trace


def chat(chat_id: int, parent: int, at_s: float, tokens: int, ids: list[int], output: int = 5, **more: object) -> dict[str, Any]:
    keys = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "type", "turn", "hash_ids")
    return dict(zip(keys, (chat_id, parent, at_s, tokens, output, "text", 1, ids), strict=True)) | more


def write(folder: Path, *rows: object) -> Path:
    path = folder / "qwen.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def loaded(folder: Path, *rows: object) -> Trace:
    return load_trace(str(write(folder, *rows)))


def shapes(trace: Trace) -> dict[str, list[tuple[int, int, bool, float | None]]]:
    """Of every session its turns as (user tokens, reply tokens, prompt whole?, seconds since the turn before)."""
    found = trace.conversations
    return {c.conversation_id: [(t.user_tokens, t.reply_tokens, t.restarts, t.gap_s) for t in c.turns] for c in found}


def test_a_chain_whose_prompts_continue_is_told_by_what_each_turn_adds(tmp_path: Path) -> None:
    trace = loaded(
        tmp_path, chat(7, -1, 1.5, 20, [1, 2], 30), chat(9, 7, 4.25, 60, [1, 3, 4, 5]), chat(8, 9, 9, 70, [1, 3, 4, 6, 7])
    )
    assert trace.source == "qwen_bailian"
    assert shapes(trace) == {"chat-7": [(20, 30, False, None), (10, 5, False, 2.75), (5, 5, False, 4.75)]}
    assert trace.provenance["first_start_us"] == 1_500_000
    first, second, _ = trace.conversations[0].turns
    assert first.segments is not None
    assert sum(s.tokens for s in first.segments) == 20
    assert second.segments is None
    assert second.think_s is None, "when the answer ended is unknown"


def test_a_prompt_that_lost_something_is_listed_whole_and_shares_its_blocks(tmp_path: Path) -> None:
    """Thinking tokens vanish from the next prompt: it is no longer than the prompt and the reply before."""
    trace = loaded(tmp_path, chat(1, -1, 0, 40, [1, 2, 3], 500), chat(2, 1, 9, 80, [1, 2, 4, 5, 6]))
    assert shapes(trace) == {"chat-1": [(40, 500, False, None), (80, 5, True, 9.0)]}
    one, two = trace.conversations[0].turns
    assert one.segments is not None
    assert two.segments is not None
    assert [s.tokens for s in one.segments] == [32, 8]
    assert [s.tokens for s in two.segments] == [32, 48]
    assert one.segments[0] == two.segments[0]


def test_a_branch_begins_a_session_and_both_list_their_prompts_whole(tmp_path: Path) -> None:
    again = chat(3, 1, 9, 48, [1, 2, 5])
    trace = loaded(tmp_path, chat(1, -1, 0, 16, [1], 5), chat(2, 1, 4, 48, [1, 2, 3]), again)
    assert shapes(trace) == {"chat-1": [(16, 5, False, None), (48, 5, True, 4.0)], "chat-3": [(48, 5, False, None)]}
    assert trace.provenance["rows_changed"] == {
        "its parent has gone on already (a branch): begins a session with the whole prompt": 1
    }
    prompts = [Prompt.of(t.segments or ()) for c in trace.conversations for t in c.turns]
    assert [p.ends for p in prompts] == [(16,), (16, 32, 48), (16, 32, 48)]
    assert [len({p.keys[i] for p in prompts if i < len(p.keys)}) for i in range(3)] == [1, 1, 2]


def test_strange_parents_are_counted_and_nothing_is_lost(tmp_path: Path) -> None:
    rows = [
        chat(1, 99, 0, 16, [1]),  # a parent from before the trace
        chat(2, 3, 1, 16, [2]),  # a circle
        chat(3, 2, 2, 16, [3]),
        chat(4, 4, 3, 16, [4]),  # its own parent
        chat(1, -1, 4, 16, [5]),  # a number used again
        chat(6, 1, 5, 16, [6]),
    ]
    trace = loaded(tmp_path, *rows)
    assert trace.turn_count == trace.provenance["rows_read"] == 6
    assert [(c.conversation_id, len(c.turns)) for c in trace.conversations] == [
        ("chat-1", 1),
        ("chat-2", 2),
        ("chat-4", 1),
        ("chat-1", 2),
    ]
    assert trace.provenance["rows_changed"] == {
        "its parent is not in the file: begins a session": 1,
        "its parent is itself or comes later: begins a session": 2,
        "chat_id seen before: later turns follow the last one": 1,
    }


def test_rows_out_of_time_order_still_find_their_parents(tmp_path: Path) -> None:
    assert shapes(loaded(tmp_path, chat(2, 1, 4, 48, [1, 2, 3]), chat(1, -1, 0, 16, [1]))) == {
        "chat-1": [(16, 5, False, None), (27, 5, False, 4.0)]
    }


def test_a_full_block_is_not_the_partial_block_that_became_it(tmp_path: Path) -> None:
    trace = loaded(tmp_path, chat(1, -1, 0, 20, [1, 2]), chat(5, -1, 1, 32, [1, 2]), chat(6, -1, 2, 20, [1, 2]))
    contents = [t.segments for c in trace.conversations for t in c.turns]
    assert contents[0] == contents[2] != contents[1]
    assert contents[0] is not None
    assert contents[1] is not None
    assert contents[0][0] == contents[1][0]


def test_sharing_equals_that_of_the_blocks_one_by_one(tmp_path: Path) -> None:
    """Branching chats of real tokens, cut into blocks; the ids are those of the contents and not of whole prefixes."""
    draw = np.random.default_rng(4)
    ids: dict[tuple[int, ...], int] = {}
    known: list[tuple[int, list[int]]] = []
    rows = []
    for number in range(300):
        parent, before = known[int(draw.integers(len(known)))] if known and draw.random() < 0.5 else (-1, [1, 2] * 20)
        tokens = [*before, *draw.integers(0, 2, int(draw.integers(1, 60))).tolist()]
        blocks = [ids.setdefault(tuple(tokens[i : i + 16]), len(ids)) for i in range(0, len(tokens), 16)]
        rows.append(chat(number, parent, float(number), len(tokens), blocks, 3))
        known.append((number, [*tokens, *draw.integers(0, 2, 3).tolist()]))
    trace = loaded(tmp_path, *rows)
    assert trace.turn_count == 300
    # sessions told by their blocks alone, in the order of time
    whole = [(c, t, at) for c in trace.conversations for t, at in zip(c.turns, times(c), strict=True) if t.segments]
    assert len(whole) > 200
    by_blocks = {row["timestamp"]: row for row in rows}
    chosen = [(t, by_blocks[at]) for _, t, at in sorted(whole, key=lambda item: item[2])]
    assert hits([[(s.content_id, s.tokens) for s in t.segments or ()] for t, _ in chosen]) == hits(
        [list(zip(r["hash_ids"], [16] * (len(r["hash_ids"]) - 1) + [last(r)], strict=True)) for _, r in chosen]
    )


def times(conversation: Any) -> list[float]:
    gaps = [conversation.start_s, *(t.gap_s for t in conversation.turns[1:])]
    return [round(v, 6) for v in np.cumsum(gaps).tolist()]


def last(row: dict[str, Any]) -> int:
    return int(row["input_length"]) - 16 * (len(row["hash_ids"]) - 1)


def hits(prompts: list[list[tuple[int, int]]]) -> int:
    """Tokens that a cache without limits holds already."""
    seen: set[tuple[tuple[int, int], ...]] = set()
    found = 0
    for prompt in prompts:
        prefixes = [tuple(prompt[: i + 1]) for i in range(len(prompt))]
        found += sum(p[-1][1] for p in prefixes if p in seen)
        seen.update(prefixes)
    return found


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (chat(2, -1, 0, 33, [1, 2]), "hash_ids has 2 blocks; an input_length of 33 has 3"),
        (chat(2, -2, 0, 16, [1]), "parent_chat_id is -2; expected a whole number ≥ 0"),
        (chat(2, -1, -0.1, 16, [1]), "timestamp is -0.1; expected a number ≥ 0"),
        (chat(True, -1, 0, 16, [1]), "chat_id is True; expected a whole number"),
        (chat(2, -1, 0, 16, [True]), "hash_ids is .*; expected a list of block ids"),
        ({"chat_id": 2}, "parent_chat_id is missing; expected a whole number"),
        ('{"chat_id": 2', "not JSON"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, bad: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"qwen.jsonl:2: {said}"):
        loaded(tmp_path, chat(1, -1, 0, 16, [1]), bad)


def test_four_traces_by_name_one_format(tmp_path: Path) -> None:
    path = write(tmp_path, chat(1, -1, 0, 16, [1]))
    names = [name for name in SOURCES if name.startswith("qwen_bailian")]
    assert len(names) == 4
    assert [load_trace(str(path), name).source for name in names] == names
