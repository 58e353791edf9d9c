"""Real engines for tests marked `engine`: where they are, started once a module, stopped at its end.

`STAMPEDE_VLLM_PYTHON` and `STAMPEDE_SGLANG_PYTHON` name the Python of an environment that holds the engine (built for a CPU);
the tests of an engine that is not named are skipped.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replicas.launch.tiny_model import write_tiny_model
from tests.engines.launch import RealEngine
from tests.engines.scenario import Scenario, Timeline
from tests.engines.sglang_server import serving_sglang
from tests.engines.vllm_server import serving_vllm

Stepper = Callable[[Scenario], Timeline]


def _python(variable: str) -> Path:
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"{variable} is not set: no such engine here")
    if not Path(named).is_file():
        pytest.fail(f"{variable} is {named!r}, which is no file")
    return Path(named)


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    return _python("STAMPEDE_VLLM_PYTHON")


@pytest.fixture(scope="session")
def sglang_python() -> Path:
    return _python("STAMPEDE_SGLANG_PYTHON")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model") / "model", "llama")


@pytest.fixture(scope="module")
def real_vllm(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    """A served vLLM: 8 places, at most 12 requests in flight, 512 tokens a step."""
    options = ("--max-num-seqs", "8", "--max-num-queued-reqs", "12", "--max-num-batched-tokens", "512")
    with serving_vllm(vllm_python, tiny_model, tmp_path_factory.mktemp("vllm") / "server.log", *options) as engine:
        yield engine


@pytest.fixture(scope="module")
def real_sglang(sglang_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    """A served SGLang, first come first served."""
    with serving_sglang(sglang_python, tiny_model, tmp_path_factory.mktemp("sglang") / "server.log") as engine:
        yield engine


@pytest.fixture(scope="module")
def vllm_steps(vllm_python: Path, tiny_model: Path) -> Iterator[Stepper]:
    """vLLM's own scheduler, asked step by step."""
    yield from _stepper([str(vllm_python), "-W", "ignore", str(Path(__file__).with_name("vllm_steps.py")), str(tiny_model)])


def _stepper(command: list[str]) -> Iterator[Stepper]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def steps(scenario: Scenario) -> Timeline:
            to.write(json.dumps(scenario.to_json()) + "\n")
            to.flush()
            line = answers.readline()
            assert line, f"the engine's scheduler died on {scenario}"
            return Timeline(**json.loads(line))

        yield steps
        to.close()
        process.kill()
