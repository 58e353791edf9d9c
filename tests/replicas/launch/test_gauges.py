"""Both engines' metrics are read into the same numbers, and counters go on over a restart."""

from dataclasses import fields

import pytest

from replay.rows import ReplicaSample
from replicas.launch.gauges import Reading, SinceStart, engine_of, read
from replicas.launch.scrape import GaugeRow

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.625
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1.2e+06
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.79e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 800000.0
vllm:num_preemptions_total{engine="0",model_name="m"} 10.0
"""
SGLANG = """\
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 5.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0"} 2.0
sglang:token_usage{engine_type="unified",model_name="m",tp_rank="0"} 0.5
sglang:prompt_tokens_total{model_name="m"} 1000.0
sglang:cached_tokens_total{cache_source="device",model_name="m"} 300.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 50.0
sglang:num_retracted_reqs{model_name="m"} 1.0
sglang:num_retracted_requests_total{model_name="m"} 4.0
"""


def test_vllm() -> None:
    assert engine_of(VLLM) == "vllm"
    assert read(VLLM, "vllm") == Reading(7, 3, 0.625, 800_000, 1_200_000, 10)


def test_sglang_counts_cached_among_prompt_tokens_over_all_its_tiers() -> None:
    assert engine_of(SGLANG) == "sglang"
    assert read(SGLANG, "sglang") == Reading(5, 2, 0.5, 350, 1000, 4)


def test_ranks_add_up_and_their_kv_use_is_averaged() -> None:
    two = VLLM + VLLM.replace('engine="0"', 'engine="1"').replace("0.625", "0.125")
    assert read(two, "vllm") == Reading(14, 6, 0.375, 1_600_000, 2_400_000, 20)


def test_an_older_vllm_calls_its_cache_by_another_name() -> None:
    assert read(VLLM.replace("kv_cache_usage", "gpu_cache_usage"), "vllm").kv_used == 0.625


def test_a_missing_gauge_is_named_and_a_missing_counter_is_zero() -> None:
    few = "\n".join(line for line in SGLANG.splitlines() if "retracted" not in line)
    assert read(few, "sglang").preemptions == 0
    with pytest.raises(ValueError, match="no sglang:token_usage"):
        read(few.replace("token_usage", "x"), "sglang")
    assert engine_of("# nothing\nnginx_connections 3\n") is None


def test_counters_go_on_where_a_cold_replica_starts_again() -> None:
    def reading(hits: int, queries: int, preemptions: int) -> Reading:
        return Reading(0, 0, 0.0, hits, queries, preemptions)

    since = SinceStart(reading(100, 400, 2))
    assert since.counters(reading(130, 500, 2)) == (30, 100, 0)
    assert since.counters(reading(0, 4, 0)) == (30, 104, 0), "it died: 4 tokens since its new start"
    assert since.counters(reading(10, 50, 1)) == (40, 150, 1)
    assert since.counters(reading(0, 0, 0)) == (40, 150, 1)


def test_a_row_has_the_fields_of_a_sample() -> None:
    assert [f.name for f in fields(GaugeRow)] == [f.name for f in fields(ReplicaSample)]
