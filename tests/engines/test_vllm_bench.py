"""`vllm bench serve`, the field's own load generator, against our served replica."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.launch import RealEngine, free_port, serving

pytestmark = pytest.mark.engine

PROFILE = "h100-vllm-llama8b"
SERVE = "import sys; from flows.cli import main; sys.argv[0] = 'stampede'; main()"
N, INPUT, OUTPUT = 40, 256, 48


@pytest.fixture(scope="module")
def replica(tiny_model: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    """`stampede serve replica` in a process of its own."""
    port = free_port()
    options = ["serve", "replica", "--profile", PROFILE, "--port", str(port), "--model", "tiny"]
    options += ["--tokenizer", str(tiny_model)]
    log = tmp_path_factory.mktemp("replica") / "server.log"
    root = str(Path(__file__).parents[2])
    with serving([sys.executable, "-c", SERVE, *options], port, log, {"PYTHONPATH": root}) as engine:
        yield engine


@pytest.mark.parametrize(("backend", "endpoint"), [("openai", "/v1/completions"), ("openai-chat", "/v1/chat/completions")])
def test_every_request_of_vllm_bench_serve_is_answered_in_full(
    backend: str, endpoint: str, replica: RealEngine, vllm_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """All requests complete with the tokens asked for, at about the profile's speed."""
    result = bench(
        vllm_python,
        tmp_path,
        *("--backend", backend, "--endpoint", endpoint, "--base-url", replica.url, "--model", "tiny"),
        *("--tokenizer", str(tiny_model), "--dataset-name", "random", "--random-input-len", str(INPUT)),
        *("--random-output-len", str(OUTPUT), "--num-prompts", str(N), "--request-rate", "20", "--ignore-eos", "--seed", "1"),
    )
    assert (result["completed"], result["failed"]) == (N, 0)
    assert result["total_output_tokens"] == N * OUTPUT
    assert result["total_input_tokens"] >= N * INPUT
    assert 0.004 < result["median_tpot_ms"] / 1e3 < 0.05, "a step takes about 7 ms, more where the machine is busy"


def bench(python: Path, folder: Path, *options: str) -> dict[str, Any]:
    """The result file of one `vllm bench serve`."""
    command = [str(python), "-W", "ignore", str(Path(__file__).with_name("vllm_bench.py")), *options]
    command += ["--save-result", "--result-dir", str(folder), "--result-filename", "result.json", "--disable-tqdm"]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=180, check=False)
    assert (folder / "result.json").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    loaded: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return loaded
