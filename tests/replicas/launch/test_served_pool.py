"""The simulated engine as a launched replica: told its limits, emptied and verified, stopped and brought back like a vLLM."""

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicas.launch import faults, served
from replicas.launch.facts import facts
from replicas.launch.pool import Pool, running_pool
from replicas.launch.scrape import Scraper, take
from replicas.launch.spec import EngineSpec

SERVER = (sys.executable, "-m", "flows.cli", "serve", "replica")


def spec(**changes: Any) -> EngineSpec:
    wanted = {"context_tokens": 4096, "kv_tokens": 16_384, **changes}
    return EngineSpec(engine="served", profile="h100-vllm-llama8b", server=SERVER, **wanted)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool([spec(), spec(changes={"frontend_s": 0.0})], tmp_path_factory.mktemp("logs")) as pool:
        yield pool


def test_its_limits_are_fields_of_the_profile_and_win_over_changes(tmp_path: Path) -> None:
    limits = {"max_running": 8, "max_queued": 12, "max_batched_tokens": 512, "block_tokens": 32, "port": 8100}
    argv = served.command(spec(**limits, changes={"max_running": 99, "cancel_lag_s": 0.5})).argv
    sets = dict(argv[i + 1].split("=") for i, word in enumerate(argv) if word == "--set")
    assert sets == {
        "max_running": "8", "cancel_lag_s": "0.5", "context_tokens": "4096", "max_batched_tokens": "512", "max_queued": "12",
        "block_tokens": "32", "kv_blocks": "512",
    }  # fmt: skip
    assert argv[argv.index("--port") + 1] == "8100"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"profile": ""}, "profile is '': must be given with engine 'served'"),
        ({"server": ()}, "server is (): must be given with engine 'served'"),
        ({"gpus": ("0",)}, "engine is 'served': gpus ['0'] and role 'both' are not allowed"),
        ({"kv_tokens": None, "kv_bytes": 1024}, "kv_bytes is 1024: allowed for vllm only"),
    ],
)
def test_a_bad_spec_is_told_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        EngineSpec(**{"engine": "served", "profile": "h100-vllm-llama8b", "server": SERVER, "kv_tokens": 16_384, **changes})


def test_a_pool_too_small_for_one_context_is_refused_before_it_starts() -> None:
    with pytest.raises(ValueError, match="one sequence of full length must fit"):
        served.command(spec(kv_tokens=1024))


def test_it_is_emptied_and_proved_so(pool: Pool) -> None:
    assert all(seconds > 0 for seconds in pool.warm_up())
    for flushed in pool.reset():
        assert (flushed.cached_first, flushed.cached_after) == (0, 0)
        assert flushed.cached_again >= 224
    assert [facts(replica)["engine"] for replica in pool.replicas] == ["served", "served"]
    assert facts(pool.replicas[0])["version"] == "0.26.0"


def test_its_time_stands_still_while_it_is_stopped(pool: Pool) -> None:
    """A real engine that is stopped makes no token; this one must not make up for them when it goes on."""
    replica = pool.replicas[0]
    began_s, took_s = time.monotonic(), list[float]()

    def ask() -> None:
        replica.api.complete(list(range(3, 67)), 300)
        took_s.append(time.monotonic() - began_s)

    ask()
    alone_s, began_s = took_s.pop(), time.monotonic()
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(alone_s / 2)
    faults.pause(replica)
    time.sleep(1.0)
    faults.resume(replica)
    asking.join(20)
    assert took_s[0] > alone_s + 0.9


def test_a_kill_loses_what_runs_and_it_comes_back_cold(pool: Pool) -> None:
    replica = pool.replicas[1]
    replica.api.complete(list(range(3, 203)), 1)
    assert take(replica.source, 5.0).prefix_query_tokens > 0
    faults.kill(replica)
    assert replica.launched.parts() == []
    faults.restart(replica)
    before = take(replica.source, 5.0)
    assert replica.api.complete(list(range(3, 203)), 1).cached_tokens in (0, None)
    assert (take(replica.source, 5.0).prefix_query_tokens - before.prefix_query_tokens) == 200


def test_the_last_reading_tells_where_the_counters_ended(pool: Pool) -> None:
    epoch_s = time.monotonic()
    scraper = Scraper([replica.source for replica in pool.replicas], epoch_s, interval_s=30.0)
    scraper.start()
    time.sleep(0.1)
    pool.replicas[0].api.complete(list(range(3, 103)), 1)
    rows = scraper.stop()
    assert all(row.prefix_query_tokens == 0 for row in rows)
    assert scraper.last[0].prefix_query_tokens == 100
    assert scraper.last[1].prefix_query_tokens == 0


def test_it_takes_a_tokenizers_folder(tmp_path: Path) -> None:
    from replicas.launch.tiny_model import write_tiny_model

    model = write_tiny_model(tmp_path / "tiny")
    with running_pool([spec(model=model)], tmp_path / "logs") as pool:
        status, text = pool.replicas[0].api.post("/tokenize", {"prompt": "one two"})
        assert status == 200
        assert max(json.loads(text)["tokens"]) < 4096
