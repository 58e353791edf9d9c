"""Replays a measured run on the simulated engine and compares the quantiles. It does not know how profiles are fitted."""

from dataclasses import dataclass

import numpy as np

from replicas.engine import Engine
from replicas.fitting.measurements import Floats, Run
from replicas.profile import EngineProfile
from replicas.sequence import Sequence
from workloads.request import Prompt, Segment

QUANTILES = (0.5, 0.9, 0.99)
DRAWS = 5  # replays with other draws of the front end's jitter, where a profile has one; quantiles are averaged over them
FEWEST_FOR_P99 = 1000
_DRAW_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds a request, in order of sending. TPOT divides by the tokens after the first (NaN for a single token)."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats

    def quantile(self, metric: str, q: float) -> float:
        return float(np.nanquantile(getattr(self, f"{metric}_s"), q))


@dataclass(frozen=True, slots=True)
class Answers:
    """One replay of a run: the latencies, and mean numbers of waiting and running requests at the asked times."""

    latencies: Latencies
    waiting: float
    running: float


def measured(run: Run) -> Latencies:
    """What the clients saw; TTFT and E2E count from the scheduled time."""
    return _latencies(run, run.first_token_s, run.last_token_s)


def simulated(run: Run, profile: EngineProfile, draw: int = 0, at_s: Floats | None = None) -> Answers:
    """The same requests, sent when they were really sent, to one engine of `profile`; raises ValueError if one is refused.

    `draw` selects the front end's jitter; `at_s` are times (ascending) at which waiting and running are read.
    """
    engine = Engine(profile)
    sequences = [
        Sequence(draw * _DRAW_STRIDE + i, Prompt.of((Segment(i, int(prompt)),)), -1 - i, int(output))
        for i, (prompt, output) in enumerate(zip(run.prompt_tokens, run.output_tokens, strict=True))
    ]
    gauges: list[tuple[int, int]] = []
    looks = list(at_s) if at_s is not None else []
    for sequence, sent_s in zip(sequences, run.sent_s, strict=True):
        _wake_until(engine, float(sent_s), looks, gauges)
        if (status := engine.submit(sequence, float(sent_s))) != 200:
            raise ValueError(f"{run.name}: the engine refused request {sequence.try_id} with {status}")
    _wake_until(engine, float("inf"), looks, gauges)
    first = np.array([s.first_token_s for s in sequences], dtype=np.float64)
    last = np.array([s.ended_s for s in sequences], dtype=np.float64)
    means = np.array(gauges, dtype=np.float64).mean(axis=0) if gauges else np.full(2, np.nan)
    return Answers(_latencies(run, first, last), float(means[0]), float(means[1]))


def predict(run: Run, profile: EngineProfile, draws: int = DRAWS, at_s: Floats | None = None) -> list[Answers]:
    """Several replays that differ in the front end's jitter; a single one where the profile has none."""
    return [simulated(run, profile, draw, at_s) for draw in range(draws if profile.frontend_jitter_s else 1)]


def compare(run: Run, profile: EngineProfile, draws: int = DRAWS) -> dict[str, dict[str, float]]:
    """`ttft_p50`, `tpot_p90` … → measured_s, predicted_s and the relative error of the prediction; p99 from 1,000 requests on."""
    real, answers = measured(run), predict(run, profile, draws)
    table: dict[str, dict[str, float]] = {}
    for metric in ("ttft", "tpot", "e2e"):
        for q in QUANTILES[: None if len(run.sent_s) >= FEWEST_FOR_P99 else 2]:
            was = real.quantile(metric, q)
            said = float(np.mean([a.latencies.quantile(metric, q) for a in answers]))
            table[f"{metric}_p{round(q * 100)}"] = {"measured_s": was, "predicted_s": said, "error": said / was - 1}
    return table


def _wake_until(engine: Engine, until_s: float, looks: list[float], gauges: list[tuple[int, int]]) -> None:
    """Run the engine up to `until_s`, reading its gauges at the `looks` on the way (consumed)."""
    while True:
        next_s = min(engine.next_s, until_s)
        while looks and looks[0] <= next_s and next_s < float("inf"):
            looks.pop(0)
            gauges.append((engine.waiting, engine.running))
        if engine.next_s >= until_s:
            return
        engine.on_wake(engine.next_s)


def _latencies(run: Run, first_s: Floats, last_s: Floats) -> Latencies:
    later = np.where(run.output_tokens > 1, run.output_tokens - 1, np.nan)
    return Latencies(first_s - run.scheduled_s, (last_s - first_s) / later, last_s - run.scheduled_s)
