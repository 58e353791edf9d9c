"""Real vLLM and SGLang on the CPU: started, asked, emptied, hurt, brought back, and never left over.

`STAMPEDE_VLLM_PYTHON` and `STAMPEDE_SGLANG_PYTHON` name the environments; the tests of an engine that is not named are skipped.
Two replicas of each are started once: about half a minute on two quiet cores.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from replicas.launch import faults
from replicas.launch.environment import VARIABLES
from replicas.launch.facts import facts
from replicas.launch.failed import EngineFailed
from replicas.launch.pool import Pool, running_pool
from replicas.launch.replica import Replica, prompt_ids
from replicas.launch.scrape import GaugeRow, Scraper, take
from replicas.launch.spec import EngineSpec
from replicas.launch.tiny_model import write_tiny_model
from tests.replicas.launch.conftest import alive, all_gone, group_of

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[3]
SHAPES = {"vllm": "llama", "sglang": "qwen2"}
KV_TOKENS = 4096
MAX_RUNNING = 8
MAX_QUEUED = 12  # vLLM counts all in flight, SGLang what waits
# So low that SGLang admits more than fits, and must retract.
OPTIONS = {"vllm": (), "sglang": ("--schedule-conservativeness", "0.1")}


def spec_of(engine: str, folder: Path) -> EngineSpec:
    named = os.environ.get(VARIABLES[engine])
    if not named:
        pytest.skip(f"{VARIABLES[engine]} is not set: no such engine here")
    return EngineSpec(
        engine=engine,
        python=Path(named),
        model=write_tiny_model(folder / SHAPES[engine], SHAPES[engine]),
        weights="dummy",
        context_tokens=2048,
        max_running=MAX_RUNNING,
        max_batched_tokens=512,
        max_queued=MAX_QUEUED,
        kv_tokens=KV_TOKENS,
        arguments=OPTIONS[engine],
    )


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two replicas; at the module's end no process of their groups is left."""
    folder = tmp_path_factory.mktemp(request.param)
    spec = spec_of(request.param, folder)
    with running_pool([spec, spec], folder / "logs", at_once=2) as pool:
        yield pool
        pids = [part.pid for replica in pool.replicas for part in replica.launched.parts()]
        groups = [replica.launched.pid for replica in pool.replicas]
    assert alive(pids) == []
    assert [group_of(group) for group in groups] == [[], []]


def together(replica: Replica, number: int, prompt_tokens: int, output_tokens: int) -> list[str]:
    """So many completions at once; "" or what went wrong, in their order. Their first tokens differ, so nothing is shared.

    Lengths are fixed by forbidding the end token: told to ignore it, SGLang would reserve all memory beforehand.
    """
    results = ["never asked"] * number

    def ask(i: int) -> None:
        prompt = [3 + i, *prompt_ids((time.monotonic(), i), prompt_tokens - 1)]
        body = {"model": "model", "prompt": prompt, "max_tokens": output_tokens, "temperature": 0, "logit_bias": {"2": -100}}
        try:
            status, text = replica.api.post("/v1/completions", body, timeout_s=60.0)
            well = status == 200 and json.loads(text)["usage"]["completion_tokens"] == output_tokens
            results[i] = "" if well else f"HTTP {status} {text}"
        except EngineFailed as error:
            results[i] = str(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_equal_replicas_answer_and_their_caches_are_emptied_and_proved_empty(pool: Pool) -> None:
    assert all(0 < seconds < 60 for seconds in pool.warm_up())
    for replica in pool.replicas:
        assert (facts(replica)["version"] or "")[0].isdigit()
    flushed = pool.reset()
    expected = {"vllm": 224, "sglang": 255}[pool.replicas[0].engine]
    assert [(f.cached_first, f.cached_again, f.cached_after) for f in flushed] == [(0, expected, 0)] * 2


def test_gauges_are_those_of_the_moment_and_counters_count_cached_tokens(pool: Pool) -> None:
    pool.reset()
    replica = pool.replicas[0]
    scraper = Scraper([r.source for r in pool.replicas], time.monotonic(), interval_s=0.1)
    scraper.start()
    assert together(replica, 12, 40, 400) == [""] * 12
    prompt = [200, *prompt_ids("counted", 299)]
    cached = [replica.api.complete(prompt, 1).cached_tokens for _ in range(2)][1]
    time.sleep(0.5)
    rows = scraper.stop()
    of_it: list[GaugeRow] = [row for row in rows if row.replica_id == 0]
    assert max(row.running for row in of_it) == MAX_RUNNING
    assert max(row.waiting for row in of_it) == 4
    assert 0.3 < max(row.kv_used for row in of_it) <= 1.0
    assert cached == {"vllm": 288, "sglang": 299}[replica.engine]
    assert (of_it[-1].prefix_hit_tokens, of_it[-1].prefix_query_tokens) == (cached, 12 * 40 + 2 * 300)
    assert (of_it[-1].running, of_it[-1].waiting) == (0, 0)
    assert {row.prefix_query_tokens for row in rows if row.replica_id == 1} == {0}


def test_a_kv_pool_of_4096_tokens_preempts_and_all_end_well(pool: Pool) -> None:
    replica = pool.replicas[0]
    before = take(replica.source, 10.0).preemptions
    assert together(replica, 6, 300, 500) == [""] * 6
    assert take(replica.source, 10.0).preemptions > before


def test_more_than_the_queue_limit_are_refused_and_the_others_end_well(pool: Pool) -> None:
    """vLLM keeps 12 in flight; SGLang 12 that wait beside 8 that run, give or take those that come and go between two steps."""
    replica = pool.replicas[0]
    results = together(replica, 30, 40, 200)
    refused = [text for text in results if "HTTP 503" in text]
    assert len(refused) + results.count("") == 30, results
    low, high = {"vllm": (18, 18), "sglang": (6, 14)}[replica.engine]
    assert low <= len(refused) <= high
    pool.reset()


def test_a_stopped_replica_answers_nothing_until_it_goes_on(pool: Pool) -> None:
    replica, other = pool.replicas
    faults.pause(replica)
    with pytest.raises(EngineFailed, match="timed out"):
        replica.api.get("/health", timeout_s=1.0)
    assert other.api.get("/health")[0] == 200
    asking = threading.Thread(target=replica.api.complete, args=(prompt_ids("while it stops", 20), 5))
    asking.start()
    time.sleep(0.5)
    assert asking.is_alive()
    faults.resume(replica)
    asking.join(20.0)
    assert not asking.is_alive(), "what came while it was stopped is answered"


def test_a_killed_replica_is_gone_at_once_and_comes_back_cold(pool: Pool) -> None:
    replica, other = pool.replicas
    prompt = prompt_ids("before the end", 200)
    replica.api.complete(prompt, 1)
    assert replica.api.complete(prompt, 1).cached_tokens
    lost: list[str] = []
    asking = threading.Thread(target=lambda: lost.extend(together(replica, 1, 40, 1500)))
    asking.start()
    time.sleep(0.5)
    hit = faults.kill(replica)
    asking.join(10.0)
    assert len(lost) == 1
    assert lost[0], "the request that ran there failed"
    assert hit.ended_s - hit.began_s < 3
    assert replica.launched.exit_code == -signal.SIGKILL
    assert group_of(replica.launched.pid) == []
    assert other.api.get("/health")[0] == 200
    faults.restart(replica)
    assert not replica.api.complete(prompt, 1).cached_tokens
    assert pool.reset()[0].cached_after == 0


def test_when_what_runs_the_model_is_killed_the_server_ends_too(pool: Pool) -> None:
    replica = pool.replicas[1]
    server = replica.launched.pid
    hit = faults.kill_engine(replica)
    assert all(part.is_engine for part in hit.parts)
    assert server not in [part.pid for part in hit.parts]
    assert replica.launched.exit_code is not None
    assert group_of(server) == []


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_an_option_that_the_engine_does_not_know_is_told_with_its_own_words(engine: str, tmp_path: Path) -> None:
    spec = replace(spec_of(engine, tmp_path), arguments=("--no-such-option",))
    with (
        pytest.raises(EngineFailed, match=r"(?s)ended with \d+ after .* before it was ready; its log .*--no-such-option"),
        running_pool([spec], tmp_path / "logs"),
    ):
        pass


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_killed_parent_takes_its_engines_with_it(engine: str, tmp_path: Path) -> None:
    """The parent is killed when the engine has its processes: it need not be ready for that."""
    spec = spec_of(engine, tmp_path)
    fields = {"python": str(spec.python), "model": str(spec.model)}
    code = f"""
import sys, time
from pathlib import Path
from replicas.launch.replica import launched_replica
from replicas.launch.process import EngineProcess
from replicas.launch.spec import EngineSpec
given = {json.dumps(fields)}
spec = EngineSpec(engine={engine!r}, python=Path(given["python"]), model=Path(given["model"]), weights="dummy", kv_tokens=4096)
replica = launched_replica(0, spec, Path({str(tmp_path)!r}))
process = EngineProcess(replica.command, Path({str(tmp_path)!r}) / "engine.log")
while not any(part.is_engine for part in process.parts()) and process.exit_code is None: time.sleep(0.1)
print(process.pid, *(part.pid for part in process.parts()), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        group, *pids = map(int, parent.stdout.readline().split())
        assert len(alive(pids)) >= 3
        parent.kill()
    assert all_gone(pids, within_s=15.0)
    assert group_of(group) == []
