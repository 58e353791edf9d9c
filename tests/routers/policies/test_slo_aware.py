"""slo_aware: the predictions, and which replica they lead to."""

from dataclasses import replace
from math import e, exp
from typing import Any

import pytest

from replicas.profile import EngineProfile, StepTime
from routers.books.recent_rate import RecentRate
from routers.forecasts.predicted_latency import PredictedLatency
from routers.policies import build_policy
from routers.policies.slo_aware import SloAware
from routers.policy import Decision, PolicyContext, TryEnd
from tests.routers.fake_driver import request, views

STEP = StepTime(base_s=0.01, prefill_base_s=0.002, prefill_s=1e-5, attention_s=1e-9, sequence_s=1e-4, kv_s=1e-7)
PROFILE = replace(
    EngineProfile.load("h100-vllm-llama8b"),
    step=STEP,
    max_batched_tokens=1000,
    max_running=10,
    kv_blocks=10_000,
    block_tokens=16,
    context_tokens=100_000,
    frontend_s=0.003,
    frontend_s_per_token=0.0,
    frontend_jitter_s=0.0,
)


def predicted(n: int = 2, expected_output: int = 100) -> PredictedLatency:
    return PredictedLatency(PROFILE, tuple(range(n)), expected_output)


def test_an_idle_replica_takes_its_steps_and_its_tokens() -> None:
    model = predicted()
    short, long = request(1, (1, 500)), request(2, (1, 2500))
    assert model.ttft_s(short, 500, views(2)) == pytest.approx([0.003 + 0.012 + 500 * (1e-5 + 1e-9 * 250)] * 2)
    assert model.ttft_s(long, 2500, views(2))[0] == pytest.approx(0.003 + 3 * 0.012 + 2500 * (1e-5 + 1e-9 * 1250))
    assert model.ttft_s(long, 500, views(2))[0] == pytest.approx(0.003 + 0.012 + 500 * (1e-5 + 1e-9 * 1250))  # 2,000 cached
    assert model.tpot_s(short, views(2)) == pytest.approx([0.01 + 1e-4 + 1e-7 * 500] * 2)


def test_queued_prefills_come_first_and_decodes_make_steps_longer() -> None:
    model, asked = predicted(), request(9, (9, 500))
    model.sent(request(1, (1, 800)), 1, 800, 0.0)
    queued_s = 0.003 + 2 * (0.012 + 1e-4) + 1300 * (1e-5 + 1e-9 * 250)  # 1,300 tokens: two steps, one sequence in each
    assert model.ttft_s(asked, 500, views(2))[1] == pytest.approx(queued_s)
    model.first_token(request(1, (1, 800)), 1, 0.1)
    context = 800 + 50  # and half of the 100 tokens expected
    decoding_s = 0.003 + 0.012 + 1e-4 + 1e-7 * context + 500 * (1e-5 + 1e-9 * 250)
    assert model.ttft_s(asked, 500, views(2))[1] == pytest.approx(decoding_s)
    model.ended(request(1, (1, 800)), 1, 0.2)
    assert model.ttft_s(asked, 500, views(2))[1] == model.ttft_s(asked, 500, views(2))[0]


def test_prefills_that_come_between_make_a_token_take_longer() -> None:
    """One prefill of 800 tokens in the last five seconds: 0.2 a second, and in a step of 20 ms with probability 0.4%."""
    model, asked = predicted(), request(9, (9, 500))
    model.sent(request(1, (1, 800)), 1, 800, 0.0)
    model.first_token(request(1, (1, 800)), 1, 0.0)
    decode_s = 0.01 + 1e-4 + 1e-7 * 850
    mixed_s = decode_s + 0.002 + 1e-5 * 800
    expected_s = decode_s + (1 - exp(-0.2 * mixed_s)) * (mixed_s - decode_s)
    assert model.tpot_s(asked, views(2))[1] == pytest.approx(expected_s + 1e-4 + 1e-7 * 500)
    model.ended(request(1, (1, 800)), 1, 1.0)
    assert model.tpot_s(asked, views(2))[1] == model.tpot_s(asked, views(2))[0]  # idle: nothing is known to come


def test_in_a_flood_of_prefills_every_step_holds_some_and_at_most_a_chunk() -> None:
    model = predicted()
    for rid in range(2000):  # 100 a second of 500 tokens: half of the time is prefill
        model.sent(request(rid, (rid, 500)), 0, 500, rid / 100)
        model.ended(request(rid, (rid, 500)), 0, rid / 100)
    model.sent(request(5000, (1, 500)), 0, 500, 20.0)
    step_s = 0.01 + 1e-4 + 0.002
    assert model._token_s.values[0] == pytest.approx(step_s / (1 - 0.5), rel=0.15)
    for rid in range(2000):  # 300 a second: more than it can do
        model.sent(request(rid, (rid, 500)), 1, 500, rid / 300)
        model.ended(request(rid, (rid, 500)), 1, rid / 300)
    model.sent(request(5001, (1, 500)), 1, 500, 20 / 3)
    assert model._token_s.values[1] == pytest.approx(step_s + 1e-5 * 1000, rel=0.05)


def test_rates_forget_exponentially() -> None:
    rate = RecentRate((0, 1), 5.0)
    for tenth in range(1000):
        rate.came(0, 3.0, tenth / 10)
    assert rate.per_s(0, 99.9) == pytest.approx(30.0, rel=0.02)
    assert rate.per_s(0, 104.9) == pytest.approx(30.0 / e, rel=0.02)
    rate.keep((1, 2))
    rate.came(0, 3.0, 105.0)  # it has left
    assert (rate.per_s(1, 105.0), rate.per_s(2, 105.0)) == (0.0, 0.0)


def test_a_full_batch_has_to_end_in_part_first() -> None:
    model = predicted()
    for rid in range(12):
        model.sent(request(rid, (rid, 10)), 0, 10, 0.0)
        model.first_token(request(rid, (rid, 10)), 0, 0.0)
    step_s = 0.01 + 1e-4 * 10 + 1e-7 * 12 * 60
    idle_s = model.ttft_s(request(99, (99, 10)), 10, views(2))[1]
    wait_s = model.ttft_s(request(99, (99, 10)), 10, views(2))[0] - idle_s - (step_s - 0.01)
    assert wait_s == pytest.approx(3 / 10 * 100 * step_s)  # three more than ten, of answers of 100 tokens


def test_full_memory_has_to_be_freed_first() -> None:
    model = predicted(expected_output=0)
    model.sent(request(1, (1, 200_000)), 0, 200_000, 0.0)
    assert model._once_s.values[0] == model._step_s.values[0]  # no output expected, no wait for one
    model = predicted()
    model.sent(request(1, (1, 200_000)), 0, 200_000, 0.0)
    assert model._once_s.values[0] - model._step_s.values[0] == pytest.approx(40_000 / 160_000 * 100 * (0.01 + 1e-4))


@pytest.mark.parametrize(
    ("scheduler", "settings", "chunk"),
    [
        ("vllm", {}, 1000),
        ("sglang", {}, 8192),
        ("sglang", {"chunked_prefill_size": 2048}, 2048),
        ("sglang", {"chunked_prefill_size": 0, "max_prefill_tokens": 4096}, 4096),
    ],
)
def test_the_chunk_is_the_schedulers(scheduler: str, settings: dict[str, Any], chunk: int) -> None:
    profile = replace(PROFILE, scheduler=scheduler, scheduler_settings=settings)
    assert PredictedLatency(profile, (0,), 100)._chunk == chunk


def slo_aware(n: int = 3, **parameters: object) -> SloAware:
    policy = build_policy("slo_aware", PolicyContext(1, tuple(range(n)), parameters, profile=PROFILE))
    assert isinstance(policy, SloAware)
    return policy


def burden(policy: SloAware, *prompts: tuple[int, int, bool]) -> None:
    """(replica, prompt tokens, decoding) of requests under way."""
    for rid, (replica_id, tokens, decoding) in enumerate(prompts, 1000):
        policy.on_sent(request(rid, (rid, tokens)), Decision(replica_id), 0.0)
        if decoding:
            policy.on_first_token(request(rid, (rid, tokens)), Decision(replica_id), 0.0)


# An idle replica gives this request a TTFT of 0.015 + 0.001 s; 10,000 tokens of backlog make it 0.24 s, 100,000: 2.2 s.
SMALL = request(1, (1, 100))


@pytest.mark.parametrize(
    ("under_way", "headroom", "chosen", "reason"),
    [
        ([], "least", 0, "feasible, least headroom"),
        ([(1, 10_000, False)], "least", 1, "feasible, least headroom"),  # the fullest that is feasible
        ([(1, 10_000, False)], "most", 0, "feasible, most headroom"),
        ([(1, 10_000, False), (2, 200_000, False)], "least", 1, "feasible, least headroom"),  # 2 is full, but not feasible
        ([(0, 200_000, False), (1, 10_000, False), (2, 200_000, False)], "most", 1, "feasible, most headroom"),
    ],
)
def test_the_fullest_feasible_replica_is_chosen(
    under_way: list[tuple[int, int, bool]], headroom: str, chosen: int, reason: str
) -> None:
    policy = slo_aware(headroom=headroom)
    burden(policy, *under_way)
    decision = policy.choose(SMALL, views(3), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


@pytest.mark.parametrize(
    ("under_way", "slo", "chosen", "reason"),
    [
        ([(0, 100, True)], {"ttft_s": 0.0}, 1, "none feasible: idle"),
        ([(i, 200_000 + i, False) for i in (2, 1, 0)], {}, 0, "none feasible: TTFT least missed"),
        # TPOT alone is missed at 1 (500,000 tokens of context): better than a missed TTFT at 0 and 2
        (
            [(0, 200_000, False), (1, 500_000, True), (2, 200_000, False)],
            {"expected_output_tokens": 0},
            1,
            "none feasible: TPOT least missed",
        ),
        ([(i, 600_000 - i, True) for i in range(3)], {"ttft_s": 0.01}, 2, "none feasible: both least missed"),
    ],
)
def test_with_none_feasible_the_least_bad_group_goes_first(
    under_way: list[tuple[int, int, bool]], slo: dict[str, Any], chosen: int, reason: str
) -> None:
    policy = slo_aware(**slo)
    burden(policy, *under_way)
    decision = policy.choose(SMALL, views(3), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


def test_only_eligible_ones_and_the_scores_are_the_predictions() -> None:
    policy = slo_aware()
    burden(policy, (1, 10_000, False))
    decision = policy.choose(SMALL, [v for v in views(3) if v.replica_id != 1], 0.0)
    assert decision.replica_id == 0
    assert decision.scores == (policy._predicted.ttft_s(SMALL, 100, views(3))[0], policy._predicted.tpot_s(SMALL, views(3))[0])


def test_all_is_forgotten_at_the_end_and_when_a_replica_leaves() -> None:
    policy = slo_aware()
    burden(policy, (0, 100, False), (1, 100, True), (2, 100, True))
    policy.on_pool((0, 1, 5), 1.0)
    for rid, replica_id in ((1000, 0), (1001, 1), (1002, 2)):
        policy.on_end(request(rid), Decision(replica_id), TryEnd(False, 0, replica_id, 1), 1.0)
    books = policy._predicted.books
    assert len(books) == 0
    assert all(v == 0 for tally in (books.tokens, books.sequences, books.prefill_tokens) for v in tally.values)
    assert policy._predicted._token_s.values == [0.01] * 3


def test_it_needs_a_profile() -> None:
    with pytest.raises(ValueError, match="slo_aware: it predicts from an engine profile"):
        build_policy("slo_aware", PolicyContext(1, (0, 1)))
