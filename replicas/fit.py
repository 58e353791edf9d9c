"""Fits an `EngineProfile` to a folder of engine timings: `python -m replicas.fit FOLDER --out PROFILE.json`.

It knows the step-time formula and how the timings were made; it does not know workloads, routers or how the engine is built.

Order of the fit: decode steps (base, sequence, KV) → prefill alone (the rest, and one intercept in which the front end and
`prefill_base_s` cannot be told apart) → saturated throughput splits the intercept → one Poisson run gives the front-end delay
under open-loop load, which back-to-back sweeps do not show.
"""

import argparse
import json
import sys
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls

from replicas.fit_data import Calibration, DecodeRows, Floats, PrefillRows, Run, read_calibration
from replicas.fit_poisson import compare, measured, simulated
from replicas.fit_sources import SOURCES, Source
from replicas.profile import EngineProfile, StepTime

FORMULA = (
    "step = base_s + sequence_s·batch + kv_s·Σ kv_tokens; with any prefill in it: max(prefill_floor_s, that + prefill_base_s + "
    "prefill_s·new + attention_s·new·context); front end = frontend_s + frontend_s_per_token·prompt"
)
_SCALE = np.array([1e-3, 1e-5, 1e-10, 1e-2, 1e-6])  # of a PrefillFit's fields, for the solver


@dataclass(frozen=True, slots=True)
class DecodeFit:
    """Seconds of a decode step = base_s + sequence_s·batch + kv_s·Σ kv."""

    base_s: float
    sequence_s: float
    kv_s: float

    def seconds(self, rows: DecodeRows) -> Floats:
        return self.base_s + self.sequence_s * rows.batch + self.kv_s * rows.batch * rows.context_tokens


@dataclass(frozen=True, slots=True)
class PrefillFit:
    """TTFT of a lone request = max(base_s + intercept_s + prefill_s·new + attention_s·new·context, floor_s) + token_s·prompt.

    `intercept_s` = hot front end + prefill_base_s; `floor_s` = hot front end + prefill_floor_s.
    """

    intercept_s: float
    prefill_s: float
    attention_s: float
    floor_s: float
    token_s: float

    def seconds(self, rows: PrefillRows, base_s: float) -> Floats:
        new = rows.prompt_tokens - rows.cached_tokens
        context = rows.cached_tokens + new / 2
        work = base_s + self.intercept_s + self.prefill_s * new + self.attention_s * new * context
        return np.maximum(work, self.floor_s) + self.token_s * rows.prompt_tokens


def fit_decode(rows: DecodeRows) -> DecodeFit:
    """Non-negative least squares on relative errors (Lawson & Hanson)."""
    columns = np.stack([np.ones_like(rows.batch), rows.batch, rows.batch * rows.context_tokens], axis=1)
    found, _ = nnls(columns / rows.step_s[:, None], np.ones_like(rows.step_s))
    return DecodeFit(*(float(x) for x in found))


def fit_prefill(rows: PrefillRows, base_s: float) -> PrefillFit:
    """Bounded least squares on relative errors; a soft L1 loss beyond 5%, because some rows met a slow host."""

    def errors(scaled: Floats) -> Floats:
        return _fit_of(scaled).seconds(rows, base_s) / rows.ttft_s - 1.0

    start = np.array([3.0, 2.4, 7.0, 1.6, 2.0])
    found = least_squares(errors, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=0.05)
    return _fit_of(found.x)


def split_intercept(decode: DecodeFit, prefill: PrefillFit, saturated_rps: float) -> float:
    """`prefill_base_s` such that a full batch of 256 completes `saturated_rps` requests of 512 in / 128 out.

    There each step prefills 256/128 = 2 prompts beside 254 decodes of 512 + 64 tokens on average, so a step lasts
    2/saturated_rps. Bounded by [0, intercept]: the front end cannot take negative time.
    """
    work = StepTime(decode.base_s, 0.0, prefill.prefill_s, prefill.attention_s, decode.sequence_s, decode.kv_s)
    spare = 2.0 / saturated_rps - work.seconds(1024, 256, 254, 254 * 576)
    return float(np.clip(spare, 0.0, prefill.intercept_s))


def fit_frontend(run: Run, profile: EngineProfile) -> float:
    """The constant delay, in seconds, by which `run` starts answering later than the simulated engine without front end.

    Read at the lower quartile of TTFT: a constant shifts every quantile alike, contention stretches only the upper ones.
    """
    bare = simulated(run, replace(profile, frontend_s=0.0)).ttft_s
    return max(0.0, float(np.quantile(measured(run).ttft_s, 0.25) - np.quantile(bare, 0.25)))


def fit_profile(source: Source, data: Calibration) -> EngineProfile:
    """The whole fit, with its errors and provenance."""
    decode = fit_decode(data.decode)
    prefill = fit_prefill(data.prefill, decode.base_s)
    prefill_base_s = split_intercept(decode, prefill, source.saturated_rps)
    hot_frontend_s = prefill.intercept_s - prefill_base_s
    step = StepTime(
        base_s=decode.base_s,
        prefill_base_s=prefill_base_s,
        prefill_s=prefill.prefill_s,
        attention_s=prefill.attention_s,
        sequence_s=decode.sequence_s,
        kv_s=decode.kv_s,
        prefill_floor_s=max(0.0, prefill.floor_s - hot_frontend_s),
    )
    profile = replace(source.profile, step=step, frontend_s=0.0, frontend_s_per_token=prefill.token_s)
    profile = replace(profile, frontend_s=fit_frontend(data.runs[source.fit_run], profile))
    return replace(
        profile,
        provenance={**source.facts, **_provenance(source, data, hot_frontend_s)},
        fit_error={
            "sweeps": _sweep_errors(data, decode, prefill) | _batch_errors(data, replace(profile, frontend_s=hot_frontend_s)),
            "runs": _run_errors(source, data, profile),
        },
    )


def cross_validate_prefill(rows: PrefillRows, base_s: float) -> Floats:
    """Relative errors of each row when its whole configuration (tag) was left out of the fit."""
    errors: list[Floats] = []
    for tag in dict.fromkeys(rows.tags):
        left = rows.only(tag)
        errors.append(fit_prefill(rows.without(tag), base_s).seconds(left, base_s) / left.ttft_s - 1.0)
    return np.concatenate(errors)


def cross_validate_decode(rows: DecodeRows) -> Floats:
    """Relative errors of each (batch, context) when it was left out of the fit."""
    errors = []
    for i in range(len(rows.step_s)):
        keep = np.arange(len(rows.step_s)) != i
        fit = fit_decode(DecodeRows(rows.batch[keep], rows.context_tokens[keep], rows.step_s[keep], ()))
        errors.append(float((fit.seconds(rows) / rows.step_s - 1.0)[i]))
    return np.array(errors)


def _fit_of(scaled: Floats) -> PrefillFit:
    return PrefillFit(*(float(x) for x in scaled * _SCALE))


def _sweep_errors(data: Calibration, decode: DecodeFit, prefill: PrefillFit) -> dict[str, Any]:
    rows, base_s = data.prefill, decode.base_s
    parts = {"prefill": rows.only("prefill_"), "prefix": rows.only("prefix_")}
    errors = {name: prefill.seconds(part, base_s) / part.ttft_s - 1.0 for name, part in parts.items()}
    errors["prefill and prefix, configuration left out"] = cross_validate_prefill(rows, base_s)
    errors["decode"] = decode.seconds(data.decode) / data.decode.step_s - 1.0
    errors["decode, configuration left out"] = cross_validate_decode(data.decode)
    return {name: _summary(values) for name, values in errors.items()}


def _batch_errors(data: Calibration, hot: EngineProfile) -> dict[str, Any]:
    """Whole batches sent at once, prefill and decode together: nothing of them but the steady decode step was fitted."""
    errors = [compare(batch, hot)["e2e_p50"]["error"] for batch in data.batches]
    return {"whole batches, E2E p50, held out": _summary(np.array(errors))}


def _run_errors(source: Source, data: Calibration, profile: EngineProfile) -> dict[str, Any]:
    return {
        name: {"used_in_fit": name == source.fit_run, "requests": len(run.sent_s), "quantiles": compare(run, profile)}
        for name, run in data.runs.items()
    }


def _summary(errors: Floats) -> dict[str, float]:
    size = np.abs(errors)
    return {"n": len(size), "mean": float(size.mean()), "median": float(np.median(size)), "worst": float(size.max())}


def _provenance(source: Source, data: Calibration, hot_frontend_s: float) -> dict[str, Any]:
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
        "frontend": (
            f"frontend_s: the shift of the lower quartile of TTFT in {source.fit_run} against the simulated engine. Back-to-back "
            f"sweeps show only {hot_frontend_s * 1e3:.2f} ms of it: under open-loop load a request also waits for the step that "
            "the engine has already scheduled ahead, and the processes between client and engine have gone cold."
        ),
        "hot_frontend_s": _rounded(hot_frontend_s),
    }


def _rounded(value: Any) -> Any:
    """Floats to five significant digits, so that a profile reads well and the same fit gives the same file everywhere."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main(arguments: Seq[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m replicas.fit", description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="a calibration folder; its name must be one of " + ", ".join(SOURCES))
    parser.add_argument("--out", type=Path, required=True, help="the profile to write")
    given = parser.parse_args(arguments)
    try:
        name = given.folder.resolve().name
        if name not in SOURCES:
            raise ValueError(f"folder {name!r} is not a known calibration; allowed: {', '.join(SOURCES)}")
        source = SOURCES[name]
        runs = (source.fit_run, *source.check_runs)
        data = read_calibration(given.folder, source.prefill, source.decode, source.batches, tuple(f"{run}.csv" for run in runs))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    profile = fit_profile(source, data)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    aside = given.out.with_suffix(".part")
    aside.write_text(json.dumps(_rounded(profile.to_json()), indent=1, ensure_ascii=False) + "\n")
    aside.replace(given.out)
    print(table(profile))
    return 0


def table(profile: EngineProfile) -> str:
    """The errors as text: one line a sweep, one line a run and quantile."""
    lines = [f"{profile.name}: {profile.step}", f"frontend_s {profile.frontend_s:.5f}"]
    for name, e in profile.fit_error["sweeps"].items():
        lines.append(f"  {name:45} n {e['n']:4d}  mean {e['mean']:6.1%}  median {e['median']:6.1%}  worst {e['worst']:6.1%}")
    for name, run in profile.fit_error["runs"].items():
        lines.append(f"  {name} ({'used in the fit' if run['used_in_fit'] else 'held out'}, {run['requests']} requests)")
        for quantile, e in run["quantiles"].items():
            was, said = e["measured_s"] * 1e3, e["predicted_s"] * 1e3
            lines.append(f"    {quantile:9} measured {was:8.1f} ms  predicted {said:8.1f} ms  {e['error']:+6.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
