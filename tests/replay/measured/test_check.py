"""What a live pool cannot do is said in one line each, before anything starts."""

from typing import Any

import pytest

from replay.cell import Named
from replay.measured.check import check_arm, check_events
from replay.observation import ObservationRule
from workloads.events import Event

PLAIN = ObservationRule()


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (
            Event(3.0, "slow", 0, for_s=1.0),
            "events[0] (slow at 3 s): cannot be done to a real engine; allowed on a live pool: kill",
        ),
        (Event(3.0, "refuse", for_s=1.0), "(refuse at 3 s): cannot be done"),
        (Event(3.0, "blackout", for_s=1.0), "(blackout at 3 s): cannot be done"),
        (Event(3.0, "kill", 2, for_s=1.0), "replica_id is 2; allowed: 0 to 1, or null for every replica"),
    ],
)
def test_events_that_cannot_be_done(event: Event, problem: str) -> None:
    (found,) = check_events([event], replicas=2)
    assert problem in found


def test_a_remote_pools_processes_are_not_touched() -> None:
    events = [Event(1.0, "kill", 0, for_s=1.0), Event(3.0, "pause", for_s=1.0), Event(5.0, "flush")]
    assert check_events(events, 2) == []
    assert [text.split(":")[0] for text in check_events(events, 2, launched=False)] == [
        "events[0] (kill at 1 s)",
        "events[1] (pause at 3 s)",
    ]


def test_a_replica_is_hurt_in_one_way_at_a_time() -> None:
    kill, pause = Event(1.0, "kill", 0, for_s=3.0), Event(2.0, "pause", for_s=1.0)
    (found,) = check_events([pause, kill], 2)
    assert "events[0] (pause at 2 s) comes before events[1] (kill) is over at 4 s" in found
    assert check_events([Event(2.0, "pause", 1, for_s=1.0), kill], 2) == []
    assert check_events([Event(4.0, "pause", 0, for_s=1.0), kill], 2) == []


@pytest.mark.parametrize(
    ("router", "others", "problem"),
    [
        (Named("oracle", "o"), {}, "oracle"),
        (Named("nonsense", "n"), {}, "nonsense"),
        (Named("kv_cost", "k", {"index": "exact"}), {"profile": "h100-vllm-llama8b"}, "listens to KV events"),
        (Named("random", "r", arm="bare"), {}, "only a gateway has arms"),
        (Named("random", "r"), {"guards": [Named("nonsense", "n")]}, "nonsense"),
        (Named("random", "r"), {"observation": ObservationRule(loss=0.5)}, "observation.loss is 0.5; allowed on a live pool: 0"),
        (Named("random", "r"), {"observation": ObservationRule(routers=2)}, "observation.routers is 2"),
        (Named("round_robin", "d", gateway="direct"), {"guards": [Named("retry", "r")]}, "only our own router has guards"),
        (Named("round_robin", "d", gateway="direct"), {"roles": ("prefill", "decode")}, "need a router that pairs them"),
        (Named("lmetric", "g", gateway="nginx"), {}, "nginx: policy = 'lmetric' is not allowed; it must be one of"),
        (Named("random", "g", gateway="nowhere"), {}, "unknown gateway 'nowhere'"),
        (Named("random", "g", gateway="nginx", arm="naked"), {}, "arm"),
        (Named("pd_pair", "p"), {"roles": ("decode", "prefill")}, "prefill replicas come before decode replicas"),
    ],
)
def test_arms_that_cannot_be(router: Named, others: dict[str, Any], problem: str) -> None:
    (found,) = check_arm(router, others.pop("guards", ()), others.pop("observation", PLAIN), **others)
    assert problem in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "router",
    [
        Named("consistent_hash", "c"),
        Named("round_robin", "d", gateway="direct"),
        Named("cache_aware", "s", {"cache_threshold": 0.5}, gateway="sglang_router", arm="bare"),
        Named("round_robin", "n", gateway="nginx"),
    ],
)
def test_arms_that_can(router: Named) -> None:
    assert check_arm(router, (), PLAIN) == []
