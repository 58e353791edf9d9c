"""From a live engine to an `EngineProfile`: asks, measures, fits, tries the fit on an unseen run. It writes no file."""

from dataclasses import dataclass, replace

from replicas.calibration.client import EngineClient
from replicas.calibration.engine_facts import EngineFacts, ask, must_be_idle
from replicas.calibration.sweeps import MakePrompt, Measured, Plan, Say, Sweeps
from replicas.fitting.host import fit_launch
from replicas.fitting.measurements import Calibration
from replicas.fitting.profile_fit import FORMULA, fit_sweeps, profile_of_sweeps, run_errors, sweep_errors
from replicas.fitting.step_log import unfitted as unfitted_step
from replicas.fitting.step_log import with_logged_host
from replicas.profile import EngineProfile

_GRAPH_TOKENS = {"vllm": 512, "sglang": 0}  # largest captured prefill step; SGLang's prefills run without graphs


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says where the engine does not. `name` of the profile; `gpu` as the report shows it; `date` of measuring."""

    name: str
    gpu: str
    date: str
    engine: str | None = None
    max_running: int | None = None
    max_batched_tokens: int | None = None
    kv_tokens: int | None = None


async def calibrate(client: EngineClient, wanted: Wanted, plan: Plan, prompt: MakePrompt, seed: int, say: Say) -> EngineProfile:
    """Measure and fit; raises CannotMeasure when the engine is busy, wrong or too small."""
    facts = await ask(client, wanted.engine)
    await must_be_idle(client, facts.engine)
    say(f"{facts.engine} {facts.version}, model {facts.model}, context {facts.context_tokens}, KV {facts.kv_tokens} tokens")
    kv_tokens = wanted.kv_tokens or facts.kv_tokens
    max_running = wanted.max_running or facts.max_running
    plan = plan.within(facts.context_tokens, kv_tokens, max_running)
    measured = await Sweeps(client, prompt, seed, say).measure(plan, kv_tokens)
    await must_be_idle(client, facts.engine)
    return fit_measured(measured, unfitted(facts, wanted), plan)


def unfitted(facts: EngineFacts, wanted: Wanted) -> EngineProfile:
    """The limits, with no number fitted yet; what nobody says is vLLM's or SGLang's default, and the provenance names it."""
    block = facts.block_tokens or (16 if facts.engine == "vllm" else 1)
    kv_tokens = wanted.kv_tokens or facts.kv_tokens or max(facts.context_tokens, 1 << 18)
    bare = EngineProfile(
        name=wanted.name,
        engine=facts.engine,
        engine_version=facts.version,
        gpu=wanted.gpu,
        model=facts.model,
        step=unfitted_step(_GRAPH_TOKENS[facts.engine]),
        block_tokens=block,
        kv_blocks=-(-kv_tokens // block),
        max_running=wanted.max_running or facts.max_running or 256,
        max_batched_tokens=wanted.max_batched_tokens or 8192,
        context_tokens=facts.context_tokens,
        frontend_s=0.0,
        cancel_lag_s=0.05,
        scheduler=facts.engine,
        steps_ahead=1,
        provenance={
            "measured": f"stampede calibrate, {wanted.date}",
            "assumed": _assumed(facts, wanted),
        },
    )
    return with_logged_host(bare)


def fit_measured(measured: Measured, bare: EngineProfile, plan: Plan) -> EngineProfile:
    """Sweeps, then the first Poisson run; the last one only checks."""
    data = Calibration(("live",), measured.prefill, measured.decode, (), {run.name: run for run in measured.runs})
    sweeps = fit_sweeps(data, bare)
    *fitted, held_out = measured.runs
    profile = fit_launch(fitted, profile_of_sweeps(bare, sweeps, None))
    runs = {run.name: run_errors(run, profile, run is not held_out) for run in measured.runs}
    return replace(
        profile,
        measured_context_tokens=max(plan.prefill),
        fit_error={"sweeps": sweep_errors(data, sweeps), "runs": runs},
        provenance={
            **profile.provenance,
            "rows": {"prefill_and_prefix": len(measured.prefill.ttft_s), "decode": len(measured.decode.step_s)},
            "dropped": list(measured.decode.dropped),
            "formula": FORMULA,
            "not_fitted": "prefill_sequence_s (needs a saturated engine) and cancel_lag_s (assumed)",
        },
    )


def _assumed(facts: EngineFacts, wanted: Wanted) -> list[str]:
    known = {
        "block_tokens": facts.block_tokens,
        "kv_blocks": wanted.kv_tokens or facts.kv_tokens,
        "max_running": wanted.max_running or facts.max_running,
        "max_batched_tokens": wanted.max_batched_tokens,
    }
    host = ["host_s", "host_sequence_s", "launch_spread", "frontend_s", "frontend_chunk_s"]
    return ["cancel_lag_s", *host, *(name for name, value in known.items() if value is None)]
