"""Load senders as commands against one stub: ours and its peers, each in its fastest mode for one core. It measures nothing.

Peers are programs of environments of their own, named by variables: STAMPEDE_AIPERF, STAMPEDE_GUIDELLM and
STAMPEDE_INFERENCE_PERF their console scripts, STAMPEDE_VLLM_PYTHON the Python of an environment with vLLM.
"""

import csv
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from replay.send.part import ATTEMPTS
from replay.send.self_test import planned_spec
from replicas.launch.tiny_model import write_tiny_model

ROOT = Path(__file__).parents[2]
OURS = "stampede"
PROMPT_TOKENS, OUTPUT_TOKENS = 32, 16
START_S = 4.0  # from our sender's start to its first request
_CACHED = "local/tiny"
_SNAPSHOT = "0" * 40


@dataclass(frozen=True, slots=True)
class Asked:
    """One run: `n` requests at `rps` to `url`; whatever it writes goes into `folder`."""

    rps: float
    n: int
    url: str
    folder: Path


Reported = tuple[float, float]
"""p50 and p99 in ms, as the sender tells them itself."""


@dataclass(frozen=True, slots=True)
class Sender:
    """`command` and `reported` of one run. `own_lateness`: one that does not send at even distances, so that only it can tell how
    late it was; None for the others. `variable`: what must be set for it to be there, "" for ours. `first_rps`: where its ladder
    begins."""

    name: str
    variable: str
    first_rps: int
    command: Callable[[Asked], list[str]]
    reported: Callable[[Path, str], Reported]
    own_lateness: Callable[[Path], Reported] | None = None

    def missing(self) -> str:
        """Why it cannot run here; "" where it can."""
        given = os.environ.get(self.variable, "") if self.variable else sys.executable
        if not given:
            return f"{self.name}: {self.variable} is not set"
        return "" if shutil.which(given) else f"{self.name}: {self.variable} = {given!r}: no program there"


def _stampede(asked: Asked) -> list[str]:
    spec = planned_spec(asked.rps, asked.n / asked.rps, asked.url, asked.folder, PROMPT_TOKENS)
    spec = replace(spec, epoch_s=time.monotonic() + START_S)
    (asked.folder / "spec.json").write_text(spec.to_json())
    return [sys.executable, "-m", "replay.send", str(asked.folder / "spec.json")]


def _stampede_ttft(folder: Path, said: str) -> Reported:
    rows = pq.read_table(folder / "sender-0" / ATTEMPTS)
    return _quantiles((rows["first_token_us"].to_numpy() - rows["sent_us"].to_numpy()) / 1e3)


def _vllm(asked: Asked) -> list[str]:
    """Gaps are drawn with a burstiness so high that they are even."""
    python, script = os.environ["STAMPEDE_VLLM_PYTHON"], ROOT / "tests" / "engines" / "vllm_bench.py"
    command = [python, str(script), "--backend", "openai", "--base-url", asked.url, "--endpoint", "/v1/completions"]
    command += ["--model", "stub", "--tokenizer", str(tokenizer(asked.folder)), "--dataset-name", "random"]
    command += ["--random-input-len", str(PROMPT_TOKENS), "--random-output-len", str(OUTPUT_TOKENS), "--disable-tqdm"]
    command += ["--num-prompts", str(asked.n), "--request-rate", f"{asked.rps:g}", "--burstiness", "1000000"]
    command += ["--ready-check-timeout-sec", "0", "--num-warmups", "0"]
    return [*command, "--percentile-metrics", "ttft", "--metric-percentiles", "50,99"]


def _vllm_ttft(folder: Path, said: str) -> Reported:
    p50, p99 = (re.findall(rf"{p} TTFT \(ms\):\s+([\d.]+)", said)[-1] for p in ("P50", "P99"))
    return float(p50), float(p99)


def _guidellm(asked: Asked) -> list[str]:
    command = [os.environ["STAMPEDE_GUIDELLM"], "run", "--backend", f"kind=openai_http,target={asked.url},model=stub"]
    command += ["--profile", f"kind=constant,rate={asked.rps:g}", "--constraint", f"kind=max_requests,count={asked.n}"]
    command += ["--tokenizer", f"kind=hf_auto,model={tokenizer(asked.folder)}", "--disable-console-interactive"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}"]
    return ["env", "GUIDELLM__MAX_WORKER_PROCESSES=1", *command, "--output", f"kind=json,path={asked.folder / 'guide.json'}"]


def _guidellm_ttft(folder: Path, said: str) -> Reported:
    metrics = json.loads((folder / "guide.json").read_text())["benchmarks"][0]["metrics"]
    seen = metrics["time_to_first_token_ms"]["successful"]["percentiles"]
    return float(seen["p50"]), float(seen["p99"])


def _aiperf(asked: Asked) -> list[str]:
    """It takes a tokenizer by its name in a cache only, where there is no network. One core: one worker, one record processor."""
    snapshot = asked.folder / "cache" / "hub" / f"models--{_CACHED.replace('/', '--')}"
    (snapshot / "refs").mkdir(parents=True, exist_ok=True)
    (snapshot / "refs" / "main").write_text(_SNAPSHOT)
    shutil.copytree(tokenizer(asked.folder), snapshot / "snapshots" / _SNAPSHOT, dirs_exist_ok=True)
    offline = ["env", f"HF_HOME={asked.folder / 'cache'}", "HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1"]
    command = [*offline, os.environ["STAMPEDE_AIPERF"], "profile", "--model", "stub", "--url", asked.url, "--streaming"]
    command += ["--endpoint-type", "completions", "--tokenizer", _CACHED, "--request-rate", f"{asked.rps:g}"]
    command += ["--arrival-pattern", "constant", "--request-count", str(asked.n), "--isl", str(PROMPT_TOKENS)]
    command += ["--osl", str(OUTPUT_TOKENS), "--num-dataset-entries", "100", "--ui", "none", "--random-seed", "1"]
    command += ["--workers-max", "1", "--record-processors", "1", "--no-gpu-telemetry", "--no-server-metrics"]
    return [*command, "--use-server-token-count", "--output-artifact-dir", str(asked.folder / "aiperf")]


def _aiperf_ttft(folder: Path, said: str) -> Reported:
    (report,) = (folder / "aiperf").rglob("profile_export_aiperf.json")
    seen = json.loads(report.read_text())["time_to_first_token"]
    return float(seen["p50"]), float(seen["p99"])


def _inference_perf(asked: Asked) -> list[str]:
    """One worker process for the one core, as many requests in flight as come."""

    def fixed(tokens: int) -> dict[str, int]:
        return {"min": tokens, "max": tokens, "mean": tokens, "std_dev": 0, "total_count": asked.n}

    lengths = {"input_distribution": fixed(PROMPT_TOKENS), "output_distribution": fixed(OUTPUT_TOKENS)}
    config: dict[str, Any] = {
        "api": {"type": "completion", "streaming": True},
        "data": {"type": "random", **lengths},
        "load": {"type": "constant", "num_workers": 1, "worker_max_concurrency": 2000},
        "server": {"type": "vllm", "model_name": "stub", "base_url": asked.url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": str(tokenizer(asked.folder))},
        "report": {"request_lifecycle": {"summary": True, "per_stage": False, "per_request": False}},
        "storage": {"local_storage": {"path": str(asked.folder / "report")}},
    }
    config["load"]["stages"] = [{"rate": asked.rps, "duration": round(asked.n / asked.rps)}]
    (asked.folder / "config.json").write_text(json.dumps(config))  # JSON is YAML
    return [os.environ["STAMPEDE_INFERENCE_PERF"], "--config_file", str(asked.folder / "config.json")]


def _inference_perf_ttft(folder: Path, said: str) -> Reported:
    return _summary(folder, "successes", "latency", "time_to_first_token")


def _inference_perf_late(folder: Path) -> Reported:
    return _summary(folder, "load_summary", "schedule_delay")


def _summary(folder: Path, *keys: str) -> Reported:
    seen = json.loads((folder / "report" / "summary_lifecycle_metrics.json").read_text())
    for key in keys:
        seen = seen[key]
    return 1e3 * float(seen["median"]), 1e3 * float(seen["p99"])


SENDERS = (
    Sender(OURS, "", 1500, _stampede, _stampede_ttft),
    Sender("vllm bench serve", "STAMPEDE_VLLM_PYTHON", 200, _vllm, _vllm_ttft),
    Sender("inference-perf", "STAMPEDE_INFERENCE_PERF", 150, _inference_perf, _inference_perf_ttft, _inference_perf_late),
    Sender("aiperf", "STAMPEDE_AIPERF", 100, _aiperf, _aiperf_ttft),
    Sender("guidellm", "STAMPEDE_GUIDELLM", 75, _guidellm, _guidellm_ttft),
)


def tokenizer(folder: Path) -> Path:
    """A tiny model's tokenizer, beside the runs; made once."""
    return write_tiny_model(folder.parent / "tokenizer")


def read_log(text: str) -> Any:
    """The stub's log: a row a request, in the order of arrival; arrival, first and last write in seconds (0: it never came)."""
    rows = [[int(part) for part in row[:3]] for row in csv.reader(text.splitlines())]
    log = np.array(rows, dtype=np.float64).reshape(-1, 3) / 1e9
    return log[np.argsort(log[:, 0], kind="stable")]


def _quantiles(values: Any) -> Reported:
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return float(p50), float(p99)
