"""Events on real processes that do nothing else: done on time, undone whatever happens, and told if they were not."""

import time
from collections.abc import Iterator

import pytest

from replay.measured.disturbance import Disturbance
from replay.measured.timeline import Action, actions_of
from replicas.launch import faults
from replicas.launch.failed import EngineFailed
from replicas.launch.pool import Pool, running_pool
from tests.replay.measured.scene import served_spec
from workloads.events import Event


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool([served_spec(), served_spec()], tmp_path_factory.mktemp("logs")) as pool:
        yield pool


def test_an_event_at_every_replica_is_an_action_at_each() -> None:
    events = [Event(1.0, "pause", for_s=2.0), Event(3.0, "kill", 1, for_s=1.0), Event(9.0, "flush", 0)]
    assert actions_of(events, range(3)) == {
        0: [Action(1.0, "pause", 0, 0, False), Action(3.0, "resume", 0, 0, True), Action(9.0, "flush", 0, 2, False)],
        1: [
            Action(1.0, "pause", 1, 0, False),
            Action(3.0, "resume", 1, 0, True),  # before what begins at the same time
            Action(3.0, "kill", 1, 1, False),
            Action(4.0, "restart", 1, 1, True),
        ],
        2: [Action(1.0, "pause", 2, 0, False), Action(3.0, "resume", 2, 0, True)],
    }


def test_what_stands_when_the_run_ends_is_undone_and_what_was_not_due_is_said(pool: Pool) -> None:
    events = [Event(0.2, "pause", 0, for_s=60.0), Event(0.3, "kill", 1, for_s=60.0), Event(70.0, "flush")]
    disturbance = Disturbance(events, pool.replicas, time.monotonic(), ready_s=20.0)
    disturbance.start()
    time.sleep(1.5)
    disturbance.finish()
    assert [replica.api.get("/health")[0] for replica in pool.replicas] == [200, 200]
    assert [one["error"] for one in disturbance.done] == [""] * 4
    assert {one["action"] for one in disturbance.done[:2]} == {"pause", "kill"}
    assert {one["action"] for one in disturbance.done[2:]} == {"resume", "restart"}
    assert "skipped" not in disturbance.records[0] | disturbance.records[1]
    assert disturbance.records[2]["skipped"].startswith("the run ended at ")
    assert disturbance.problems == []
    assert disturbance.records[0].keys() == {"t_s", "kind", "replica", "for_s", "running", "waiting"}
    assert disturbance.records[1]["lost"] == 0


def test_an_event_that_fails_makes_the_run_void(pool: Pool) -> None:
    faults.kill(pool.replicas[1])
    disturbance = Disturbance([Event(0.1, "pause", 1, for_s=0.1)], pool.replicas, time.monotonic(), ready_s=20.0)
    disturbance.start()
    time.sleep(0.4)
    with pytest.raises(EngineFailed, match="the engine has no process left"):
        disturbance.finish()
    (first, *_) = disturbance.problems
    assert first.startswith("event pause at replica 1, due at 0.1 s, was not carried out: ")
    assert disturbance.records[0]["skipped"].startswith("not carried out: ")
    faults.restart(pool.replicas[1])


def test_a_flush_under_load_is_done_at_once(pool: Pool) -> None:
    prompt, api = list(range(3, 203)), pool.replicas[0].api
    api.complete(prompt, 1)
    assert (api.complete(prompt, 1).cached_tokens or 0) > 100
    disturbance = Disturbance([Event(0.2, "flush", 0)], pool.replicas, time.monotonic(), ready_s=20.0)
    disturbance.start()
    api.complete(list(range(203, 240)), 100)
    disturbance.finish()
    (done,) = disturbance.done
    assert (done["action"], done["error"]) == ("flush", "")
    assert done["began_s"] < 1.0
    assert not api.complete(prompt, 1).cached_tokens
