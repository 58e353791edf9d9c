"""What the rules of load, hash, session and fairness do to a pool of simulated engines: herding, fairness, affinity, pairs."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from replay.observation import ObservationRule
from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.rows import Attempt
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from replicas.view import Role
from tests.replay.scenes import cell, conversation, single_turns
from workloads.draws import generator
from workloads.request import Request, Segment
from workloads.workload import Phase, Workload

PAIRS: tuple[Role, ...] = ("prefill", "prefill", "decode", "decode")


def rows_of(workload: Workload, router: str, replicas: int = 4, age_s: float = 1.0, **more: Any) -> list[Attempt]:
    a_cell = replace(cell(router, replicas=replicas, **more), observation=ObservationRule(age_s=age_s))
    recorder = Recorder()
    profile = EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes)
    VirtualRun(a_cell, workload, profile, recorder).run()
    return recorder.attempts


def poisson(rate_rps: float, n: int, output_tokens: int = 64) -> Workload:
    gaps = generator(1, "test virtual").exponential(1 / rate_rps, n)
    return single_turns(gaps.cumsum().tolist(), output_tokens=output_tokens)


def ttft_s(rows: list[Attempt], quantile: float = 0.5) -> float:
    assert all(r.outcome == "ok" for r in rows)
    times = sorted((r.first_token_us - r.scheduled_us) / 1e6 for r in rows if r.first_token_us and r.scheduled_us is not None)
    return times[int(quantile * (len(times) - 1))]


SMALL = {"max_running": 8}


def test_old_news_makes_two_choices_herd() -> None:
    """The older the news, the longer everybody avoids who was full and floods who was empty (Mitzenmacher 2000)."""
    workload = poisson(38, 1000)
    worst = {
        age_s: ttft_s(rows_of(workload, "power_of_two_stale", age_s=age_s, changes=SMALL), 0.99) for age_s in (0.1, 1.0, 10.0)
    }
    own = ttft_s(rows_of(workload, "power_of_two", changes=SMALL), 0.99)
    drawn = ttft_s(rows_of(workload, "random", changes=SMALL), 0.99)
    assert own < worst[0.1] < drawn, "fresh news is worth having"
    assert 2 * drawn < worst[1.0] < worst[10.0], "news of a second is worse than none"


def test_credits_between_polls_keep_drain_time_from_herding() -> None:
    workload = poisson(38, 1000)
    credited, stale = (
        ttft_s(rows_of(workload, name, age_s=10.0, changes=SMALL), 0.99) for name in ("drain_time", "power_of_two_stale")
    )
    assert credited < 0.2 * stale


def workload_of(requests: tuple[Request, ...]) -> Workload:
    return Workload.of("made by hand", 1, (Phase("steady", 30.0, 1.0),), requests, {})


def two_tenants(flood: int, small: int) -> Workload:
    """Tenant 0 sends everything at once, tenant 1 one request every 100 ms."""
    flooding = [(0.0, 0)] * flood + [(0.1 + 0.1 * i, 1) for i in range(small)]
    requests = tuple(
        Request(i, i, 0, at_s, None, (Segment(1000 + i, 256),), 9_000_000 + i, 32, tenant)
        for i, (at_s, tenant) in enumerate(flooding)
    )
    return workload_of(requests)


@pytest.mark.parametrize("name", ["fair_vtc", "dlpm"])
def test_a_flood_of_one_tenant_does_not_delay_the_other(name: str) -> None:
    workload = two_tenants(flood=600, small=20)

    def delays(rows: list[Attempt]) -> tuple[float, float]:
        return ttft_s([r for r in rows if r.request_id >= 600]), ttft_s([r for r in rows if r.request_id < 600])

    unfair_small, unfair_flood = delays(rows_of(workload, "least_outstanding", replicas=1, changes={"max_running": 16}))
    fair_small, fair_flood = delays(rows_of(workload, name, replicas=1, changes={"max_running": 16}, cap=16))
    assert fair_small < 0.25 * unfair_small
    assert fair_flood < 1.3 * unfair_flood, "and the flood is hardly slower for it"


@pytest.mark.parametrize("name", ["sticky_least_sessions", "session_affinity", "rendezvous", "maglev", "dlpm"])
def test_a_conversation_stays_and_finds_its_history_cached(name: str) -> None:
    rows = rows_of(conversation(6), name)
    assert len({r.replica_id for r in rows}) == 1
    assert all(later.cached_tokens >= 0.7 * before.prompt_tokens for before, later in pairwise(rows))


def test_what_has_little_to_prefill_stays_and_long_prompts_are_pairs() -> None:
    short = rows_of(poisson(5, 60), "pd_conditional", roles=PAIRS, local_below_share=None)
    assert {r.prefill_id for r in short} == {None}
    assert Counter(r.replica_id in (2, 3) for r in short) == {True: 60}
    assert all(r.outcome == "ok" and r.prefilled_tokens and r.prefilled_tokens > 0 for r in short)
    long = rows_of(single_turns([0.5 * i for i in range(20)], prompt_tokens=4000), "pd_conditional", roles=PAIRS)
    assert {r.prefill_id for r in long} == {0, 1}
    assert all(r.outcome == "ok" for r in long)


def test_buckets_keep_short_prompts_off_the_replica_of_the_long_ones() -> None:
    sizes = ([200] * 40 + [6000]) * 12  # four sevenths of the tokens are in short prompts: a replica's share, and some more
    requests = tuple(
        Request(i, i, 0, 0.04 * i, None, (Segment(1000 + i, size),), 9_000_000 + i, 4, 0) for i, size in enumerate(sizes)
    )
    workload = workload_of(requests)
    halves: dict[str, Any] = {"prefill_policy": "bucket", "prefill_parameters": {"abs": 1_000_000}}
    rows = rows_of(workload, "pd_pair", roles=PAIRS, **halves)
    later = [r for r in rows if r.scheduled_us and r.scheduled_us > 5_100_000]  # the ranges have been cut
    assert {r.prefill_id for r in later if r.prompt_tokens == 6000} == {1}
    assert {r.prefill_id for r in later if r.prompt_tokens == 200} == {0}


def test_the_slo_rule_fills_one_replica_before_the_next_and_still_meets_the_slo() -> None:
    workload = poisson(100, 1500)
    rows = rows_of(workload, "slo_aware", ttft_s=0.4, tpot_s=0.1)
    counts = Counter(r.replica_id for r in rows)
    assert counts[0] > counts[3]
    assert ttft_s(rows, 0.95) < 0.4
    spread = rows_of(workload, "slo_aware", ttft_s=0.4, tpot_s=0.1, headroom="most")
    assert median(Counter(r.replica_id for r in spread).values()) == pytest.approx(375, rel=0.1)


def test_a_retry_after_a_timeout_leaves_no_request_in_the_books() -> None:
    client = RetryRule("retry", ttft_timeout_s=0.3, max_attempts=3, backoff_s=0.1)
    for name in ("least_tokens", "join_idle_queue", "session_affinity", "slo_aware", "fair_vtc", "dlpm"):
        a_cell = cell(name, replicas=2, client=client, changes={"max_running": 4})
        recorder = Recorder()
        profile = EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes)
        run = VirtualRun(a_cell, poisson(100, 300), profile, recorder)
        run.run()
        assert {r.outcome for r in recorder.attempts} > {"ok"}
        routers = getattr(run, "routers", None) or [run.router]
        for router in routers:
            policy = router.policy
            assert not getattr(policy, "_at", ())
            assert not len(getattr(policy, "_books", ()))
            predicted = getattr(policy, "_predicted", None)
            assert predicted is None or len(predicted.books) == 0
