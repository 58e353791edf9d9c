"""Queueing theory as the judge: an engine that serves one request at a time must wait as M/D/1 and M/M/1 do."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from replicas.engine import Engine
from replicas.profile import EngineProfile, StepTime
from replicas.sequence import Sequence
from workloads.draws import generator
from workloads.request import Prompt, Segment

MEAN_TOKENS = 1000
SECONDS_PER_TOKEN = 1e-5
BATCHES = 20
PROFILE = EngineProfile(
    name="one-at-a-time",
    engine="vllm",
    engine_version="",
    gpu="",
    model="",
    step=StepTime(0.0, 0.0, SECONDS_PER_TOKEN, 0.0, 0.0, 0.0),
    block_tokens=16,
    kv_blocks=4096,
    max_running=1,
    max_batched_tokens=65536,
    context_tokens=65536,
    frontend_s=0.0,
    cancel_lag_s=0.0,
)


def waits(lengths: NDArray[np.int64], rho: float, seed: int) -> NDArray[np.float64]:
    """Seconds in the queue of each request: prefill only (one output token), Poisson arrivals at utilisation `rho`."""
    gaps = generator(seed, "arrivals").exponential(MEAN_TOKENS * SECONDS_PER_TOKEN / rho, len(lengths))
    engine = Engine(PROFILE)
    sequences = []
    for number, (at_s, tokens) in enumerate(zip(np.cumsum(gaps).tolist(), lengths.tolist(), strict=True)):
        while engine.next_s < at_s:
            engine.on_wake(engine.next_s)
        sequence = Sequence(number, Prompt.of((Segment(number, tokens),)), -1, 1)
        engine.submit(sequence, at_s)
        sequences.append(sequence)
    while engine.running or engine.waiting:
        engine.on_wake(engine.next_s)
    ended = np.array([s.ended_s for s in sequences], dtype=np.float64)
    return ended - np.cumsum(gaps) - lengths * SECONDS_PER_TOKEN


def interval(values: NDArray[np.float64], confidence: float = 0.999) -> tuple[float, float]:
    """A confidence interval of the mean by batch means (Law and Kelton), after dropping the first batch as warm-up."""
    means = values[: len(values) // BATCHES * BATCHES].reshape(BATCHES, -1).mean(axis=1)[1:]
    half = stats.t.ppf((1 + confidence) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() - half), float(means.mean() + half)


def pollaczek_khinchine(rho: float, lengths_squared_cv: float) -> float:
    """Mean wait of M/G/1: ρ/(1-ρ) · (1 + c²)/2 · mean service."""
    return rho / (1 - rho) * (1 + lengths_squared_cv) / 2 * MEAN_TOKENS * SECONDS_PER_TOKEN


@pytest.mark.parametrize(("rho", "n"), [(0.3, 10_000), (0.6, 20_000), (0.75, 40_000)])
@pytest.mark.parametrize("law", ["M/D/1", "M/M/1"])
def test_the_mean_wait_is_pollaczek_khinchines(law: str, rho: float, n: int) -> None:
    if law == "M/D/1":
        lengths, squared_cv = np.full(n, MEAN_TOKENS), 0.0
    else:  # geometric: the exponential of whole tokens, its c² is 1 - 1/mean
        lengths, squared_cv = generator(7, "lengths").geometric(1 / MEAN_TOKENS, n), 1 - 1 / MEAN_TOKENS
    low, high = interval(waits(lengths, rho, seed=7))
    expected = pollaczek_khinchine(rho, squared_cv)
    assert low <= expected <= high
    assert high - low < 0.5 * expected  # the interval is narrow enough to say something


def test_a_tenth_more_service_would_be_noticed() -> None:
    """Ten per cent more service than the formula assumes falls outside the interval: the test has power."""
    lengths = np.full(20_000, MEAN_TOKENS * 11 // 10)
    low, high = interval(waits(lengths, 0.6, seed=7))
    assert not low <= pollaczek_khinchine(0.6, 0.0) <= high
