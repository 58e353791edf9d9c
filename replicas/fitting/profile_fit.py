"""Fits a whole `EngineProfile` to a folder of engine timings, with its errors and provenance. It reads and writes no file.

Order: decode steps (base, sequence, KV) → lone prefills (the rest of the GPU's work, and the time outside the step) → saturated
throughput (what a decode costs more beside a prefill) → Poisson runs (launching without graphs, jitter of the front end).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from replicas.fitting.host import fit_host
from replicas.fitting.measurements import Calibration, Floats, Run
from replicas.fitting.replayed import compare
from replicas.fitting.sources import Source
from replicas.fitting.sweeps import (
    DecodeFit,
    PrefillFit,
    cross_validate_decode,
    cross_validate_prefill,
    fit_decode,
    fit_prefill,
    mixed_sequence_s,
)
from replicas.profile import EngineProfile, StepTime

FORMULA = (
    "GPU seconds of a step = base_s + sequence_s·batch + kv_s·Σ kv_tokens, and with any prefill in it + prefill_base_s + "
    "prefill_sequence_s·batch + prefill_s·new + attention_s·new·context; the host launches a step with "
    "prefill in prefill_floor_s, above graph_tokens in all in eager_launch_s; front end = frontend_s + "
    "frontend_s_per_token·prompt + Exp(frontend_jitter_s)"
)


@dataclass(frozen=True, slots=True)
class SweepFit:
    """What the sweeps alone give."""

    decode: DecodeFit
    prefill: PrefillFit


def fit_sweeps(data: Calibration) -> SweepFit:
    decode = fit_decode(data.decode)
    return SweepFit(decode, fit_prefill(data.prefill, decode.base_s))


def profile_of_sweeps(unfitted: EngineProfile, sweeps: SweepFit, saturated_rps: float | None) -> EngineProfile:
    """`unfitted` with the GPU's work and the quiet front end; without a saturated throughput, mixed steps cost nothing extra."""
    decode, prefill = sweeps.decode, sweeps.prefill
    step = StepTime(
        base_s=decode.base_s,
        prefill_base_s=0.0,
        prefill_s=prefill.prefill_s,
        attention_s=prefill.attention_s,
        sequence_s=decode.sequence_s,
        kv_s=decode.kv_s,
        prefill_floor_s=max(0.0, prefill.floor_s - prefill.intercept_s),
        prefill_sequence_s=mixed_sequence_s(decode, prefill, saturated_rps) if saturated_rps else 0.0,
        graph_tokens=unfitted.step.graph_tokens,
    )
    return replace(unfitted, step=step, frontend_s=prefill.intercept_s, frontend_s_per_token=prefill.token_s)


def with_host(profile: EngineProfile, runs: Mapping[str, Run]) -> EngineProfile:
    """`profile` with launch times and jitter fitted to `runs`."""
    return fit_host(list(runs.values()), profile).on(profile)


def fit_profile(source: Source, data: Calibration) -> EngineProfile:
    """The whole fit. Each run's error is given twice: of this profile, and of one whose host was fitted to the other runs."""
    sweeps = fit_sweeps(data)
    bare = profile_of_sweeps(source.profile, sweeps, source.saturated_rps)
    profile = with_host(bare, data.runs)
    left_out = {name: with_host(bare, {n: r for n, r in data.runs.items() if n != name}) for name in data.runs}
    return replace(
        profile,
        provenance={**source.facts, **_provenance(data), "host_fitted_without": _hosts(left_out)},
        fit_error={
            "sweeps": sweep_errors(data, sweeps) | _batch_errors(data, replace(profile, frontend_jitter_s=0.0)),
            "runs": {name: run_errors(run, profile, left_out[name]) for name, run in data.runs.items()},
        },
    )


def sweep_errors(data: Calibration, sweeps: SweepFit) -> dict[str, dict[str, float]]:
    """Mean, median and worst relative error of each sweep, in the fit and with configurations left out in turn."""
    rows, base_s = data.prefill, sweeps.decode.base_s
    parts = {"prefill": rows.only("prefill_"), "prefix": rows.only("prefix_")}
    errors = {name: sweeps.prefill.seconds(part, base_s) / part.ttft_s - 1.0 for name, part in parts.items()}
    errors["prefill and prefix, configuration left out"] = cross_validate_prefill(rows, base_s)
    errors["decode"] = sweeps.decode.seconds(data.decode) / data.decode.step_s - 1.0
    errors["decode, configuration left out"] = cross_validate_decode(data.decode)
    return {name: _summary(values) for name, values in errors.items() if len(values)}


def run_errors(run: Run, profile: EngineProfile, left_out: EngineProfile) -> dict[str, Any]:
    """Quantiles as measured and as predicted; `left_out_error` is that of a profile whose fit has not seen this run."""
    quantiles = compare(run, profile)
    for name, row in compare(run, left_out).items():
        quantiles[name]["left_out_error"] = row["error"]
    return {"used_in_fit": True, "requests": len(run.sent_s), "quantiles": quantiles}


def _batch_errors(data: Calibration, profile: EngineProfile) -> dict[str, Any]:
    """Whole batches sent at once, prefill and decode together: nothing of them but the steady decode step was fitted."""
    if not data.batches:
        return {}
    errors = [compare(batch, profile)["e2e_p50"]["error"] for batch in data.batches]
    return {"whole batches, E2E p50, held out": _summary(np.array(errors))}


def _summary(errors: Floats) -> dict[str, float]:
    size = np.abs(errors)
    return {"n": len(size), "mean": float(size.mean()), "median": float(np.median(size)), "worst": float(size.max())}


def _hosts(left_out: Mapping[str, EngineProfile]) -> dict[str, dict[str, float]]:
    """How far the host's numbers move when a run is left out."""
    return {
        name: {"eager_launch_s": p.step.eager_launch_s, "frontend_jitter_s": p.frontend_jitter_s} for name, p in left_out.items()
    }


def _provenance(data: Calibration) -> dict[str, Any]:
    return {
        "files": list(data.files),
        "rows": {
            "prefill_and_prefix": len(data.prefill.ttft_s),
            "decode": len(data.decode.step_s),
            "batches": len(data.batches),
            **{name: len(run.sent_s) for name, run in data.runs.items()},
        },
        "dropped": list(data.decode.dropped),
        "formula": FORMULA,
        "fitted_to": {
            "decode sweep": "base_s, sequence_s, kv_s",
            "prefill and prefix sweeps": "prefill_s, attention_s, prefill_floor_s, frontend_s, frontend_s_per_token",
            "saturated throughput": "prefill_sequence_s",
            "Poisson runs": "eager_launch_s, frontend_jitter_s",
        },
    }


def rounded(value: Any) -> Any:
    """Floats to five significant digits, so that a profile reads well and the same fit gives the same file everywhere."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
