"""A served vLLM on a CPU and our model configured alike, on the same small scenarios."""

import time
from collections.abc import Iterator

import pytest

from replicas.engine import Engine
from replicas.sequence import Sequence
from replicas.served import ServedReplica
from tests.engines.launch import RealEngine
from tests.engines.metric_series import series
from tests.engines.scenario import Job, ModelRun, Scenario, tokens_of
from tests.engines.stream import Stream, stalls, token_ids
from tests.engines.vllm_server import BLOCK_TOKENS, CONTEXT_TOKENS, KV_TOKENS, forget_prefixes, send_together
from tests.replicas.served_client import Client, serving
from workloads.request import Prompt, Segment

pytestmark = pytest.mark.engine

USABLE_BLOCKS = KV_TOKENS // BLOCK_TOKENS - 1  # one is the null block
STALL_TOKENS = 100


@pytest.fixture(autouse=True)
def cold(real_vllm: RealEngine) -> Iterator[None]:
    yield
    forget_prefixes(real_vllm)


def scenario(*jobs: Job) -> Scenario:
    return Scenario(jobs, BLOCK_TOKENS, USABLE_BLOCKS, 8, 512, CONTEXT_TOKENS)


def sent_together(engine: RealEngine, jobs: tuple[Job, ...]) -> list[Stream]:
    """All jobs from the same step on, until all have ended."""
    streams = send_together(engine, [{"prompt": tokens_of(j), "max_tokens": j.output_tokens} for j in jobs])
    return [stream.wait() for stream in streams]


def sent_in_turn(engine: RealEngine, jobs: tuple[Job, ...]) -> list[Stream]:
    """One after another; a segment that is an earlier reply holds the tokens that really came."""
    replies: dict[int, list[int]] = {}
    streams = []
    for job in jobs:
        streams.append(Stream(engine.url, tokens_of(job, replies), job.output_tokens, return_token_ids=True).wait())
        replies[job.reply_id] = streams[-1].reply
        assert len(streams[-1].reply) == job.output_tokens
    return streams


def in_turn(*pairs: tuple[tuple[tuple[int, int], ...], int]) -> tuple[Job, ...]:
    return tuple(
        Job(segments, 1000 + i, output, 1 if i else 0, i - 1 if i else None) for i, (segments, output) in enumerate(pairs)
    )


# Prefix cache -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [31, 32, 33, 64, 65, 128, 129])
def test_a_repeated_prompt_is_cached_in_whole_blocks_but_for_its_last_token(prompt: int, real_vllm: RealEngine) -> None:
    jobs = in_turn((((1, prompt),), 1), (((1, prompt),), 1))
    cached = [s.cached_tokens for s in sent_in_turn(real_vllm, jobs)]
    assert cached == ModelRun(scenario(*jobs)).run().cached
    assert cached == [0, (prompt - 1) // BLOCK_TOKENS * BLOCK_TOKENS]


@pytest.mark.parametrize("shared", [96, 100, 127])
def test_a_shared_half_is_cached_in_whole_blocks(shared: int, real_vllm: RealEngine) -> None:
    jobs = in_turn((((1, shared), (2, 64)), 1), (((1, shared), (3, 64)), 1))
    cached = [s.cached_tokens for s in sent_in_turn(real_vllm, jobs)]
    assert cached == ModelRun(scenario(*jobs)).run().cached == [0, 96]


@pytest.mark.parametrize(("prompt", "reply"), [(100, 60), (100, 61), (96, 1), (96, 32), (96, 33), (7, 25), (7, 26)])
def test_the_next_turn_finds_the_prompt_and_the_reply_but_for_its_last_token(
    prompt: int, reply: int, real_vllm: RealEngine
) -> None:
    jobs = in_turn((((1, prompt),), reply), (((1, prompt), (1000, reply), (2, 50)), 1))
    cached = [s.cached_tokens for s in sent_in_turn(real_vllm, jobs)]
    assert cached == ModelRun(scenario(*jobs)).run().cached
    assert cached[1] == (prompt + reply - 1) // BLOCK_TOKENS * BLOCK_TOKENS


def test_the_least_recently_used_prefix_is_evicted_first(real_vllm: RealEngine) -> None:
    """Four prompts want 136 blocks and 127 are there: which prefixes survive, and how much of them."""
    order = (1, 2, 3, 1, 4, 3, 1, 2)
    jobs = in_turn(*((((content, 1057),), 1) for content in order))
    cached = [s.cached_tokens for s in sent_in_turn(real_vllm, jobs)]
    assert cached == ModelRun(scenario(*jobs)).run().cached
    assert 0 < (cached[-1] or 0) < 1056, "something was evicted, and not all"


# Scheduling ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "prompt", "output"),
    [(4, 512, 700), (6, 300, 500), (3, 1000, 600)],
)
def test_as_many_are_preempted_and_the_same_ones_at_the_same_token(
    number: int, prompt: int, output: int, real_vllm: RealEngine
) -> None:
    jobs = tuple(Job(((1 + n, prompt),), 1000 + n, output) for n in range(number))
    before = real_vllm.metric("vllm:num_preemptions_total")
    streams = sent_together(real_vllm, jobs)
    model = ModelRun(scenario(*jobs)).run()
    assert [s.tokens[-1][1] for s in streams] == [output] * number
    assert real_vllm.metric("vllm:num_preemptions_total") - before == model.preemptions[-1] > 0
    for n, stream in enumerate(streams):
        at = stalls(stream, [s for s in streams if s is not stream], STALL_TOKENS)
        assert at == model.stalls(n, output, STALL_TOKENS), n


def test_places_are_given_first_come_first_served(real_vllm: RealEngine) -> None:
    """Eight places that free one by one, 40 steps apart: the waiting ones begin in the order in which they came."""
    jobs = tuple(Job(((1 + n, 40),), 1000 + n, 40 + 40 * n if n < 8 else 200) for n in range(12))
    streams = sent_together(real_vllm, jobs)
    model = ModelRun(scenario(*jobs)).run()
    first = [next(k for k, g in enumerate(model.generated) if g[n]) for n in range(12)]
    assert first[:8] == [0] * 8
    came_first = sorted(range(8, 12), key=lambda n: streams[n].first_token_s)
    assert came_first == sorted(range(8, 12), key=lambda n: first[n]) == [8, 9, 10, 11]
    assert min(s.first_token_s for s in streams[8:]) > max(s.first_token_s for s in streams[:8])


def test_a_hang_up_frees_the_place_at_once(real_vllm: RealEngine) -> None:
    streams = send_together(real_vllm, [{"prompt": token_ids(n, 40), "max_tokens": 450 if n < 8 else 3} for n in range(9)])
    streams[0].wait_tokens(50)
    assert not streams[8].tokens
    began_s = time.monotonic()
    streams[0].hang_up()
    streams[8].wait()
    assert streams[8].first_token_s - began_s < 0.5
    assert all(s.tokens_at(streams[8].first_token_s) < 450 for s in streams[1:8]), "nobody else had left"
    for stream in streams[1:8]:
        stream.hang_up()


# Limits -------------------------------------------------------------------------------------------------------------------


def test_the_queue_limit_counts_all_in_flight(real_vllm: RealEngine) -> None:
    """`--max-num-queued-reqs 12`: twelve are taken in, running and waiting together; three are told 503."""
    streams = [s.wait() for s in send_together(real_vllm, [{"prompt": token_ids(n, 40), "max_tokens": 5} for n in range(15)])]
    codes = [int((s.error or {}).get("code") or (s.error or {}).get("error", {}).get("code") or 200) for s in streams]
    assert codes == [200] * 12 + [503] * 3
    assert real_vllm.metric("vllm:admission_rejections_total", reason="max_num_queued_reqs") >= 3


@pytest.mark.parametrize(("prompt", "asked", "status"), [(2000, 500, 200), (2047, 5, 200), (2048, 1, 400), (2060, 1, 400)])
def test_an_output_is_clamped_to_the_context_and_a_full_prompt_refused(
    prompt: int, asked: int, status: int, real_vllm: RealEngine
) -> None:
    stream = Stream(real_vllm.url, token_ids(prompt, prompt), asked).wait()
    engine = Engine(scenario().profile())
    sequence = Sequence(0, Prompt.of((Segment(1, prompt),)), 2, asked)
    assert (stream.status, engine.submit(sequence, 0.0)) == (status, status)
    if status == 200:
        assert stream.usage["completion_tokens"] == sequence.output_tokens == CONTEXT_TOKENS - prompt
        assert stream.finish_reason == "length"


def test_an_error_inside_a_stream_comes_as_an_event_after_http_200(real_vllm: RealEngine) -> None:
    """What the API server finds out after it began to answer (here a token that is not in the vocabulary)."""
    stream = Stream(real_vllm.url, [5000], 3).wait()
    assert (stream.status, stream.error is not None and stream.error["code"], stream.done_seen) == (200, 400, True)


def test_our_metrics_are_vllms_with_the_same_bounds(real_vllm: RealEngine) -> None:
    found: list[str] = []

    async def ask(replica: ServedReplica, client: Client) -> None:
        found.append((await client.ask("GET", "/metrics")).body.decode())

    serving(ask, scenario().profile(), flavour="vllm")
    Stream(real_vllm.url, token_ids(1, 40), 3).wait()
    known = series(real_vllm.get("/metrics"))
    mine = {name: bounds for name, bounds in series(found[0]).items() if name.startswith("vllm:")}
    assert set(mine) <= set(known)
    assert {name: (bounds, known[name]) for name, bounds in mine.items() if bounds != known[name]} == {}
