"""Fits a whole `EngineProfile` to a folder of engine timings, with its errors and provenance. It reads and writes no file.

Order: decode steps (base, sequence, KV) → lone prefills (the rest of the GPU's work, launching alone) → saturated throughput
(what a decode costs more beside a prefill) → at most one Poisson run (launching without graphs). The host's other numbers are
those of a step log (`replicas.fitting.step_log`), and the other runs are predicted.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from replicas.fitting.host import fit_launch
from replicas.fitting.measurements import Calibration, Floats, Run
from replicas.fitting.replayed import compare
from replicas.fitting.sources import Source
from replicas.fitting.step_log import FACTS, PREFILL, logged_decode
from replicas.fitting.sweeps import (
    DecodeFit,
    PrefillFit,
    cross_validate_decode,
    cross_validate_prefill,
    fit_decode,
    fit_prefill,
    joined,
    mixed_sequence_s,
)
from replicas.profile import EngineProfile

FORMULA = (
    "GPU seconds of a step = base_s + sequence_s·batch + kv_s·Σ kv_tokens, and with any prefill in it + max(0, prefill_base_s + "
    "prefill_sequence_s·batch + prefill_s·new + attention_s·new·context); the host prepares a step for host_s + "
    "host_sequence_s·sequences, launches a prefill in prefill_floor_s, or without graphs in eager_launch_s (± launch_spread); "
    "front end = frontend_s + frontend_s_per_token·prompt, slower by its chunks of frontend_chunk_s each"
)


@dataclass(frozen=True, slots=True)
class SweepFit:
    """What the sweeps alone give."""

    decode: DecodeFit
    prefill: PrefillFit


def fit_sweeps(data: Calibration, unfitted: EngineProfile, logged: bool = False) -> SweepFit:
    """Decode steps, then lone prefills beyond what `unfitted` says of the host and the front end.

    `logged`: the engine, card and model are those of the step log, whose steps count beside the sweeps'.
    """
    rows, engine = data.decode, unfitted.engine
    decode = fit_decode(joined(rows, logged_decode(engine)) if logged else rows)
    outside_s = unfitted.frontend_s + unfitted.step.host_s + unfitted.step.host_sequence_s
    return SweepFit(decode, fit_prefill(data.prefill, decode.base_s, outside_s, PREFILL[engine] if logged else None))


def profile_of_sweeps(unfitted: EngineProfile, sweeps: SweepFit, saturated_rps: float | None) -> EngineProfile:
    """`unfitted` with the GPU's work and lone launches; without a saturated throughput, mixed steps cost nothing extra."""
    decode, prefill = sweeps.decode, sweeps.prefill
    step = replace(
        unfitted.step,
        base_s=decode.base_s,
        prefill_base_s=prefill.intercept_s,
        prefill_s=prefill.prefill_s,
        attention_s=prefill.attention_s,
        sequence_s=decode.sequence_s,
        kv_s=decode.kv_s,
        prefill_floor_s=prefill.floor_s,
        prefill_sequence_s=mixed_sequence_s(decode, prefill, saturated_rps) if saturated_rps else 0.0,
    )
    return replace(unfitted, step=step, frontend_s_per_token=prefill.token_s)


def fit_profile(source: Source, data: Calibration) -> EngineProfile:
    """The whole fit; runs other than `source.fitted_run` are predicted unseen."""
    sweeps = fit_sweeps(data, source.profile, logged=True)
    profile = profile_of_sweeps(source.profile, sweeps, source.saturated_rps)
    if source.fitted_run is not None:
        profile = fit_launch([data.runs[source.fitted_run]], profile)
    return replace(
        profile,
        provenance={**source.facts, **_provenance(source, data)},
        fit_error={
            "sweeps": sweep_errors(data, sweeps, PREFILL[profile.engine]) | _batch_errors(data, profile),
            "runs": {name: run_errors(run, profile, name == source.fitted_run) for name, run in data.runs.items()},
        },
    )


def sweep_errors(data: Calibration, sweeps: SweepFit, known: tuple[float, float] | None = None) -> dict[str, dict[str, float]]:
    """Mean, median and worst relative error of each sweep, in the fit and with configurations left out in turn; `known` is
    what is known of prefills: seconds a step, and a token."""
    rows, base_s, outside_s = data.prefill, sweeps.decode.base_s, sweeps.prefill.outside_s
    parts = {"prefill": rows.only("prefill_"), "prefix": rows.only("prefix_")}
    errors = {name: sweeps.prefill.seconds(part, base_s) / part.ttft_s - 1.0 for name, part in parts.items()}
    errors["prefill and prefix, configuration left out"] = cross_validate_prefill(rows, base_s, outside_s, known)
    errors["decode"] = sweeps.decode.seconds(data.decode) / data.decode.step_s - 1.0
    errors["decode, configuration left out"] = cross_validate_decode(data.decode)
    return {name: _summary(values) for name, values in errors.items() if len(values)}


def run_errors(run: Run, profile: EngineProfile, used: bool) -> dict[str, Any]:
    """Quantiles as measured and as predicted; `used` in the fit or not."""
    return {"used_in_fit": used, "requests": len(run.sent_s), "quantiles": compare(run, profile)}


def _batch_errors(data: Calibration, profile: EngineProfile) -> dict[str, Any]:
    """Whole batches sent at once, prefill and decode together: nothing of them but the steady decode step was fitted."""
    if not data.batches:
        return {}
    errors = [compare(batch, profile)["e2e_p50"]["error"] for batch in data.batches]
    return {"whole batches, E2E p50, held out": _summary(np.array(errors))}


def _summary(errors: Floats) -> dict[str, float]:
    size = np.abs(errors)
    return {"n": len(size), "mean": float(size.mean()), "median": float(np.median(size)), "worst": float(size.max())}


def _provenance(source: Source, data: Calibration) -> dict[str, Any]:
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
            "decode sweep and step log": "base_s, sequence_s, kv_s",
            "prefill and prefix sweeps": "attention_s, prefill_floor_s, frontend_s_per_token",
            **({"saturated throughput": "prefill_sequence_s"} if source.saturated_rps else {}),
            **({source.fitted_run: "eager_launch_s"} if source.fitted_run else {}),
            "step log": "prefill_base_s, prefill_s, host_s, host_sequence_s, launch_spread, frontend_s, frontend_chunk_s"
            + ("" if source.fitted_run else ", eager_launch_s"),
        },
        "step_log": FACTS["where"] + ". " + FACTS[source.profile.engine],
    }


def rounded(value: Any) -> Any:
    """Floats to five significant digits, so that a profile reads well and the same fit gives the same file everywhere."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
