"""The sender against the simulated engine as a server: what an engine counts arrives in the rows, and TLS is only a wrapper."""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from replay.recorder import Recorder
from replay.rows import Attempt
from replay.send.target import read_target
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from replicas.served import ServedReplica
from tests.replay.scenes import cell, conversation, single_turns
from tests.replay.send.scripted import played, send_cell, server, well
from tests.replicas.served_client import FAST
from workloads.workload import Workload


@contextmanager
def served(replicas: int) -> Iterator[list[str]]:
    """URLs of simulated replicas, served by a thread."""
    loop = asyncio.new_event_loop()
    urls: list[str] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        profile = EngineProfile.load("h100-vllm-llama8b").with_changes(FAST)
        async with AsyncExitStack() as stack:
            for _ in range(replicas):
                replica = await stack.enter_async_context(ServedReplica(profile, loop.time()))
                urls.append(f"http://127.0.0.1:{replica.port}")
            ready.set()
            await stop.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10)
        yield urls
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def test_replicas_take_turns_and_find_the_shared_prefix() -> None:
    with served(2) as urls:
        rows, sender = played(single_turns([0.0, 0.05, 0.2, 0.25]), urls)
    assert [(r.outcome, r.error) for r in rows] == [("ok", "")] * 4
    assert [r.replica_id for r in rows] == [0, 1, 0, 1]
    assert [r.cached_tokens for r in rows] == [0, 0, 64, 64]
    assert [r.prefilled_tokens for r in rows] == [256, 256, 192, 192]
    assert sender.facts["other_prompt_length"] == 0


def test_a_conversation_finds_its_own_replies_in_the_cache() -> None:
    with served(1) as urls:
        rows, sender = played(conversation(3, think_s=0.1), urls)
    assert [r.outcome for r in rows] == ["ok"] * 3
    assert sender.facts["unknown_replies"] == 0
    for before, after in zip(rows, rows[1:], strict=False):  # noqa: RUF007
        whole = before.prompt_tokens + before.output_tokens
        assert whole - 32 <= after.cached_tokens <= whole, "all whole blocks of prompt and reply"


TIMES = [name for name in Attempt.__slots__ if name.endswith("_us")]
COLUMNS = [name for name in Attempt.__slots__ if name not in TIMES]


@pytest.mark.parametrize("workload", [single_turns([0.0, 0.1, 0.2, 0.3]), conversation(3, think_s=0.2, horizon_s=5.0)])
def test_the_rows_are_those_of_virtual_time(workload: Workload) -> None:
    replicas = 2 if workload.name == "single turns" else 1
    recorder = Recorder()
    profile = EngineProfile.load("h100-vllm-llama8b").with_changes(FAST)
    VirtualRun(cell(replicas=replicas), workload, profile, recorder).run()
    with served(replicas) as urls:
        rows, _ = played(workload, urls)
    virtual = sorted(recorder.attempts, key=lambda row: (row.request_id, row.attempt))
    assert [[getattr(r, c) for c in COLUMNS] for r in rows] == [[getattr(r, c) for c in COLUMNS] for r in virtual]
    for here, there in zip(rows, virtual, strict=True):
        assert here.scheduled_us == pytest.approx(there.scheduled_us, abs=500_000)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1, signed by itself."""
    path = tmp_path / "both.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1 -out c -keyout k"
    )
    try:
        subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("no openssl")
    path.write_text((tmp_path / "k").read_text() + (tmp_path / "c").read_text())
    return path


def test_https(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with server(well, context) as (url, asked):
        rows, _ = played(single_turns([0.0, 0.3], prompt_tokens=100_000), url)
        assert [r.outcome for r in rows] == ["error", "error"]
        assert "certificate verify failed" in rows[0].error
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        rows, _ = played(single_turns([0.0, 0.3], prompt_tokens=100_000), url, send_cell())
    assert [(r.outcome, r.error) for r in rows] == [("ok", "")] * 2
    assert len(asked[0].prompt) == 100_000
    assert asked[0].connection == asked[1].connection


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://127.0.0.1:8000", "POST /v1/completions HTTP/1.1", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/pool/", "POST /pool/v1/completions HTTP/1.1", "127.0.0.1:8000"),
        ("http://[::1]:8000", "POST /v1/completions HTTP/1.1", "[::1]:8000"),
        ("https://127.0.0.1", "POST /v1/completions HTTP/1.1", "127.0.0.1"),
    ],
)
def test_targets(url: str, line: str, host: str) -> None:
    target = read_target(url, "/v1/completions")
    assert target.head.decode().split("\r\n")[:2] == [line, f"host: {host}"]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "http://", "http://a b", "http://u:p@127.0.0.1", "http://127.0.0.1/?x=1", "http://h\r\n"]
)
def test_no_targets(url: str) -> None:
    with pytest.raises(ValueError, match="urls: "):
        read_target(url, "/v1/completions")
