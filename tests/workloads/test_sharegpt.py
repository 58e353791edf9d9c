"""The ShareGPT JSON: empty chats, chats that start with the model, odd roles, repeats, cut files; and the rules of all chats."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.traces import SHAREGPT, SHAREGPT_EDGES, slice_file
from workloads.conversations_file import content_hash
from workloads.sources.sharegpt import FILES
from workloads.trace import import_trace, load_trace
from workloads.trace_table import Trace


def write(folder: Path, *records: object) -> Path:
    path = folder / "sharegpt.json"
    path.write_text(json.dumps(records))
    return path


def record(name: str, *messages: tuple[str, str]) -> dict[str, object]:
    return {"id": name, "conversations": [{"from": role, "value": text} for role, text in messages]}


def texts(trace: Trace) -> list[list[tuple[str | None, str | None]]]:
    return [[(t.user_text, t.reply_text) for t in c.turns] for c in trace.conversations]


ASK, ANSWER = ("human", "What is it?"), ("gpt", "It is this.")


@pytest.mark.parametrize(
    ("messages", "left", "dropped", "changed"),
    [
        ([ASK, ANSWER], [("What is it?", "It is this.")], None, None),
        ([], None, "empty conversation", None),
        ([ANSWER], None, "no question with an answer", None),
        ([ASK], None, "no question with an answer", None),
        ([ASK, ("oracle", "42")], None, "unknown role 'oracle'", None),
        ([ANSWER, ASK, ANSWER], [("What is it?", "It is this.")], None, "started with the model: its first messages removed"),
        ([ASK, ANSWER, ASK], [("What is it?", "It is this.")], None, "ended with an unanswered question: removed"),
        ([("human", "a"), ("human", "b"), ANSWER], [("a\n\nb", "It is this.")], None, "messages of one role in a row joined"),
        ([("user", "a"), ("bing", "b")], [("a", "b")], None, "unusual role names read as human or gpt"),
        ([("human", ""), ANSWER], [("", "It is this.")], None, None),
        ([("human", "\ud83d!"), ANSWER], [("?!", "It is this.")], None, "half characters (lone surrogates) replaced"),
    ],
)
def test_each_rule_is_counted(
    tmp_path: Path,
    messages: list[tuple[str, str]],
    left: list[tuple[str, str]] | None,
    dropped: str | None,
    changed: str | None,
) -> None:
    trace = load_trace(str(write(tmp_path, record("x", *messages))), texts=True)
    assert texts(trace) == ([left] if left else [])
    assert trace.provenance["rows_dropped"] == ({dropped: 1} if dropped else {})
    assert trace.provenance["rows_changed"] == ({changed: 1} if changed else {})


def test_a_repeated_id_is_dropped(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, record("x", ASK, ANSWER), record("x", ASK, ("gpt", "no")))), texts=True)
    assert texts(trace) == [[("What is it?", "It is this.")]]
    assert trace.provenance["rows_dropped"] == {"repeated id": 1}


def test_the_system_message_is_a_shared_prefix(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, *(record(n, ("system", "Be kind."), ("human", n), ANSWER) for n in "ab"))), texts=True)
    first, second = trace.conversations
    assert first.prefix == second.prefix
    assert first.prefix[0].tokens > 0
    assert first.prefix_text == "Be kind."
    assert first.turns[0].segments != second.turns[0].segments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": "a", "conversations": [{"from": "human",\n"value": "cut he', ":2: broken JSON in record 1.*looks cut off$"),
        ('[{"id": "a", "conversations": []},\n\n', ":3: broken JSON at record 2.*looks cut off$"),
        ('[{"id": 7, "conversations": []}]', ":1: record 1: expected an object with a text 'id'"),
        ('["conversations"]', ":1: record 1: expected an object with a text 'id', found 'conversations'"),
        (
            '[{"id": "a", "conversations": []},\n{"id": "b", "conversations": 3}]',
            ":2: record 2: 'conversations' of 'b' is 3; expected a list of messages",
        ),
        ('[{"id": "a", "conversations": {"from": 1}}]', ":1: record 1: 'conversations' of 'a' is "),
        ('[{"id": "a", "conversations": [{"from": "human", "value": null}]}]', ":1: record 1: message 1 of 'a' is "),
        ('[{"id": "a", "conversations": ["human"]}]', ":1: record 1: message 1 of 'a' is 'human'; expected"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"sharegpt\.json" + message) as raised:
        load_trace(str(path))
    assert "\n" not in str(raised.value)


def test_half_a_character_in_an_id_or_a_role_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text(
        '[{"id": "\\ud800", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},'
        '{"id": "b", "conversations": [{"from": "\\ud801", "value": "x"}]}]'
    )
    trace = load_trace(str(path))
    assert [c.conversation_id for c in trace.conversations] == ["?"]
    assert trace.provenance["rows_dropped"] == {"unknown role '?'": 1}


def test_the_rules_do_not_depend_on_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated ids and counts carry over from one batch to the next."""
    records = [record(f"{i % 7}", ("system", f"s{i % 2}"), ("human", f"question {i}"), ANSWER, ASK) for i in range(20)]
    path = write(tmp_path, *records, record("x", ASK), record("y"))
    whole = load_trace(str(path), texts=True)
    monkeypatch.setattr("workloads.sources.chats._BATCH_CHATS", 3)
    batched = load_trace(str(path), texts=True)
    assert len(whole) == 7
    assert batched.conversations == whole.conversations
    assert batched.provenance == whole.provenance
    assert whole.provenance["rows_read"] == 22
    assert whole.provenance["rows_dropped"] == {"empty conversation": 1, "no question with an answer": 1, "repeated id": 13}


def test_imported_with_texts_and_read_without(tmp_path: Path) -> None:
    path, out = (
        write(tmp_path, record("a", ASK, ANSWER), record("b", ("system", "Be kind."), ASK, ANSWER)),
        tmp_path / "out.parquet",
    )
    import_trace("sharegpt", path, out)
    imported = load_trace(str(out))
    assert texts(imported) == [[(None, None)], [(None, None)]]
    assert texts(load_trace(str(out), texts=True)) == [[("What is it?", "It is this.")]] * 2
    assert content_hash(imported) == content_hash(load_trace(str(path)))


def test_the_real_slice() -> None:
    trace = load_trace(str(slice_file(SHAREGPT)))
    assert len(trace) == 380
    assert trace.turns.mean() == pytest.approx(3.0, abs=0.05)
    assert np.percentile(trace.turns, [50, 90, 99]).tolist() == [2, 6, 11]
    assert (trace.turns == 1).mean() == pytest.approx(0.37, abs=0.01)
    assert trace.provenance["token_counts"].startswith("estimated: ")


def test_estimated_tokens_match_gpt2_means_within_two_percent() -> None:
    """Measured with GPT-2's tokenizer on the first 220 chats."""
    trace = load_trace(str(slice_file(SHAREGPT)))
    user, reply = (tokens[: trace.turn_bounds[220]] for tokens in (trace.user_tokens, trace.reply_tokens))
    assert user.mean() == pytest.approx(118, rel=0.02)
    assert reply.mean() == pytest.approx(293, rel=0.02)
    assert np.percentile(reply, [50, 95]) == pytest.approx([256, 749], rel=0.05)
    assert np.percentile(user, 50) == pytest.approx(17, abs=2.1)


def test_history_is_most_of_the_input() -> None:
    """Measured with GPT-2 tokens on the first 220 chats: 0.83 of the input repeats the session's history."""
    history = inputs = 0
    for conversation in load_trace(str(slice_file(SHAREGPT))).conversations[:220]:
        before = 0
        for turn in conversation.turns:
            history, inputs = history + before, inputs + before + turn.user_tokens
            before += turn.user_tokens + turn.reply_tokens
    assert history / inputs == pytest.approx(0.83, abs=0.01)


def test_the_real_edge_cases_load_and_every_record_is_accounted_for() -> None:
    trace = load_trace(str(slice_file(SHAREGPT_EDGES)))
    dropped = trace.provenance["rows_dropped"]
    assert trace.provenance["rows_read"] == 30 == len(trace) + sum(dropped.values())
    assert dropped == {"empty conversation": 4, "no question with an answer": 4}
    assert trace.provenance["rows_changed"]["unusual role names read as human or gpt"] == 2
    assert trace.provenance["rows_changed"]["started with the model: its first messages removed"] == 4


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches, no proxy, and a hub that cannot be reached."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("source", ["sharegpt", "lmsys_chat_1m", "wildchat"])
@pytest.mark.parametrize("hub_off", [True, False])
def test_by_name_without_a_hub_fails_at_once_and_says_what_to_do(
    source: str, hub_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", hub_off)
    with pytest.raises(ValueError, match=rf"stampede trace import {source} --from FILE$") as raised:
        load_trace(source)
    assert "\n" not in str(raised.value)


def test_by_name_what_lies_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, record("x", ASK, ANSWER))
    monkeypatch.setattr("workloads.sources.sharegpt.fetch", lambda name, files: path if files is FILES else None)
    assert texts(load_trace("sharegpt", texts=True)) == [[("What is it?", "It is this.")]]
