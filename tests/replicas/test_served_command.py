"""`stampede serve replica` as a process: what it prints, how it ends."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROFILE = ["--profile", "h100-vllm-llama8b"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", "serve", "replica", *arguments]


@contextmanager
def served(*arguments: str, replicas: int = 1) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The running process and its replicas' URLs."""
    given = [*PROFILE, "--port", "0", "--replicas", str(replicas), *arguments]
    with subprocess.Popen(command(*given), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, [process.stdout.readline().strip() for _ in range(replicas)]
        finally:
            process.kill()


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_replicas_are_served_on_ports_of_their_own_and_sigint_ends_them() -> None:
    with served("--model", "m", "--set", "context_tokens=1000", "--flavour", "sglang", replicas=2) as (process, urls):
        assert len(set(urls)) == 2
        for url in urls:
            made = post(f"{url}/v1/completions", {"model": "m", "prompt": "hello", "max_tokens": 3})
            assert made["usage"]["completion_tokens"] == 3
            with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
                card = json.loads(answer.read())["data"][0]
            assert (card["id"], card["max_model_len"], card["owned_by"]) == ("m", 1000, "sglang")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_sigterm_lets_a_running_request_end() -> None:
    with served() as (process, (url,)):
        body = json.dumps({"prompt": [1], "max_tokens": 150, "stream": True}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", body)
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.readline()  # it has begun
            process.send_signal(signal.SIGTERM)
            assert answer.read().endswith(b"data: [DONE]\n\n")
        assert process.wait(10) == 0


def test_sigterm_does_not_wait_for_ever() -> None:
    with served("--shutdown-timeout", "0.2") as (process, (url,)):
        body = json.dumps({"prompt": [1], "max_tokens": 100_000, "stream": True}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/completions", body), timeout=20) as answer:
            answer.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def test_the_admin_path_is_off_unless_asked_for() -> None:
    with served() as (_, (url,)), pytest.raises(urllib.error.HTTPError, match="404"):
        post(f"{url}/fault", {"kind": "flush"})
    with served("--admin") as (_, (url,)):
        assert post(f"{url}/fault", {"kind": "flush"}) == {"done": "flush"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "nope"], "no engine profile 'nope'; shipped: "),
        ([*PROFILE, "--set", "kv_blocks"], "--set 'kv_blocks': must be KEY=VALUE"),
        ([*PROFILE, "--set", "kv_blocks=1"], "kv_blocks"),
        ([*PROFILE, "--set", "nope=1"], "'nope' is not a field"),
        ([*PROFILE, "--port", "70000"], "--port"),
        ([*PROFILE, "--flavour", "tgi"], "--flavour"),
        ([*PROFILE, "--tokenizer", "/nope"], "no such file"),
        ([*PROFILE, "--host", "192.0.2.1"], "cannot listen on 192.0.2.1:8001"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments: list[str], message: str) -> None:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
