"""A served SGLang on a CPU and our model of it configured alike, on the same small scenarios."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from replicas.engine import Engine
from replicas.profile import EngineProfile
from replicas.sequence import Sequence
from replicas.served import ServedReplica
from tests.engines.launch import RealEngine
from tests.engines.metric_series import series
from tests.engines.scenario import Job, ModelRun, Scenario, tokens_of
from tests.engines.sglang_server import (
    CHUNK_TOKENS,
    CONSERVATIVENESS,
    CONTEXT_TOKENS,
    KV_TOKENS,
    MAX_QUEUED,
    MAX_RUNNING,
    forget_prefixes,
    send_together,
    stream_of,
)
from tests.engines.stream import Stream, stalls, token_ids
from tests.replicas.served_client import Client, serving
from workloads.request import Prompt, Segment

pytestmark = pytest.mark.engine

STALL_TOKENS = 100


@pytest.fixture(autouse=True)
def cold(real_sglang: RealEngine) -> Iterator[None]:
    yield
    forget_prefixes(real_sglang)


def scenario(*jobs: Job) -> Scenario:
    return Scenario(jobs, 1, KV_TOKENS, MAX_RUNNING, CHUNK_TOKENS, CONTEXT_TOKENS)


def profile(policy: str = "fcfs") -> EngineProfile:
    settings = {"policy": policy, "chunked_prefill_size": CHUNK_TOKENS, "schedule_conservativeness": CONSERVATIVENESS}
    return scenario().profile(scheduler="sglang", scheduler_settings=settings, max_queued=MAX_QUEUED)


def in_turn(*pairs: tuple[tuple[tuple[int, int], ...], int]) -> tuple[Job, ...]:
    return tuple(
        Job(segments, 1000 + i, output, 1 if i else 0, i - 1 if i else None) for i, (segments, output) in enumerate(pairs)
    )


def generated(engine: RealEngine, prompt: list[int], max_tokens: int) -> tuple[list[int], int]:
    """(reply ids, cached tokens) by SGLang's own endpoint, which tells the ids."""
    parameters = {"max_new_tokens": max_tokens, "temperature": 0, "logit_bias": {"2": -100.0}}
    status, answer = engine.post("/generate", {"input_ids": prompt, "sampling_params": parameters})
    assert status == 200, answer
    return answer["output_ids"], answer["meta_info"]["cached_tokens"]


# Prefix cache -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [31, 32, 300, 700])
def test_a_repeated_prompt_is_cached_but_for_its_last_token(prompt: int, real_sglang: RealEngine) -> None:
    jobs = in_turn((((1, prompt),), 1), (((1, prompt),), 1))
    cached = [generated(real_sglang, tokens_of(j), 1)[1] for j in jobs]
    assert cached == ModelRun(scenario(*jobs), profile()).run().cached == [0, prompt - 1]


@pytest.mark.parametrize("shared", [1, 96, 100, 127])
def test_a_shared_half_is_cached_to_the_token(shared: int, real_sglang: RealEngine) -> None:
    jobs = in_turn((((1, shared), (2, 64)), 1), (((1, shared), (3, 64)), 1))
    cached = [generated(real_sglang, tokens_of(j), 1)[1] for j in jobs]
    assert cached == ModelRun(scenario(*jobs), profile()).run().cached == [0, shared]


@pytest.mark.parametrize(("prompt", "reply"), [(100, 60), (96, 1), (7, 25), (600, 30)])
def test_the_next_turn_finds_the_prompt_and_the_reply_but_for_its_last_token(
    prompt: int, reply: int, real_sglang: RealEngine
) -> None:
    jobs = in_turn((((1, prompt),), reply), (((1, prompt), (1000, reply), (2, 50)), 1))
    ids, _ = generated(real_sglang, tokens_of(jobs[0]), reply)
    assert len(ids) == reply
    _, cached = generated(real_sglang, tokens_of(jobs[1], {1000: ids}), 1)
    assert cached == ModelRun(scenario(*jobs), profile()).run().cached[1] == prompt + reply - 1


def test_the_least_recently_used_prefix_is_evicted_first(real_sglang: RealEngine) -> None:
    """Four prompts of 1,100 tokens want 4,400 and 4,096 are there: which prefixes survive, and how much of them."""
    order = (1, 2, 3, 1, 4, 3, 1, 2)
    jobs = in_turn(*((((content, 1100),), 1) for content in order))
    cached = [generated(real_sglang, tokens_of(j), 1)[1] for j in jobs]
    assert cached == ModelRun(scenario(*jobs), profile()).run().cached
    assert 0 < cached[-1] < 1099, "something was evicted, and not all"


# Scheduling ---------------------------------------------------------------------------------------------------------------


def sent_together(engine: RealEngine, jobs: tuple[Job, ...]) -> list[Stream]:
    requests = [{"prompt": tokens_of(j), "max_tokens": j.output_tokens} for j in jobs]
    return [stream.wait() for stream in send_together(engine, requests)]


@pytest.mark.parametrize(("number", "prompt", "output"), [(4, 512, 700), (3, 800, 700), (3, 900, 700)])
def test_as_many_are_retracted_and_the_same_ones_at_about_the_same_token(
    number: int, prompt: int, output: int, real_sglang: RealEngine
) -> None:
    """Admission expects a tenth of what requests may put out, so too many come in. They reach the scheduler one after the
    other, so the memory runs out a few tokens sooner or later than where all come at once."""
    jobs = tuple(Job(((1 + n, prompt),), 1000 + n, output) for n in range(number))
    before = retractions(real_sglang)
    streams = sent_together(real_sglang, jobs)
    model = ModelRun(scenario(*jobs), profile()).run()
    assert [s.tokens[-1][1] for s in streams] == [output] * number
    assert retractions(real_sglang) - before == model.preemptions[-1] == (prompt < 900)
    for n, stream in enumerate(streams):
        at = stalls(stream, [s for s in streams if s is not stream], STALL_TOKENS)
        expected = model.stalls(n, output, STALL_TOKENS)
        assert len(at) == len(expected), (n, at, expected)
        assert all(abs(a - b) <= 8 for a, b in zip(at, expected, strict=True)), (n, at, expected)


def retractions(engine: RealEngine) -> float:
    try:
        return engine.metric("sglang:num_retracted_requests_total")
    except KeyError:
        return 0.0  # the counter appears with the first one


def test_places_are_given_first_come_first_served(real_sglang: RealEngine) -> None:
    """All places are taken by long ones that end 40 steps apart; a waiting one with a cached prefix does not overtake."""
    generated(real_sglang, token_ids(50, 200), 1)
    blockers = [stream_of(real_sglang, token_ids(1 + n, 40), 200 + 40 * n).wait_tokens(1) for n in range(MAX_RUNNING)]
    waiting = []
    for content in (60, 61, 50):
        waiting.append(stream_of(real_sglang, token_ids(content, 200), 150))
        time.sleep(0.03)
    assert not any(s.tokens for s in waiting), "all places are taken"
    first = [s.wait().first_token_s for s in waiting]
    assert first == sorted(first)
    assert waiting[2].cached_tokens == 199
    for stream in blockers:
        stream.wait()


def test_a_hang_up_frees_the_place(real_sglang: RealEngine) -> None:
    blockers = taking_all_places(real_sglang)
    waiting = stream_of(real_sglang, token_ids(99, 40), 3)
    time.sleep(0.1)
    assert not waiting.tokens
    blockers[0].hang_up()
    waiting.wait()
    assert all(s.tokens_at(waiting.first_token_s) < 440 for s in blockers[1:]), "nobody else had left"
    for stream in blockers[1:]:
        stream.hang_up()


# Limits -------------------------------------------------------------------------------------------------------------------


def taking_all_places(engine: RealEngine) -> list[Stream]:
    return [stream_of(engine, token_ids(1 + n, 40), 440).wait_tokens(1) for n in range(MAX_RUNNING)]


def error_code(stream: Stream) -> int:
    return int((stream.error or {}).get("code") or 200)


def test_the_queue_limit_counts_only_those_that_wait(real_sglang: RealEngine) -> None:
    """`--max-queued-requests 6`: with all places taken six may wait; the others' streams begin with HTTP 200 and an error."""
    blockers = taking_all_places(real_sglang)
    late = []
    for n in range(MAX_QUEUED + 3):
        late.append(stream_of(real_sglang, token_ids(100 + n, 40), 3))
        time.sleep(0.02)
    refused = [s.wait() for s in late[MAX_QUEUED:]]
    assert [(s.status, error_code(s), s.done_seen) for s in refused] == [(200, 503, True)] * 3
    for stream in blockers:
        stream.hang_up()
    assert [error_code(s.wait()) for s in late[:MAX_QUEUED]] == [200] * MAX_QUEUED


@pytest.mark.parametrize(
    ("prompt", "asked", "status", "out"), [(2000, 40, 200, 40), (2000, 48, 200, 46), (2000, 49, 400, 0), (2048, 1, 400, 0)]
)
def test_too_many_tokens_for_the_context_are_refused(
    prompt: int, asked: int, status: int, out: int, real_sglang: RealEngine
) -> None:
    """Prompt + max_tokens beyond the context is a bad request; up to it, two tokens of the context stay unused."""
    stream = stream_of(real_sglang, token_ids(prompt, prompt), asked).wait()
    engine = Engine(profile())
    sequence = Sequence(0, Prompt.of((Segment(1, prompt),)), 2, asked)
    answers: list[Any] = [stream.status, engine.submit(sequence, 0.0)]
    assert answers == [status, status]
    if status == 200:
        assert stream.usage["completion_tokens"] == sequence.output_tokens == out


# Its own endpoints, and those of a served replica -------------------------------------------------------------------------


def served(path: str, body: Any) -> tuple[int, str]:
    """(status, body) that a served replica configured alike answers."""
    found: list[tuple[int, str]] = []

    async def ask(replica: ServedReplica, client: Client) -> None:
        reply = await client.ask("GET" if body is None else "POST", path, body)
        found.append((reply.status, reply.body.decode()))

    serving(ask, profile(), flavour="sglang")
    return found[0]


GREEDY = {"max_new_tokens": 4, "temperature": 0}


@pytest.mark.parametrize(
    "body",
    [
        {"input_ids": [5, 6, 7, 8], "sampling_params": GREEDY},
        {"input_ids": [5, 6, 7, 8], "sampling_params": GREEDY, "stream": True},
        {"input_ids": [[5, 6, 7], [8, 9, 10]], "sampling_params": GREEDY},
        {"text": ["ab", "cd"], "sampling_params": GREEDY, "stream": True},
        {"sampling_params": GREEDY},
        {"input_ids": [], "sampling_params": GREEDY},
        {"input_ids": [5] * CONTEXT_TOKENS, "sampling_params": GREEDY},
        {"input_ids": [5, 6], "sampling_params": {"max_new_tokens": CONTEXT_TOKENS}},
        {"input_ids": [5, 6], "sampling_params": {"max_new_tokens": -1}},
    ],
)
def test_generate_is_answered_in_the_same_shape(body: dict[str, Any], real_sglang: RealEngine) -> None:
    """As many answers with as many tokens, the same errors word for word; nothing is told that SGLang does not tell."""
    status, theirs = real_sglang.post("/generate", body)
    our_status, text = served("/generate", body)
    ours = json.loads(text) if text.startswith(("{", "[")) else text
    assert our_status == status
    if status != 200:
        assert ours == theirs
        return
    mine, real = answers(ours), answers(theirs)
    assert [len(a["output_ids"]) for a in mine] == [len(a["output_ids"]) for a in real]
    for a, b in zip(mine, real, strict=True):
        assert set(a) == set(b)
        assert set(a["meta_info"]) <= set(b["meta_info"])
        for key in ("finish_reason", "prompt_tokens", "completion_tokens"):
            assert a["meta_info"][key] == b["meta_info"][key] or "text" in body


def answers(reply: Any) -> list[dict[str, Any]]:
    """Whole answers, or the last event of each prompt of a stream, which ends with [DONE]."""
    if not isinstance(reply, str):
        return reply if isinstance(reply, list) else [reply]
    *events, done = [line[6:] for line in reply.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    return list({e.get("index"): e for e in map(json.loads, events)}.values())


def test_loads_and_metrics_are_known_to_sglang(real_sglang: RealEngine) -> None:
    """Every key of `/v1/loads` but two of earlier releases, every metric of ours, with the same bounds."""
    theirs = json.loads(real_sglang.get("/v1/loads"))
    ours = json.loads(served("/v1/loads", None)[1])
    assert set(ours) - set(theirs) == {"dp_rank_count", "aggregate"}
    assert set(ours["loads"][0]) - set(theirs["loads"][0]) == {"num_total_reqs"}
    for _ in range(2):  # some counters appear with their first event
        stream_of(real_sglang, token_ids(77, 40), 3).wait()
    known = series(real_sglang.get("/metrics"))
    mine = {name: bounds for name, bounds in series(served("/metrics", None)[1]).items() if name.startswith("sglang:")}
    assert set(mine) <= set(known)
    assert {name: bounds for name, bounds in mine.items() if bounds and bounds != known.get(name)} == {}
