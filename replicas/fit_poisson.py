"""Replays a measured Poisson run on the simulated engine and compares the quantiles. It does not know how profiles are fitted."""

from dataclasses import dataclass

import numpy as np

from replicas.engine import Engine
from replicas.fit_data import Floats, Run
from replicas.profile import EngineProfile
from replicas.sequence import Sequence
from workloads.request import Prompt, Segment

QUANTILES = (0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds a request, in order of sending. TPOT divides by the tokens after the first."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats


def measured(run: Run) -> Latencies:
    """What the clients saw; TTFT and E2E count from the scheduled time."""
    return _latencies(run, run.first_token_s, run.last_token_s)


def simulated(run: Run, profile: EngineProfile) -> Latencies:
    """The same requests, sent when they were really sent, on one engine of `profile`; raises ValueError if one is refused."""
    delays = np.array([profile.frontend_delay_s(int(tokens)) for tokens in run.prompt_tokens])
    engine = Engine(profile.with_changes({"frontend_s": 0.0, "frontend_s_per_token": 0.0}))  # the delay is in `ready` already
    ready = run.sent_s + delays
    sequences = [
        Sequence(i, Prompt.of((Segment(i, int(prompt)),)), -1 - i, int(output))
        for i, (prompt, output) in enumerate(zip(run.prompt_tokens, run.output_tokens, strict=True))
    ]
    for i in np.argsort(ready, kind="stable"):
        _wake_until(engine, float(ready[i]))
        if (status := engine.submit(sequences[i], float(ready[i]))) != 200:
            raise ValueError(f"{run.name}: the engine refused request {i} with {status}")
    _wake_until(engine, float("inf"))
    first = np.array([s.first_token_s for s in sequences], dtype=np.float64)
    return _latencies(run, first, np.array([s.last_token_s for s in sequences], dtype=np.float64))


def compare(run: Run, profile: EngineProfile) -> dict[str, dict[str, float]]:
    """`ttft_p50`, `tpot_p90` … → measured_s, predicted_s and the relative error of the prediction."""
    real, model = measured(run), simulated(run, profile)
    table: dict[str, dict[str, float]] = {}
    for metric in ("ttft", "tpot", "e2e"):
        for q in QUANTILES:
            was = float(np.quantile(getattr(real, f"{metric}_s"), q))
            said = float(np.quantile(getattr(model, f"{metric}_s"), q))
            table[f"{metric}_p{round(q * 100)}"] = {"measured_s": was, "predicted_s": said, "error": said / was - 1}
    return table


def _wake_until(engine: Engine, until_s: float) -> None:
    while engine.next_s < until_s:
        engine.on_wake(engine.next_s)


def _latencies(run: Run, first_s: Floats, last_s: Floats) -> Latencies:
    return Latencies(first_s - run.scheduled_s, (last_s - first_s) / (run.output_tokens - 1), last_s - run.scheduled_s)
