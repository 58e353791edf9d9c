"""The sender as a program: started with a file, told the epoch on its stdin, gone when its parent is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from replay.send.self_test import Limits, self_test
from replay.send.spec import SendSpec
from tests.replay.scenes import single_turns
from tests.replay.send.scripted import send_cell, server, well
from workloads.storage import write_workload

ROOT = Path(__file__).parents[3]


def spec_of(folder: Path, url: str, arrivals_s: list[float]) -> SendSpec:
    cell = replace(send_cell(), workload=str(write_workload(single_turns(arrivals_s), folder)))
    return SendSpec(cell, (url,), str(folder))


class Program:
    """A sender process and its pipes."""

    def __init__(self, folder: Path, spec: SendSpec) -> None:
        path = folder / "spec.json"
        path.write_text(spec.to_json())
        command = [sys.executable, "-m", "replay.send", str(path)]
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def begin(self, epoch_s: float) -> None:
        assert self.stdout.readline() == "ready\n"
        self.stdin.write(f"{epoch_s!r}\n")
        self.stdin.flush()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[SendSpec], Program]]:
    started: list[Program] = []

    def start(spec: SendSpec) -> Program:
        started.append(Program(tmp_path, spec))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        with one.process:
            pass


def test_it_waits_for_the_epoch_and_writes_its_part(tmp_path: Path, program: Callable[[SendSpec], Program]) -> None:
    with server(well) as (url, asked):
        sender = program(spec_of(tmp_path, url, [0.0, 0.1]))
        time.sleep(0.2)
        assert asked == []
        sender.begin(epoch_s := time.monotonic() + 2.0)
        assert sender.stdout.read().strip() == str(tmp_path / "sender-0")
        assert sender.process.wait(10) == 0
    facts = json.loads((tmp_path / "sender-0" / "sender.json").read_text())
    assert facts["counts"]["ok"] == 2
    assert asked[0].at_s == pytest.approx(epoch_s, abs=0.5)


def test_it_ends_when_its_parent_is_dead(tmp_path: Path, program: Callable[[SendSpec], Program]) -> None:
    with server(well) as (url, _):
        sender = program(spec_of(tmp_path, url, [0.0, 60.0]))
        sender.begin(time.monotonic())
        with pytest.raises(subprocess.TimeoutExpired):
            sender.process.wait(0.3)
        sender.stdin.close()
        assert sender.process.wait(10) == 1
    assert not (tmp_path / "sender-0").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"urls": ["ftp://x"]}, "urls: 'ftp://x'"),
        ({"urls": ["http://127.0.0.1:99999"]}, "urls:"),
        ({"urls": []}, "urls: []"),
        ({"urls": ["http://a", "http://b"], "target": "router"}, "exactly one"),
        ({"sender": 2, "senders": 2}, "sender: 2"),
        ({"speed": 1}, "keys: ['speed']"),
        ({"body": {"stream": False}}, "body: ['stream']"),
        ({"api_key_env": "STAMPEDE_NO_SUCH_KEY"}, "api_key_env: 'STAMPEDE_NO_SUCH_KEY'"),
        ({"prompt": "text"}, "tokenizer"),
        ({"prompt": "text", "tokenizer": "nowhere"}, "nowhere"),
        ({"length": "long"}, "length: 'long'; allowed: ignore_eos, min_tokens or free"),
        ({"ahead_s": 0}, "ahead_s: 0"),
    ],
)
def test_a_bad_specification_is_one_clear_line(
    tmp_path: Path, change: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from replay.send.__main__ import main

    assert "STAMPEDE_NO_SUCH_KEY" not in os.environ
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(json.loads(spec_of(tmp_path, "http://127.0.0.1:1", [0.0]).to_json()) | change))
    assert main([str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_the_self_test_sees_every_request_and_judges_by_its_limits() -> None:
    loose = Limits(*[1.0] * 5)
    result = self_test(50.0, 1.0, loose)
    assert result["passed"], result
    assert result["requests"] == result["ok"] == 50
    assert 0 < result["send_error_p50_s"] <= result["send_error_p99_s"] < 1
    strict = self_test(50.0, 1.0, replace(loose, send_p50_s=1e-9))
    assert not strict["passed"]
    assert strict["misses"] == ["send_p50_s"]
