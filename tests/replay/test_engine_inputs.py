"""What the virtual-time driver tells its engines beyond prompts and lengths, and what it makes of their answers."""

from dataclasses import replace
from typing import Any

import pytest

from replay.cell import Cell
from replay.rows import Attempt
from tests.replay.scenes import cell, conversation, single_turns
from tests.replay.test_virtual import replayed
from workloads.workload import Workload


def pair(**changes: Any) -> Cell:
    """One replica that prefills and one that decodes."""
    return cell("pd_pair", roles=("prefill", "decode"), changes=changes)


def seconds(us: int | None) -> float:
    assert us is not None
    return us / 1e6


@pytest.mark.parametrize("scheduler", ["vllm", "sglang", "orca", "sarathi"])
def test_every_flavour_replays_a_conversation(scheduler: str) -> None:
    changes = {"scheduler": scheduler, "block_tokens": 16, "kv_blocks": 30_000}
    rows, run = replayed(cell(changes=changes, replicas=1), conversation(4))
    assert [r.outcome for r in rows] == ["ok"] * 4
    hits = [r.cached_tokens for r in rows]
    assert hits == ([0, 0, 0, 0] if scheduler in ("orca", "sarathi") else sorted(hits))
    assert (hits[-1] > 0) == (scheduler in ("vllm", "sglang"))
    assert run.engines[0].cache.used == pytest.approx(0.0)


def test_latency_and_tokens_of_a_transfer_are_in_the_first_token() -> None:
    firsts = []
    variants: tuple[dict[str, float], ...] = ({}, {"kv_transfer_latency_s": 0.25}, {"kv_transfer_s_per_token": 0.001})
    for changes in variants:
        rows, _ = replayed(pair(**changes), single_turns([0.0], prompt_tokens=256))
        firsts.append(seconds(rows[0].first_token_us))
    assert firsts[1] - firsts[0] == pytest.approx(0.25, abs=1e-5)
    assert firsts[2] - firsts[0] == pytest.approx(0.256, abs=1e-5)


def test_the_decode_side_frees_what_the_prefill_side_keeps() -> None:
    rows, run = replayed(pair(kv_pin_timeout_s=480.0, kv_transfer_latency_s=0.5), single_turns([0.0, 0.1, 0.2]))
    assert [r.outcome for r in rows] == ["ok"] * 3
    assert [e.pinned for e in run.engines] == [0, 0]
    assert [e.cache.used for e in run.engines] == [0.0, 0.0]


def starving(pin_timeout_s: float) -> list[Attempt]:
    """Two prompts fill the prefill side; the decode side, busy fetching the first, refuses the others: their KV is dead."""
    pool = pair(kv_blocks=512, context_tokens=8192, kv_pin_timeout_s=pin_timeout_s, max_queued=1, kv_transfer_latency_s=30.0)
    rows, _ = replayed(pool, single_turns([0.0, 2.0, 4.0], prompt_tokens=2800))
    return rows


@pytest.mark.parametrize(("pin_timeout_s", "third_s"), [(0.0, 4.1), (20.0, 20.2)])
def test_the_kv_of_dead_requests_starves_the_prefill_side_until_its_timeout(pin_timeout_s: float, third_s: float) -> None:
    rows = starving(pin_timeout_s)
    assert [(r.outcome, r.status) for r in rows] == [("ok", 200)] + [("refused", 503)] * 2
    assert seconds(rows[1].engine_ended_us) == pytest.approx(2.1, abs=0.1)
    assert seconds(rows[2].engine_ended_us) == pytest.approx(third_s, abs=0.1)  # refused by the decode side once prefilled


def test_who_waits_too_long_in_the_engine_is_refused() -> None:
    changes = {"max_running": 1, "queue_timeout_s": 0.5}
    rows, run = replayed(cell(changes=changes, replicas=1), single_turns([0.0, 0.1], output_tokens=400))
    assert [(r.outcome, r.status, r.error) for r in rows] == [("ok", 200, ""), ("refused", 503, "engine queue timeout")]
    assert run.engines[0].counters.queue_timeouts == 1


def test_tenants_are_priorities_where_the_engine_has_them() -> None:
    workload = single_turns([0.0, 0.01, 0.02], output_tokens=50)
    requests = tuple(replace(r, tenant=t) for r, t in zip(workload.requests, (0, 2, 1), strict=True))
    firsts = {}
    for policy in ("fcfs", "priority"):
        changes = {"max_running": 1, "scheduler_settings": {"policy": policy}}
        rows, _ = replayed(cell(changes=changes, replicas=1), Workload.of("three", 1, workload.phases, requests, {}))
        firsts[policy] = [r.request_id for r in sorted(rows, key=lambda r: r.first_token_us or 0)]
    assert firsts == {"fcfs": [0, 1, 2], "priority": [0, 2, 1]}


def test_orca_reserves_what_the_client_asks_for_at_most() -> None:
    a_cell = replace(cell(replicas=1, changes={"scheduler": "orca", "kv_blocks": 600, "context_tokens": 9600}), max_tokens=4000)
    rows, _ = replayed(a_cell, single_turns([0.0, 0.01, 0.02], output_tokens=50))
    ends = sorted(seconds(r.ended_us) for r in rows)
    firsts = sorted(seconds(r.first_token_us) for r in rows)
    assert firsts[1] < ends[0] < firsts[2]  # two of 266 blocks each fit into 600, for 19 blocks of use
