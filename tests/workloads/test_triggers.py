"""What each kind of trigger adds to the load, and which triggers are events of the pool instead."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.workloads.traces import chat, trace_of
from workloads.events import Event
from workloads.request import Request
from workloads.synthesis import Plan, synthesize
from workloads.trace import load_trace
from workloads.trace_table import Trace
from workloads.triggers import TRIGGERS, check_trigger, trigger_words
from workloads.workload import Workload


@pytest.fixture(scope="module")
def synthetic() -> Trace:
    return load_trace("synthetic")


def made(trace: Trace, load_rps: float = 20.0, seed: int = 3, **trigger: Any) -> Workload:
    return synthesize(trace, Plan(trigger={"d_s": 20.0, **trigger}), load_rps, seed)


def extras(workload: Workload) -> list[Request]:
    added = workload.provenance["trigger_sessions"]
    assert isinstance(added, int)
    return list(workload.requests[len(workload.requests) - added :])


def base(workload: Workload) -> tuple[Request, ...]:
    return workload.requests[: len(workload.requests) - len(extras(workload))]


@pytest.mark.parametrize(
    "trigger",
    [
        {"kind": "spike", "k": 2.5},
        {"kind": "long_prompts", "share": 0.5},
        {"kind": "session_stampede"},
        {"kind": "tenant_hotspot", "k": 2.0},
        {"kind": "kill", "replica_id": 0},
    ],
    ids=lambda t: str(t["kind"]),
)
def test_the_base_load_is_the_placebos_whatever_the_trigger(trigger: dict[str, Any], synthetic: Trace) -> None:
    assert base(made(synthetic, **trigger)) == made(synthetic, kind="placebo").requests


def test_long_prompts_come_at_their_share_of_the_load_each_with_its_own_content(synthetic: Trace) -> None:
    workload = made(synthetic, load_rps=40.0, kind="long_prompts", share=0.5, prompt_tokens=30_000, output_tokens=8)
    added = extras(workload)
    assert len(added) == pytest.approx(0.5 * 40 * 20, abs=4 * 20)
    assert {(r.prompt_tokens, r.output_tokens) for r in added} == {(30_000, 8)}
    assert len({s.content_id for r in added for s in r.segments}) == len(added)
    assert all(60 <= (r.arrival_s or 0) < 80 for r in added)
    assert workload.phases[2].load_rps == 60.0


def test_in_a_session_stampede_every_live_session_sends_its_latest_turn_again() -> None:
    """Two sessions a thousand seconds long, one that ended long ago: two are alive when it strikes."""
    long = [chat(n, *((10, 10),) * 11, think_s=100.0) for n in ("a", "b")]
    plan = Plan(
        arrival={"process": "constant"},
        warmup_s=400,
        steady_s=100,
        recovery_s=0,
        trigger={"kind": "session_stampede", "copies": 3, "spread_s": 2.0, "d_s": 20.0},
        stationary_start=False,
    )
    workload = synthesize(trace_of(*long), plan, 0.05, 1)
    added = extras(workload)
    assert all(500 <= (r.arrival_s or 0) < 502 for r in added)
    sent = {r.reply_id: r for r in base(workload)}
    again = Counter(r.reply_id for r in added)
    assert set(again.values()) == {3}
    assert all(sent[r.reply_id].segments == r.segments for r in added)
    begun = {r.session_id for r in base(workload) if r.arrival_s is not None and r.arrival_s < 500}
    assert {sent[reply].session_id for reply in again} == begun


def test_a_hot_tenant_sends_all_of_the_extra(synthetic: Trace) -> None:
    workload = made(synthetic, kind="tenant_hotspot", k=3.0)
    added = extras(workload)
    most = Counter({t: int(synthetic.turns[synthetic.tenant == t].sum()) for t in set(synthetic.tenant.tolist())})
    assert {r.tenant for r in added} == {most.most_common(1)[0][0]}
    assert len(added) == pytest.approx(2 * 20 * 20, abs=4 * 28)
    assert {r.tenant for r in extras(made(synthetic, kind="tenant_hotspot", k=3.0, tenant=5))} == {5}
    with pytest.raises(ValueError, match=r"trigger\.tenant is 99999; the trace 'synthetic' has no usable turn of it"):
        made(synthetic, kind="tenant_hotspot", k=3.0, tenant=99_999)


def test_a_hot_tenant_needs_tenants() -> None:
    with pytest.raises(ValueError, match="names fewer than two tenants: use spike"):
        made(trace_of(chat("a", (1, 1)), chat("b", (1, 1))), kind="tenant_hotspot")


def test_the_turns_of_a_spike_share_nothing_but_system_prompts(synthetic: Trace) -> None:
    """Not even two turns of one session, whose histories would warm each other."""
    seen: set[int] = set()
    for request in extras(made(synthetic, 40.0, kind="spike", k=10.0)):
        own = {s.content_id for s in request.segments[1:]}
        assert not own & seen
        seen |= own


def test_a_trigger_of_the_pool_is_an_event_that_lasts_as_long_as_its_phase(synthetic: Trace) -> None:
    workload = made(synthetic, kind="slow", factor=4.0, replica_id=1)
    assert workload.events == (Event(60.0, "slow", 1, 20.0, factor=4.0),)
    assert workload.phases[2].load_rps == 20.0
    assert made(synthetic, kind="flush").events == (Event(60.0, "flush"),)


def test_events_stand_in_time_order_with_the_trigger() -> None:
    events: tuple[dict[str, Any], ...] = ({"at_s": 90, "kind": "flush"}, {"at_s": 5.0, "kind": "pause", "for_s": 2.0})
    plan = Plan(trigger={"kind": "kill", "d_s": 10.0}, events=events)
    assert [(e.at_s, e.kind) for e in plan.pool_events()] == [(5.0, "pause"), (60.0, "kill"), (90.0, "flush")]


@pytest.mark.parametrize("kind", TRIGGERS)
def test_every_kind_can_be_said_in_words(kind: str) -> None:
    words = trigger_words(check_trigger({"kind": kind}))
    assert "{" not in words
    assert words == trigger_words(check_trigger(check_trigger({"kind": kind})))


BAD = [
    ({"kind": "spik"}, "trigger.kind is 'spik'; allowed: placebo, spike, long_prompts"),
    ({"kind": "spike", "k": 0.5}, "trigger.k is 0.5; expected ≥ 1 and ≤ 1000"),
    ({"kind": "spike", "k": None}, "trigger.k is None; expected a number"),
    ({"kind": "spike", "width": 2}, "trigger.width is no parameter of 'spike'; allowed: d_s, k"),
    ({"kind": "placebo", "d_s": -1}, "trigger.d_s is -1; expected ≥ 0"),
    ({"kind": "placebo", "d_s": "long"}, "trigger.d_s is 'long'; expected a number"),
    ({"kind": "long_prompts", "prompt_tokens": 2.5}, "trigger.prompt_tokens is 2.5; expected a whole number"),
    ({"kind": "refuse", "status": 500}, "trigger.status is 500; allowed: 429 or 503"),
    ({"kind": "session_stampede", "spread_s": 30}, "trigger.spread_s is 30; expected at most d_s = 20"),
    ({"kind": "kill", "k": 3}, "trigger.k is no key of 'kill'"),
]


@pytest.mark.parametrize(("trigger", "said"), BAD)
def test_bad_triggers_are_named(trigger: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_trigger(trigger)


def test_a_spike_is_poisson_in_time(synthetic: Trace) -> None:
    times = np.concatenate([[r.arrival_s or 0 for r in extras(made(synthetic, 60.0, s, kind="spike", k=5.0))] for s in range(4)])
    counts = np.histogram(times, bins=np.linspace(60, 80, 21))[0]
    assert counts.mean() == pytest.approx(4 * 4 * 60, rel=0.05)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=1.2)
