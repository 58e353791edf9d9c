"""`stampede serve router` as a process in front of simulated replicas: what it prints, serves, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).parents[3]
PROFILE = "h100-vllm-llama8b"


@contextmanager
def started(*arguments: str, lines: int = 1) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command of `stampede serve`, and the URLs that it printed."""
    command = [sys.executable, "-m", "flows.cli", "serve", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, [process.stdout.readline().strip() for _ in range(lines)]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def pool(*arguments: str, replicas: int = 2) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A router in front of simulated replicas."""
    serve = ("replica", "--profile", PROFILE, "--replicas", str(replicas), "--port", "0")
    with started(*serve, lines=replicas) as (_, urls):
        each = [part for url in urls for part in ("--replica", url)]
        with started("router", *each, "--port", "0", *arguments) as (router, (url,)):
            yield router, url


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_openais_client_is_served_through_it() -> None:
    guards = ["--guard", "retry max_attempts=2", "--guard", "breaker"]
    with pool("--policy", "cache_aware threshold=0.5", *guards, "--observe-every", "0.05") as (_, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-x", max_retries=0) as client:
            (model,) = client.models.list().data
            whole = client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": "hi"}], max_tokens=5)
            assert whole.usage is not None
            assert whole.usage.completion_tokens == 5
            stream = client.completions.create(
                model=model.id, prompt="hi there", max_tokens=7, stream=True, stream_options={"include_usage": True}
            )
            *events, last = stream
            assert "".join(event.choices[0].text for event in events)
            assert last.usage is not None
            assert last.usage.completion_tokens == 7
            with pytest.raises(openai.NotFoundError):
                client.completions.create(model="another", prompt="x")
            with pytest.raises(openai.BadRequestError):
                client.completions.create(model=model.id, prompt="x", max_tokens=-1)
        metrics = get(f"{url}/metrics")
        assert 'stampede_router_requests_total{outcome="ok",status="200"} 2' in metrics
        assert 'outcome="failed",status="404"} 1' in metrics
        assert "sk-x" not in metrics


def test_sigterm_lets_a_stream_end() -> None:
    with pool("--policy", "least_outstanding", replicas=1) as (router, url):
        model = json.loads(get(f"{url}/v1/models"))["data"][0]["id"]
        body = json.dumps({"model": model, "prompt": "x", "max_tokens": 150, "stream": True, "ignore_eos": True}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            first = answer.readline()
            assert first.startswith(b"data:")
            router.send_signal(signal.SIGTERM)
            rest = answer.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert router.wait(5) == 0


def test_sigint_ends_at_once_and_a_second_sigterm_cuts_the_drain_short() -> None:
    for told in ([signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]):
        with pool("--policy", "round_robin", replicas=1) as (router, url):
            model = json.loads(get(f"{url}/v1/models"))["data"][0]["id"]
            body = json.dumps({"model": model, "prompt": "x", "max_tokens": 4000, "stream": True, "ignore_eos": True}).encode()
            request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                answer.readline()
                for number in told:
                    router.send_signal(number)
                    time.sleep(0.2)
                assert router.wait(5) == 130


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy", "round_robin"], "no replica"),
        (["--policy", "fastest", "--replica", "http://h:1"], "unknown policy 'fastest'"),
        (["--policy", "power_of_two x=1", "--replica", "http://h:1"], "unknown parameter 'x'"),
        (["--policy", "round_robin x", "--replica", "http://h:1"], "must be NAME KEY=VALUE"),
        (["--policy", "round_robin", "--replica", "h:1"], "replica 'h:1'"),
        (["--policy", "round_robin", "--replica", "http://h:1", "--guard", "wall"], "unknown guard 'wall'"),
        (["--policy", "round_robin", "--prefill", "http://h:1", "--decode", "http://h:2"], "cannot serve a pool of prefill"),
        (["--policy", "pd_pair", "--replica", "http://h:1"], "needs a pool with prefill and decode"),
        (["--policy", "round_robin", "--replica", "http://h:1", "--health-path", "x"], "--health-path 'x'"),
        (["--policy", "round_robin", "--replica", "http://h:1", "--host", "203.0.113.1"], "cannot listen on 203.0.113.1:8000"),
        (["--policy", "round_robin", "--replica", "http://h:1", "--profile", "none"], "no engine profile 'none'"),
        (
            ["--policy", "round_robin", "--replica", "http://h:1", "--log", "/no/such/folder/x"],
            "--log /no/such/folder/x: No such",
        ),
    ],
)
def test_bad_usage_is_said_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["serve", "router", *arguments, "--health-every", "0.1"])
    assert ended.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert says in error.strip().splitlines()[-1]


def test_nothing_heavy_is_loaded() -> None:
    """The router is to stay small."""
    heavy = ("prefect", "ray", "datasets", "altair", "polars", "duckdb", "pyarrow", "scipy", "pydantic", "yaml", "click.testing")
    code = f"import sys, flows.cli, flows.serve_router, routers.serve.server; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_clients_connections_fit_into_the_files_that_may_be_open() -> None:
    few = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (164, 164)); from flows.cli import main; "
    run = "sys.exit(main(['serve', 'router', '--policy', 'random', '--replica', 'http://127.0.0.1:9', '--port', '0']))"
    command = [sys.executable, "-c", few + run]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        said = [process.stderr.readline() for _ in range(2)]
        assert any("at most 50 clients' connections, not 16384" in line for line in said)
        host, _, port = url.removeprefix("http://").partition(":")
        kept = [socket.create_connection((host, int(port)), 5) for _ in range(50)]
        with socket.create_connection((host, int(port)), 5) as extra:
            assert extra.recv(200).startswith(b"HTTP/1.1 503 ")
        for each in kept:
            each.close()
    finally:
        process.kill()
        process.communicate()


def test_a_rule_that_would_hear_nothing_is_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "flows.cli", "serve", "router", "--policy", "kv_cost", "--replica", "http://127.0.0.1:9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "set index=approximate" in line
