"""Every flavour does what its naive reference does, on random workloads: same times, tokens, hits, preemptions, memory."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.profile import EngineProfile
from tests.replicas.reference_engine import Job
from tests.replicas.reference_paged import OrcaReference, SarathiReference
from tests.replicas.reference_sglang import SglangReference
from tests.replicas.test_engine_against_reference import compare, crowds, profiles, workloads

EXAMPLES = 300


@st.composite
def promises(draw: st.DrawFn, jobs: list[Job]) -> list[Job]:
    """The same jobs, with a priority, and asking for more tokens than they will get."""
    for job in jobs:
        job.priority = draw(st.sampled_from([0, 0, 1, 2]))
        job.max_tokens = job.output_tokens + draw(st.sampled_from([0, 0, 1, 7, 30]))
    return jobs


@st.composite
def cases(draw: st.DrawFn) -> tuple[EngineProfile, list[Job]]:
    """Sessions with shared prefixes, or a crowd that is short of memory."""
    profile, jobs = draw(st.one_of(st.tuples(profiles(), workloads()), crowds()))
    return profile, draw(promises(jobs))


def with_scheduler(profile: EngineProfile, name: str, spare_blocks: int = 0, **chosen: object) -> EngineProfile:
    """`spare_blocks` more blocks than drawn: what a flavour needs beyond one full context."""
    return replace(profile, scheduler=name, scheduler_settings=chosen, kv_blocks=profile.kv_blocks + spare_blocks)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    case=cases(),
    policy=st.sampled_from(["fcfs", "priority"]),
    threshold=st.sampled_from([0, 1, 5, 16]),
    whole=st.booleans(),
    watermark=st.sampled_from([0.0, 0.0, 0.2]),
)
def test_vllm_with_all_its_settings(
    case: tuple[EngineProfile, list[Job]], policy: str, threshold: int, whole: bool, watermark: float
) -> None:
    profile, jobs = case
    chosen: dict[str, object] = {
        "long_prefill_token_threshold": threshold,
        "whole_prompt_must_fit": whole,
        "watermark": watermark,
    }
    compare(replace(profile, scheduler="vllm", scheduler_settings={"policy": policy, **chosen}), jobs)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(case=cases())
def test_orca(case: tuple[EngineProfile, list[Job]]) -> None:
    profile, jobs = case
    compare(with_scheduler(profile, "orca"), jobs, OrcaReference)


@settings(max_examples=EXAMPLES // 2, deadline=None, derandomize=True)  # it can preempt in every step, which takes its time
@given(case=cases(), watermark=st.sampled_from([0.0, 0.01, 0.2]))
def test_sarathi(case: tuple[EngineProfile, list[Job]], watermark: float) -> None:
    profile, jobs = case
    spare = 1 + int(watermark * profile.kv_blocks * 1.5)
    compare(with_scheduler(profile, "sarathi", spare, watermark=watermark), jobs, SarathiReference)


SGLANG = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["fcfs", "lpm"]),
        "chunked_prefill_size": st.sampled_from([0, 16, 40, 8192]),
        "max_prefill_tokens": st.sampled_from([30, 16384]),
        "init_new_token_ratio": st.sampled_from([0.0, 0.1, 0.7]),
        "new_token_ratio_decay_steps": st.sampled_from([3, 600]),
        "retract_decode_steps": st.sampled_from([0, 2, 20]),
        "clip_max_new_tokens": st.sampled_from([6, 4096]),
        "ignore_eos": st.booleans(),
    }
)


def sglang_profile(profile: EngineProfile, page: int, chosen: dict[str, object]) -> EngineProfile:
    tokens = profile.kv_blocks * profile.block_tokens
    pages = max(tokens // page, -(-(profile.context_tokens + page) // page))
    return replace(profile, scheduler="sglang", scheduler_settings=chosen, block_tokens=page, kv_blocks=pages)


@settings(max_examples=2 * EXAMPLES, deadline=None, derandomize=True)
@given(case=cases(), page=st.sampled_from([1, 1, 4]), chosen=SGLANG)
def test_sglang(case: tuple[EngineProfile, list[Job]], page: int, chosen: dict[str, object]) -> None:
    profile, jobs = case
    compare(sglang_profile(profile, page, chosen), jobs, SglangReference)
