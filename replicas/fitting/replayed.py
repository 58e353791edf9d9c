"""Replays a measured run on the simulated engine and compares the quantiles. It does not know how profiles are fitted."""

from dataclasses import dataclass

import numpy as np

from replicas.engine import Engine
from replicas.fitting.measurements import Floats, Run
from replicas.profile import EngineProfile
from replicas.sequence import Sequence, State
from workloads.request import Prompt, Segment

QUANTILES = (0.5, 0.9, 0.99)
DRAWS = 5  # replays with other draws of launches and jitter, where a profile has any; quantiles are averaged over them
FEWEST_FOR_P99 = 1000
_DRAW_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds a request, in order of sending. TPOT divides by the tokens after the first (NaN for a single token); all are NaN
    for one that failed."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats

    @property
    def answered(self) -> float:
        """The share that succeeded."""
        return float(np.mean(~np.isnan(self.e2e_s)))

    def quantile(self, metric: str, q: float) -> float:
        """Of those that succeeded."""
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

    `draw` selects launches and jitter; `at_s` are times (ascending) at which waiting and running are read.
    """
    engine = Engine(profile)
    content = range(len(run.sent_s)) if run.content is None else run.content
    sequences = [
        Sequence(draw * _DRAW_STRIDE + i, Prompt.of((Segment(int(own), int(prompt)),)), -1 - i, int(output))
        for i, (own, prompt, output) in enumerate(zip(content, run.prompt_tokens, run.output_tokens, strict=True))
    ]
    gauges: list[tuple[int, int]] = []
    looks = list(at_s) if at_s is not None else []
    for time_s, sends, sequence in _inputs(run, sequences):
        _wake_until(engine, time_s, looks, gauges)
        if not sends:
            if sequence.ended_s is None:
                engine.cancel(sequence, time_s)
        elif (status := engine.submit(sequence, time_s)) != 200:
            raise ValueError(f"{run.name}: the engine refused request {sequence.try_id} with {status}")
    _wake_until(engine, float("inf"), looks, gauges)
    first, last = _heard(run, sequences)
    means = np.array(gauges, dtype=np.float64).mean(axis=0) if gauges else np.full(2, np.nan)
    return Answers(_latencies(run, first, last), float(means[0]), float(means[1]))


def _heard(run: Run, sequences: list[Sequence]) -> tuple[Floats, Floats]:
    """When first and last tokens came; NaN where the client had given up by then."""
    first = np.array([s.first_token_s for s in sequences], dtype=np.float64)
    last = np.array([s.ended_s for s in sequences], dtype=np.float64)
    in_time = np.array([s.state == State.FINISHED for s in sequences])
    if run.patience_s is not None:
        in_time &= last <= run.sent_s + run.patience_s
    return np.where(in_time, first, np.nan), np.where(in_time, last, np.nan)


def _inputs(run: Run, sequences: list[Sequence]) -> list[tuple[float, bool, Sequence]]:
    """When each is sent (True), and when its client would give up (False)."""
    sends = [(float(at_s), True, sequence) for at_s, sequence in zip(run.sent_s, sequences, strict=True)]
    if run.patience_s is None:
        return sends
    return sorted(sends + [(at_s + run.patience_s, False, sequence) for at_s, _, sequence in sends], key=lambda event: event[0])


def predict(run: Run, profile: EngineProfile, draws: int = DRAWS, at_s: Floats | None = None) -> list[Answers]:
    """Several replays that differ in what is drawn (launches, the front end's jitter); a single one where nothing is."""
    drawn = profile.step.launch_spread or profile.frontend_jitter_s
    return [simulated(run, profile, draw, at_s) for draw in range(draws if drawn else 1)]


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
