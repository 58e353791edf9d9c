"""Coding agents' sessions: raw with block ids, or normalised to lengths; compaction, sub-agents, think times."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads.traces import slice_file
from workloads.request import Prompt
from workloads.sources.agent_requests import normalised_sessions
from workloads.sources.source import Tally
from workloads.trace import load_trace
from workloads.trace_table import Trace

SLICE = "cc_traces_weka_normalized/normalized_sample.jsonl"


def asked(t: float, tokens: int, ids: list[int] | None, out: int = 9, **more: object) -> dict[str, Any]:
    made = {"t": t, "type": "s", "model": "m-1", "in": tokens, "out": out, "hash_ids": ids, "api_time": 2.0} | more
    return {key: value for key, value in made.items() if value is not None}


def session(name: str, *requests: object, **more: object) -> dict[str, Any]:
    head = {"id": name, "models": ["m-1"], "block_size": 64, "hash_id_scope": "local"}
    return head | {"requests": list(requests)} | more


def step(name: str, turn: int, tokens: int, out: int = 9, **more: object) -> dict[str, Any]:
    times = {"request_arrival_delta_s": 10.0 * turn, "think_time_s": 1.5, "api_time_s": 2.0}
    made = (
        {"session_id": name, "turn_index": turn, "input_tokens": tokens, "output_tokens": out, "model_id": "m-1"} | times | more
    )
    return {key: value for key, value in made.items() if value is not None}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "agents.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def loaded(folder: Path, *rows: object) -> Trace:
    return load_trace(str(write(folder, *rows)))


def shared(trace: Trace, one: tuple[int, int], other: tuple[int, int]) -> int:
    """Tokens that two turns' prompts, each (session, turn), share from their beginning."""
    a, b = (Prompt.of(trace.conversations[c].turns[t].segments or ()) for c, t in (one, other))
    return max((end for key, end in zip(a.keys, a.ends, strict=True) if key in b.keys), default=0)


def test_raw_prompts_are_listed_whole_and_share_their_blocks(tmp_path: Path) -> None:
    requests = asked(0, 150, [1, 2, 3]), asked(5, 256, [1, 2, 4, 5], think_time=3.0), asked(9, 128, [1, 9], think_time=2.0)
    trace = loaded(tmp_path, session("a", *requests))
    assert trace.source == "agent_sessions"
    assert not trace.has_timestamps
    turns = trace.conversations[0].turns
    assert [(t.user_tokens, t.reply_tokens, t.restarts) for t in turns] == [(150, 9, False), (256, 9, True), (128, 9, True)]
    assert [(t.think_s, t.gap_s) for t in turns] == [(None, None), (3.0, 5.0), (2.0, 4.0)]
    assert trace.conversations[0].model == "m-1"
    assert [shared(trace, (0, 0), (0, 1)), shared(trace, (0, 1), (0, 2)), shared(trace, (0, 0), (0, 2))] == [128, 64, 64]


def test_ids_of_scope_local_mean_nothing_in_another_session(tmp_path: Path) -> None:
    one, other = session("a", asked(0, 128, [1, 2])), session("b", asked(0, 192, [1, 2, 3]))
    assert shared(loaded(tmp_path, one, other), (0, 0), (1, 0)) == 0
    same_id = session("a", asked(0, 128, [1, 2]))
    assert shared(loaded(tmp_path, one, same_id), (0, 0), (1, 0)) == 0
    everywhere = [s | {"hash_id_scope": "global"} for s in (one, other)]
    assert shared(loaded(tmp_path, *everywhere), (0, 0), (1, 0)) == 128


def test_sub_agents_are_sessions_of_their_own_that_share_with_their_parent(tmp_path: Path) -> None:
    deepest = {"type": "subagent", "t": 3.0, "requests": [asked(3, 64, [1])]}
    child = {"type": "subagent", "t": 2.0, "requests": [asked(2, 192, [1, 2, 8]), deepest]}
    trace = loaded(tmp_path, session("a", asked(0, 192, [1, 2, 3]), child, asked(9, 256, [1, 2, 3, 4])))
    assert [(c.conversation_id, len(c.turns)) for c in trace.conversations] == [("a", 2), ("a/1", 1), ("a/2", 1)]
    assert [shared(trace, (0, 0), (1, 0)), shared(trace, (0, 1), (2, 0)), shared(trace, (0, 0), (0, 1))] == [128, 64, 192]
    assert trace.provenance["rows_read"] == 4
    assert trace.provenance["rows_changed"] == {"a sub-agent: a session of its own": 2}


def test_tokens_beyond_the_block_ids_are_their_requests_own(tmp_path: Path) -> None:
    trace = loaded(tmp_path, session("a", asked(0, 150, [1, 2]), asked(1, 150, [1, 2]), asked(2, 70, None)))
    assert [t.user_tokens for t in trace.conversations[0].turns] == [150, 150, 70]
    assert shared(trace, (0, 0), (0, 1)) == 128
    assert trace.provenance["rows_changed"] == {"request with tokens beyond its block ids: those are its own": 3}


def test_strange_times_are_counted(tmp_path: Path) -> None:
    trace = loaded(tmp_path, session("a", asked(5, 64, [1]), asked(0, 128, [1, 2]), asked(7, 192, [1, 2, 3], think_time=-2)))
    assert [(t.user_tokens, t.gap_s, t.think_s) for t in trace.conversations[0].turns] == [
        (128, None, None),
        (64, 5.0, None),
        (192, 2.0, 0.0),
    ]
    assert trace.provenance["rows_changed"] == {"negative think_time: taken as 0": 1, "request out of time order: sorted": 1}


def test_an_indented_object_and_a_folder_of_objects_are_read_alike(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"{name}.json").write_text(json.dumps(session(name, asked(0, 64, [1]), asked(1, 128, [1, 2])), indent=1))
    assert [c.conversation_id for c in load_trace(str(folder)).conversations] == ["a", "b"]
    assert load_trace(str(folder / "b.json")).turn_count == 2


def test_lengths_only_prompts_grow_and_are_cut_back_by_a_compaction(tmp_path: Path) -> None:
    rows = [step("a", i, tokens) for i, tokens in enumerate((300, 450, 450, 900, 250, 400))]
    trace = loaded(tmp_path, *rows, step("b", 0, 300))
    turns = trace.conversations[0].turns
    assert [(t.user_tokens, t.restarts) for t in turns] == [(300, False), *((n, True) for n in (450, 450, 900, 250, 400))]
    assert [shared(trace, (0, i), (0, i + 1)) for i in range(5)] == [300, 450, 450, 250, 250]
    assert shared(trace, (0, 3), (0, 5)) == 250, "what came after the compaction is new"
    assert shared(trace, (0, 0), (1, 0)) == 0
    assert [(t.think_s, t.gap_s) for t in turns[:2]] == [(None, None), (1.5, 10.0)]


def test_the_gap_is_the_answer_and_the_thought_where_no_start_is_known(tmp_path: Path) -> None:
    rows = [step("a", i, 10 + i, request_arrival_delta_s=None) for i in range(2)]
    trace = loaded(tmp_path, *rows, step("a", 2, 30, request_arrival_delta_s=None, think_time_s=None))
    assert [t.gap_s for t in trace.conversations[0].turns] == [None, 3.5, None]


def test_sessions_may_be_interleaved_and_out_of_order(tmp_path: Path) -> None:
    trace = loaded(tmp_path, step("b", 1, 20), step("a", 0, 5), step("b", 0, 10))
    assert {c.conversation_id: [t.user_tokens for t in c.turns] for c in trace.conversations} == {"b": [10, 20], "a": [5]}
    assert trace.provenance["rows_changed"] == {"turn_index out of order: sorted": 2}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (session("b", asked(0, 64, [1, 2])), "request 1: hash_ids has 2 blocks; 64 tokens have at most 1"),
        (session("b", asked(0, -1, [1])), "request 1: in is -1; expected a whole number"),
        (session("b", asked(0, 64, [1], type="x")), "request 1: type is 'x'; expected 'n', 's' or 'subagent'"),
        (session("b", {"type": "subagent"}), "request 1: requests is missing; expected a list"),
        (session("b", 3), "request 1: expected an object, found int"),
        (session("b", hash_id_scope="x"), "hash_id_scope is 'x'; expected 'local' or 'global'"),
        (session("b", block_size=0), "block_size is 0; expected a number of tokens > 0"),
        (session("b") | {"requests": None}, "requests is None; expected a list"),
        (session("b", asked(float("inf"), 64, [1])), "not JSON: Infinity"),
    ],
)
def test_a_malformed_session_is_named_by_its_line(tmp_path: Path, bad: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"agents.jsonl:2: {said}"):
        loaded(tmp_path, session("a", asked(0, 64, [1])), bad)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (step("a", -1, 5), "turn_index is -1; expected a whole number"),
        (step("a", 1, 5, think_time_s="1"), "think_time_s is '1'; expected a number"),
        (step("a", 1, 1 << 31), "input_tokens is 2147483648; expected a whole number"),
        ({"session_id": 7}, "session_id is 7; expected a text"),
    ],
)
def test_a_malformed_request_is_named_by_its_line(tmp_path: Path, bad: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"agents.jsonl:2: {said}"):
        loaded(tmp_path, step("a", 0, 5), bad)


def test_sub_agents_nested_without_end_are_no_recursion(tmp_path: Path) -> None:
    depth = 200
    text = '{"type": "subagent", "requests": [' * depth + json.dumps(asked(0, 64, [1])) + "]}" * depth
    trace = loaded(tmp_path, json.dumps(session("a", asked(0, 64, [1])))[:-2] + "," + text + "]}")
    assert [c.conversation_id for c in trace.conversations] == ["a", f"a/{depth}"]
    assert trace.provenance["rows_dropped"] == {"session without a request": depth - 1}


def quantiles(values: object) -> list[float]:
    return [round(float(q), 1) for q in np.percentile(np.asarray(values), (1, 25, 50, 75, 90, 95, 99))]


def test_statistics_equal_those_measured_independently() -> None:
    trace = load_trace(str(slice_file(SLICE)))
    assert (len(trace), trace.turn_count, trace.provenance["rows_dropped"]) == (7, 761, {})
    assert quantiles(trace.turns) == [24.2, 32, 60, 153.5, 245.4, 275.7, 299.9]
    assert quantiles(trace.user_tokens) == [28277.2, 62902, 168165, 247700, 294626, 338662, 385139.4]
    assert quantiles(trace.reply_tokens) == [10, 156, 345, 830, 1902, 2983, 7607.6]
    assert [round(float(v.mean()), 1) for v in (trace.turns, trace.user_tokens, trace.reply_tokens)] == [108.7, 165035.9, 787.1]
    requests = [r for s in normalised_sessions(slice_file(SLICE), Tally()) for r in s.requests]
    think_s = np.array([r.think_s for r in requests if r.think_s is not None])
    assert (len(think_s), quantiles(think_s)) == (758, [0, 0.4, 1.1, 2.2, 54.6, 182.3, 14042.9])
    assert [round(float(v), 3) for v in (think_s.mean(), think_s.max(), (think_s < 1).mean(), (think_s > 60).mean())] == [
        1775.001,
        633124.736,
        0.468,
        0.096,
    ]
    assert quantiles([r.ttft_s for r in requests]) == [0.9, 1.9, 2.5, 3.4, 4.6, 6.8, 13.2]


def test_nearly_every_prompt_grows_and_most_of_it_was_there_before() -> None:
    trace = load_trace(str(slice_file(SLICE)))
    later = np.ones(trace.turn_count, dtype=bool)
    later[trace.turn_bounds[:-1]] = False
    now, before = trace.user_tokens[later].astype(float), trace.user_tokens[np.flatnonzero(later) - 1].astype(float)
    assert round(float((now >= before).mean()), 3) == 0.976
    assert round(float(np.minimum(now, before).sum() / now.sum()), 3) == 0.992
    reused = sum(
        shared_of(a.segments, b.segments) for c in trace.conversations for a, b in zip(c.turns[:-1], c.turns[1:], strict=True)
    )
    assert 0.96 < reused / now.sum() < 0.992, "compacted prompts share less than their length would allow"


def shared_of(one: Any, other: Any) -> int:
    found = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        found += a.tokens
    return found
