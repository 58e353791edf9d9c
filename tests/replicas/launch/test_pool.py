"""A pool starts whole or not at all, its caches are emptied and proved empty, and its replicas can be hurt."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from replicas.launch import faults
from replicas.launch.facts import facts
from replicas.launch.failed import EngineFailed
from replicas.launch.keeper import processes_under
from replicas.launch.pool import running_pool, start_pool
from replicas.launch.ports import is_free
from replicas.launch.replica import RemoteSpec, Replica
from replicas.launch.reset import reset
from replicas.launch.scrape import GaugeRow, Scraper
from tests.replicas.launch.conftest import MakeSpec, alive

ROOT = Path(__file__).parents[3]


def pids(replica: Replica) -> list[int]:
    return [part.pid for part in replica.launched.parts()]


def test_replicas_have_ports_and_logs_of_their_own_and_end_with_the_block(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with running_pool([fake_spec()] * 3, tmp_path / "logs", at_once=3) as pool:
        assert len(set(pool.urls)) == 3
        assert [replica.replica_id for replica in pool.replicas] == [0, 1, 2]
        assert all(0 < seconds < 5 for seconds in pool.warm_up())
        with pytest.raises(ValueError, match=r"replica 0 at .* still runs"):
            pool.replicas[0].start()
        running = [pid for replica in pool.replicas for pid in pids(replica)]
        assert len(running) == 6
        told = [facts(replica) for replica in pool.replicas]
        assert json.loads(json.dumps(told)) == told
        assert [(f["remote"], f["version"], f["log"]) for f in told] == [
            (False, None, str(tmp_path / "logs" / f"replica-{i}.0.log")) for i in range(3)
        ]
    assert alive(running) == []
    logs = [(tmp_path / "logs" / f"replica-{i}.0.log").read_text() for i in range(3)]
    assert all(text.startswith(f"fake engine at {url.rpartition(':')[2]}") for text, url in zip(logs, pool.urls, strict=True))


def test_at_most_so_many_start_at_once(fake_spec: MakeSpec, tmp_path: Path) -> None:
    """Each is ready 0.4 s after it began: with two at a time, the third begins when the first is ready."""
    with running_pool([fake_spec(ready_after_s=0.4)] * 3, tmp_path, at_once=2):
        pass
    began = [re.findall(r"began at ([\d.]+)", (tmp_path / f"replica-{i}.0.log").read_text())[0] for i in range(3)]
    first, _, third = map(float, began)
    assert third - first >= 0.4


def test_one_that_dies_ends_the_others_and_shows_its_last_words(fake_spec: MakeSpec, tmp_path: Path) -> None:
    specs = [fake_spec(), fake_spec(ready_after_s=60), fake_spec(die_after_s=0.5, ready_after_s=60)]
    began_s = time.monotonic()
    with pytest.raises(EngineFailed, match=r"(?s)replica 2 \(vllm at .*\) ended with 7 .*the last words of the engine"):
        start_pool(specs, tmp_path, at_once=3, ready_s=30)
    assert time.monotonic() - began_s < 10, "nobody waited for the second one"
    assert all(is_free(int(re.findall(r"at (\d+),", (tmp_path / f"replica-{i}.0.log").read_text())[0])) for i in range(3))


def test_an_interrupt_while_they_start_ends_all_of_them(fake_spec: MakeSpec, tmp_path: Path) -> None:
    spec = fake_spec(ready_after_s=60)
    code = f"""
from pathlib import Path
from replicas.launch.pool import start_pool
from replicas.launch.spec import EngineSpec
here = Path({str(tmp_path)!r})
spec = EngineSpec(engine="vllm", python=here / "python", model=here / "model", environment={dict(spec.environment)!r})
start_pool([spec] * 3, here, at_once=2)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stderr=subprocess.PIPE) as starting:
        pids: list[int] = []
        until = time.monotonic() + 10
        while len(pids) < 6 and time.monotonic() < until:  # two keepers, two servers, their two children
            time.sleep(0.05)
            pids = processes_under(starting.pid)
        starting.send_signal(signal.SIGINT)
        assert starting.wait(10) != 0
        assert starting.stderr is not None
        assert "KeyboardInterrupt" in starting.stderr.read()
    assert len(pids) == 6
    assert alive(pids) == []
    assert not (tmp_path / "replica-2.0.log").exists(), "the third was never begun"


def test_one_that_never_gets_ready_is_given_up_in_time(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"is not ready after 1 s \(/health answered 503\); its log .*\nfake engine at"):
        start_pool([fake_spec(ready_after_s=60)], tmp_path, ready_s=1.0)


def test_a_port_is_given_once_and_a_pool_is_not_empty(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="port 8123 is given to 2 replicas"):
        start_pool([fake_spec(8123), fake_spec(8123)], tmp_path)
    with pytest.raises(ValueError, match="no replicas"):
        start_pool([], tmp_path)


def test_a_remote_replica_is_recognized_and_can_be_reset_but_not_killed(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with (
        running_pool([fake_spec()], tmp_path) as there,
        running_pool([RemoteSpec(url=there.urls[0], model="model")], tmp_path) as pool,
    ):
        (replica,) = pool.replicas
        assert (replica.engine, pool.reset()[0].cached_again) == ("vllm", 224)
        assert facts(replica)["remote"]
        with pytest.raises(ValueError, match="is remote: its processes cannot be touched"):
            faults.kill(replica)
        with pytest.raises(ValueError, match="is remote: it cannot be started"):
            replica.start()
        pool.stop()
        assert len(pids(there.replicas[0])) == 2, "what was not launched here is not ended here"


def test_a_remote_replica_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"replica 0 \(remote at http://127.0.0.1:9\) is not ready after 1 s .*refused"):
        start_pool([RemoteSpec(url="http://127.0.0.1:9", model="m")], tmp_path, ready_s=1.0)


def test_a_key_is_read_from_its_variable_and_never_shown(
    fake_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteSpec(url="http://127.0.0.1:9", model="m", api_key_variable="KEY_OF_TEST")
    with pytest.raises(ValueError, match=r"^the variable KEY_OF_TEST, which should hold the key of"):
        start_pool([remote], tmp_path, ready_s=1.0)
    monkeypatch.setenv("KEY_OF_TEST", "secret-of-test")
    with pytest.raises(EngineFailed) as error:
        start_pool([remote], tmp_path, ready_s=1.0)
    assert "secret-of-test" not in str(error.value) + repr(remote)


# Reset ------------------------------------------------------------------------------------------------------------------------


def test_a_reset_is_proved_by_the_engines_own_counters(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with running_pool([fake_spec()], tmp_path) as pool:
        flushed = pool.reset()[0]
    assert (flushed.cached_first, flushed.cached_again, flushed.cached_after) == (0, 224, 0), (
        "256 tokens in blocks of 32, less the last"
    )


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        ({"flush": "lies"}, "224 of 256 tokens are still cached after /reset_prefix_cache"),
        ({"flush": "absent"}, r"/reset_prefix_cache: HTTP 404 .*VLLM_SERVER_DEV_MODE=1"),
        (
            {"cache": "off"},
            "of 256 tokens 0 were cached after /reset_prefix_cache, and 0 when sent again: .* cannot be verified",
        ),
        ({"running": 3}, "3 requests run and 0 wait there after 0 s"),
    ],
)
def test_a_reset_that_is_none_is_told_in_one_line(
    wishes: dict[str, object], told: str, fake_spec: MakeSpec, tmp_path: Path
) -> None:
    with running_pool([fake_spec(**wishes)], tmp_path) as pool, pytest.raises(EngineFailed, match=told) as error:
        reset(pool.replicas[0], patience_s=0.2)
    assert "\n" not in str(error.value)


# Faults and samples -----------------------------------------------------------------------------------------------------------


def test_a_killed_replica_comes_back_cold_on_its_port_with_a_log_of_its_own(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with running_pool([fake_spec()], tmp_path) as pool:
        (replica,) = pool.replicas
        url, before = replica.url, pids(replica)
        hit = faults.kill(replica)
        assert ([part.pid for part in hit.parts], replica.launched.exit_code) == (before, -9)
        assert alive(before) == []
        with pytest.raises(EngineFailed, match="refused"):
            replica.api.get("/health")
        faults.restart(replica)
        assert (replica.url, replica.starts, replica.api.get("/health")[0]) == (url, 2, 200)
        assert not set(before) & set(pids(replica))
        assert sorted(p.name for p in tmp_path.glob("*.log")) == ["replica-0.0.log", "replica-0.1.log"]


def test_a_paused_replica_takes_connections_and_answers_when_it_goes_on(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with running_pool([fake_spec()], tmp_path) as pool:
        (replica,) = pool.replicas
        faults.pause(replica)
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(replica.api.get("/health", timeout_s=20.0)[0]))
        asking.start()
        asking.join(0.4)
        assert answers == []
        assert asking.is_alive(), "connected, and left waiting"
        faults.resume(replica)
        asking.join(5.0)
        assert answers == [200]


def test_only_the_engine_can_be_hit_and_an_orderly_end_asks_the_server(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with running_pool([fake_spec()], tmp_path) as pool:
        (replica,) = pool.replicas
        server, engine = replica.launched.parts()
        assert faults.pause_engine(replica).parts == (engine,)
        assert replica.api.get("/health")[0] == 200
        faults.resume(replica)
        assert faults.terminate(replica, grace_s=5.0).parts == (server, engine)
        assert replica.launched.exit_code == -15


def test_samples_come_every_interval_with_a_gap_where_a_replica_is_stopped(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with running_pool([fake_spec()] * 2, tmp_path, at_once=2) as pool:
        one, two = pool.replicas
        one.api.complete(list(range(3, 67)), 1)
        epoch_s = time.monotonic() + 0.1
        scraper = Scraper([replica.source for replica in pool.replicas], epoch_s, interval_s=0.2)
        scraper.start()
        one.api.complete(list(range(3, 67)), 1)
        time.sleep(0.5)
        faults.pause(two)
        time.sleep(0.7)
        faults.resume(two)
        time.sleep(0.5)
        rows = scraper.stop()
    assert rows == sorted(rows, key=lambda row: (row.t_us, row.replica_id))
    of_one, of_two = ([row for row in rows if row.replica_id == i] for i in (0, 1))
    assert len(of_one) >= 7
    assert of_one[0].t_us < 100_000, "the run's start is a tick too"
    assert {(row.prefix_hit_tokens, row.prefix_query_tokens, row.kv_used) for row in of_one[1:]} == {(32, 64, 0.25)}
    assert scraper.missed[0] == 0
    assert 2 <= scraper.missed[1] <= 4, "0.7 s in ticks of 0.2 s"
    gaps = [b.t_us - a.t_us for a, b in pairwise(of_two)]
    assert max(gaps) > 600_000
    assert all(on_tick(row) for row in of_one)


def on_tick(row: GaugeRow) -> bool:
    return row.t_us % 200_000 < 100_000
