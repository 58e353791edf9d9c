"""The ShareGPT JSON: empty chats, chats that start with the model, odd roles, repeats, cut files; and the hub by name."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from tests.workloads.traces import SHAREGPT, SHAREGPT_EDGES, slice_file
from workloads.conversation import Trace
from workloads.description import prefix_reuse
from workloads.sources.sharegpt import FILE, REPO
from workloads.tokens import estimate_tokens
from workloads.trace import load_trace


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
    trace = load_trace(str(write(tmp_path, record("x", *messages))))
    assert texts(trace) == ([left] if left else [])
    assert trace.provenance["rows_dropped"] == ({dropped: 1} if dropped else {})
    assert trace.provenance["rows_changed"] == ({changed: 1} if changed else {})


def test_a_repeated_id_is_dropped(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, record("x", ASK, ANSWER), record("x", ASK, ("gpt", "no")))))
    assert texts(trace) == [[("What is it?", "It is this.")]]
    assert trace.provenance["rows_dropped"] == {"repeated id": 1}


def test_the_system_message_is_a_shared_prefix(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, *(record(n, ("system", "Be kind."), ("human", n), ANSWER) for n in "ab"))))
    first, second = trace.conversations
    assert first.prefix == second.prefix
    assert first.prefix[0].tokens > 0
    assert first.prefix_text == "Be kind."
    assert first.turns[0].segments != second.turns[0].segments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": "a", "conversations": [{"from": "human",\n"value": "cut he', "sharegpt.json:2: broken JSON .*looks cut off"),
        ('[{"id": "a", "conversations": []},\n\n', "sharegpt.json:3: broken JSON .*looks cut off"),
        ('[{"id": 7, "conversations": []}]', "record 1: expected an object with a text 'id'"),
        ('[{"id": "a", "conversations": []}, {"id": "b", "conversations": 3}]', r"record 2 \(b\): 'conversations' is '3'"),
        ('[{"id": "a", "conversations": [{"from": "human", "value": null}]}]', r"record 1 \(a\): message 1 is "),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        load_trace(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ['["conversations", ' + "[" * 100_000, '[{"id": ' + "9" * 6000 + ', "conversations": []}]'])
def test_json_that_python_cannot_hold_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"sharegpt\.json: no ShareGPT JSON: "):
        load_trace(str(path))


def test_half_a_character_in_an_id_or_a_role_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_text(
        '[{"id": "\\ud800", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},'
        '{"id": "b", "conversations": [{"from": "\\ud801", "value": "x"}]}]'
    )
    trace = load_trace(str(path))
    assert [c.conversation_id for c in trace.conversations] == ["?"]
    assert trace.provenance["rows_dropped"] == {"unknown role '?'": 1}


def test_a_file_cut_inside_a_character(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    path.write_bytes('[{"id": "a", "conversations": [{"from": "human", "value": "é'.encode()[:-1])
    with pytest.raises(ValueError, match="not UTF-8 at byte 59; the file looks cut off"):
        load_trace(str(path))


def test_the_real_slice() -> None:
    trace = load_trace(str(slice_file(SHAREGPT)))
    turns = [len(c.turns) for c in trace.conversations]
    assert len(turns) == 380
    assert np.mean(turns) == pytest.approx(3.0, abs=0.05)
    assert [np.percentile(turns, q) for q in (50, 90, 99)] == [2, 6, 11]
    assert np.mean(np.array(turns) == 1) == pytest.approx(0.37, abs=0.01)
    assert trace.provenance["token_counts"].startswith("estimated: ")


def test_estimated_tokens_match_gpt2_means_within_two_percent() -> None:
    conversations = load_trace(str(slice_file(SHAREGPT))).conversations[:220]
    user = [t.user_tokens for c in conversations for t in c.turns]
    reply = [t.reply_tokens for c in conversations for t in c.turns]
    assert np.mean(user) == pytest.approx(118, rel=0.02)
    assert np.mean(reply) == pytest.approx(293, rel=0.02)
    assert np.percentile(reply, [50, 95]) == pytest.approx([256, 749], rel=0.05)
    assert np.percentile(user, 50) == pytest.approx(17, abs=2.1)


def test_history_is_most_of_the_input() -> None:
    """Measured with GPT-2 tokens on the first 220 chats: 0.83 of the input repeats the session's history."""
    trace = load_trace(str(slice_file(SHAREGPT)))
    assert prefix_reuse(Trace("sharegpt", trace.conversations[:220], trace.provenance)) == pytest.approx(0.83, abs=0.01)


def test_the_real_edge_cases_load_and_every_record_is_accounted_for() -> None:
    trace = load_trace(str(slice_file(SHAREGPT_EDGES)))
    dropped = trace.provenance["rows_dropped"]
    assert trace.provenance["rows_read"] == 30 == len(trace.conversations) + sum(dropped.values())
    assert dropped == {"empty conversation": 4, "no question with an answer": 4}
    assert trace.provenance["rows_changed"]["unusual role names read as human or gpt"] == 2
    assert trace.provenance["rows_changed"]["started with the model: its first messages removed"] == 4


def test_estimates_are_zero_for_nothing_and_at_least_one_for_something() -> None:
    assert estimate_tokens(["", ".", "a", "日本語" * 10]).tolist() == [0, 1, 1, 62]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A hub that holds the one file, an empty cache, and no proxy."""
    body = json.dumps([record("x", ASK, ANSWER)]).encode()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            found = self.path == f"/datasets/{REPO}/resolve/main/{FILE}" or self.path.endswith(f"resolve/{'0' * 40}/{FILE}")
            self.send_response(200 if found else 404)
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_by_name_from_the_hub_and_then_from_its_cache(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(load_trace("sharegpt")) == [[("What is it?", "It is this.")]]
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert texts(load_trace("sharegpt")) == [[("What is it?", "It is this.")]]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("offline", [True, False])
def test_by_name_without_a_hub_fails_at_once_and_says_what_to_do(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"stampede trace import sharegpt --from FILE$") as raised:
        load_trace("sharegpt")
    assert "\n" not in str(raised.value)
