"""The fit finds coefficients that it was not told, reports honest errors, and holds on runs that it has not seen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replicas.engine import Engine
from replicas.fitting.__main__ import main
from replicas.fitting.host import fit_launch, with_launch
from replicas.fitting.measurements import DecodeRows, PrefillRows, Run, other_runs, read_calibration
from replicas.fitting.replayed import compare, simulated
from replicas.fitting.sources import SOURCES, read_source
from replicas.fitting.sweeps import (
    DecodeFit,
    PrefillFit,
    cross_validate_decode,
    cross_validate_prefill,
    fit_decode,
    fit_prefill,
    mixed_sequence_s,
)
from replicas.profile import PROFILES, EngineProfile, StepTime
from replicas.sequence import Sequence
from workloads.request import Prompt, Segment

CALIBRATION = Path(__file__).resolve().parents[2] / "../shared/calibration"
OUTSIDE_S = 6e-3
DECODE = DecodeFit(base_s=6e-3, sequence_s=8e-6, kv_s=4e-8)
PREFILL = PrefillFit(OUTSIDE_S, intercept_s=-2e-3, prefill_s=2.2e-5, attention_s=6e-10, floor_s=11e-3, token_s=2.5e-6)


def decode_rows() -> DecodeRows:
    batch, context = (g.ravel() for g in np.meshgrid([1.0, 8, 64, 192], [512.0, 2048]))
    rows = DecodeRows(batch, context, np.ones_like(batch), ())
    return replace(rows, step_s=DECODE.seconds(rows))


def prefill_rows() -> PrefillRows:
    prompt = np.array([16.0, 64, 512, 1024, 4096, 8192, 1024, 4096, 8192, 8192])
    cached = np.array([0.0, 0, 0, 0, 0, 0, 1008, 4080, 8176, 4096])
    tags = tuple(f"{'prefix' if c else 'prefill'}_{int(p)}_{int(c)}" for p, c in zip(prompt, cached, strict=True))
    rows = PrefillRows(tags, prompt, cached, np.ones_like(prompt))
    return replace(rows, ttft_s=PREFILL.seconds(rows, DECODE.base_s))


def poisson_run(profile: EngineProfile, rate_rps: float = 20.0, requests: int = 300) -> Run:
    """Requests of 512 in / 128 out, answered by the simulated engine of `profile`."""
    sent = np.random.default_rng(5).exponential(1 / rate_rps, requests).cumsum()
    tokens = np.full(requests, 512), np.full(requests, 128)
    run = Run("made", *tokens, sent, sent, sent, sent)
    answer = simulated(run, profile).latencies
    return replace(run, first_token_s=sent + answer.ttft_s, last_token_s=sent + answer.e2e_s)


def shipped() -> EngineProfile:
    return EngineProfile.load("h100-vllm-llama8b")


# Recovery from data with a known truth ------------------------------------------------------------------------------------


def test_decode_coefficients_are_recovered() -> None:
    found = fit_decode(decode_rows())
    assert (found.base_s, found.sequence_s, found.kv_s) == pytest.approx((6e-3, 8e-6, 4e-8), rel=1e-6)


def test_prefill_coefficients_are_recovered() -> None:
    found = fit_prefill(prefill_rows(), DECODE.base_s, OUTSIDE_S)
    for name in ("intercept_s", "prefill_s", "attention_s", "floor_s", "token_s"):
        assert getattr(found, name) == pytest.approx(getattr(PREFILL, name), rel=1e-3), name


def test_what_is_known_of_prefills_is_kept() -> None:
    found = fit_prefill(prefill_rows(), DECODE.base_s, OUTSIDE_S, (-2e-3, 2.2e-5))
    assert (found.intercept_s, found.prefill_s) == (-2e-3, 2.2e-5)
    assert found.attention_s == pytest.approx(PREFILL.attention_s, rel=1e-3)
    assert found.floor_s == pytest.approx(PREFILL.floor_s, rel=1e-3)


def test_cached_tokens_cost_no_prefill() -> None:
    rows = prefill_rows()
    whole, repeat = rows.only("prefill_8192_0").ttft_s[0], rows.only("prefix_8192_8176").ttft_s[0]
    assert repeat == pytest.approx(OUTSIDE_S + PREFILL.floor_s + PREFILL.token_s * 8192)
    assert whole > 5 * repeat


def test_one_slow_row_does_not_move_the_prefill_fit() -> None:
    rows = prefill_rows()
    ttft_s = rows.ttft_s.copy()
    ttft_s[3] *= 1.5
    found = fit_prefill(replace(rows, ttft_s=ttft_s), DECODE.base_s, OUTSIDE_S)
    assert found.prefill_s == pytest.approx(PREFILL.prefill_s, rel=0.05)


def test_cross_validation_leaves_the_configuration_out() -> None:
    """On true data the left-out rows are predicted; a row that contradicts all others is not, though a fit would bend to it."""
    rows = decode_rows()
    assert np.abs(cross_validate_decode(rows)).max() < 1e-6
    step_s = rows.step_s.copy()
    step_s[3] *= 2
    bent = replace(rows, step_s=step_s)
    inside = abs(fit_decode(bent).seconds(bent)[3] / step_s[3] - 1)
    assert abs(cross_validate_decode(bent)[3]) > inside
    assert np.abs(cross_validate_prefill(prefill_rows(), DECODE.base_s, OUTSIDE_S)).max() < 0.05


def test_mixed_steps_make_a_full_batch_complete_what_was_measured() -> None:
    """Two prompts beside 254 decodes a step: at 45 requests a second the step lasts 2/45 s."""
    step = StepTime(6e-3, -2e-3, 2.2e-5, 6e-10, 8e-6, 4e-8, prefill_sequence_s=mixed_sequence_s(DECODE, PREFILL, 45.0))
    assert step.seconds(1024, 256, 254, 254 * 576) == pytest.approx(2 / 45)
    assert mixed_sequence_s(DECODE, PREFILL, 1000.0) == 0.0


@pytest.mark.parametrize("rate_rps", [6.0, 20.0])
def test_the_launch_time_of_one_made_run_is_recovered(rate_rps: float) -> None:
    found = fit_launch([poisson_run(with_launch(shipped(), 31e-3), rate_rps)], shipped())
    assert found.step.eager_launch_s == pytest.approx(31e-3, rel=0.03)


def test_where_all_prefills_run_with_graphs_no_launch_is_fitted() -> None:
    graphs = replace(shipped(), step=replace(shipped().step, graph_tokens=0))
    assert fit_launch([poisson_run(graphs)], graphs) == graphs


def test_a_client_without_patience_is_not_answered_and_its_work_is_gone() -> None:
    """An engine of one place, 4 requests at once of about a second each: with patience for 1.5 s, the first is answered."""
    one = replace(shipped(), max_running=1)
    zeros = np.zeros(4)
    run = Run("burst", np.full(4, 512), np.full(4, 128), zeros, zeros, zeros, zeros, patience_s=1.5)
    assert simulated(run, one).latencies.answered == 0.25
    assert simulated(replace(run, patience_s=None), one).latencies.answered == 1.0


def test_attempts_of_one_content_hit_the_prefix_cache() -> None:
    sent = np.array([0.0, 5.0])
    run = Run("retry", np.full(2, 4096), np.full(2, 1), sent, sent, sent, sent)
    differ, same = (simulated(replace(run, content=content), shipped()).latencies for content in (None, np.array([7, 7])))
    assert same.ttft_s[0] == differ.ttft_s[0]
    assert same.ttft_s[1] < 0.4 * differ.ttft_s[1]


def test_comparing_an_engine_with_itself_shows_no_error() -> None:
    table = compare(poisson_run(shipped()), shipped(), draws=1)
    assert {f"{m}_p{q}" for m in ("ttft", "tpot", "e2e") for q in (50, 90)} == table.keys()
    assert max(abs(row["error"]) for row in table.values()) < 1e-9


def test_comparing_with_a_slower_engine_shows_it() -> None:
    slow = replace(shipped(), step=replace(shipped().step, base_s=2 * shipped().step.base_s))
    assert compare(poisson_run(shipped()), slow)["tpot_p50"]["error"] > 0.3


def test_the_engine_of_the_shipped_profile_saturates_where_the_real_one_did() -> None:
    """About 51 requests a second at 256 running; here 1,500 requests of 512 in / 128 out wait at once."""
    engine = Engine(shipped().with_changes({"frontend_s": 0.0}))
    sequences = [Sequence(i, Prompt.of((Segment(i, 512),)), -1 - i, 128) for i in range(1500)]
    for sequence in sequences:
        assert engine.submit(sequence, 0.0) == 200
    while engine.next_s < 1e9:
        engine.on_wake(engine.next_s)
    ended = np.sort([s.ended_s for s in sequences if s.ended_s is not None])
    assert 950 / (ended[1199] - ended[249]) == pytest.approx(51, rel=0.05)


# Reading ------------------------------------------------------------------------------------------------------------------

_RUN = "tag,t_sched,t_send,t_first,t_last,in_len,out_len\nx,0,0,1,2,512,128\n"
_FILES = {
    "p.csv": "tag,in_len,cached,ttft\nprefill_16,16,,0.02\n",
    "d.csv": "ctx,batch,out,steady_step_ms\n512,1,71,7.0\n512,256,86,21.0\n",
    "b.csv": _RUN + "decode_512_256,0,0,1,2,512,128\n",
    "r.csv": _RUN,
}


def read(folder: Path, **changed: str) -> object:
    for name, text in (_FILES | {f"{key}.csv": value for key, value in changed.items()}).items():
        (folder / name).write_text(text)
    return read_calibration(folder, ("p.csv",), "d.csv", "b.csv", ("r.csv",))


def test_the_suspect_rows_are_dropped_and_said(tmp_path: Path) -> None:
    read(tmp_path)
    data = read_calibration(tmp_path, ("p.csv",), "d.csv", "b.csv", ("r.csv",))
    assert data.decode.dropped == ("batch 256 at context 512",)
    assert data.decode.batch.tolist() == [1.0]
    assert [batch.name for batch in data.batches] == ["x"]
    assert data.prefill.cached_tokens.tolist() == [0.0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"p": "tag,in_len,cached,ttft\nprefill_16,16,,fast\n"}, r"p\.csv:2: ttft is 'fast', not a number"),
        ({"p": "tag,in_len,cached,ttft\nprefill_16,16\n"}, r"p\.csv:2: ttft is None, not a number"),
        ({"d": "ctx,out,steady_step_ms\n512,71,7.0\n"}, r"d\.csv:2: no column 'batch'; there are ctx, out, steady_step_ms"),
        ({"r": "tag,t_send\n"}, r"r\.csv: no rows"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **changed)


def test_the_command_ends_with_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = tmp_path / next(iter(SOURCES))
    known.mkdir()
    for folder, message in ((tmp_path, "is not a known calibration; allowed: h100_vllm"), (known, "no such file")):
        assert main([str(folder), "--out", str(tmp_path / "p.json")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "p.json").exists()


def test_a_run_knows_its_failed_attempts_its_patience_and_its_retries(tmp_path: Path) -> None:
    rows = "rid,attempt,t_sched,t_send,t_first,t_last,t_end,in_len,req_out,out_len,outcome\n"
    rows += "5,1,0,0,,,4.0,512,128,7,timeout\n5,2,4.5,4.6,5,6,6.1,512,128,128,ok\n"
    read(tmp_path)
    (tmp_path / "more.csv").write_text(rows)
    (tmp_path / "more_metrics.csv").write_text("t,running\n0,1\n")
    more = other_runs(tmp_path, ("p.csv", "d.csv", "b.csv", "r.csv"))
    assert more == ("more.csv",)
    run = read_calibration(tmp_path, ("p.csv",), "d.csv", "b.csv", ("r.csv", *more)).runs["more"]
    assert (run.patience_s, run.output_tokens.tolist()) == (4.0, [128, 128])
    assert run.content is not None
    assert run.content.tolist() == [5, 5]
    assert np.isnan(run.first_token_s).tolist() == [True, False]


# The shipped profiles -----------------------------------------------------------------------------------------------------

NAMES = {"h100_vllm_0.26_llama8b": "h100-vllm-llama8b", "h100_sglang_0.5.15_llama8b": "h100-sglang-llama8b"}


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    folder = CALIBRATION / str(request.param)
    if not folder.is_dir():
        pytest.skip("the calibration measurements are not here")
    return folder


@pytest.mark.slow
def test_the_shipped_profile_is_what_the_command_writes(folder: Path, tmp_path: Path) -> None:
    """Fitted numbers to 1e-3 (another BLAS may round otherwise); everything that is not a fitted number exactly."""
    out = tmp_path / "new.json"
    assert main([str(folder), "--out", str(out)]) == 0
    new, old = json.loads(out.read_text()), json.loads((PROFILES / f"{NAMES[folder.name]}.json").read_text())
    assert new["step"] == pytest.approx(old["step"], rel=2e-2)  # the launch: a search without gradient
    assert new["frontend_s_per_token"] == pytest.approx(old["frontend_s_per_token"], rel=5e-2)
    for part in (new, old):
        del part["step"], part["fit_error"], part["frontend_s_per_token"]
    assert new == old


def test_the_stored_errors_are_those_of_the_profile(folder: Path) -> None:
    """The report quotes `fit_error`: a stale table would be a lie."""
    source, profile = SOURCES[folder.resolve().name], EngineProfile.load(NAMES[folder.name])
    for name, run in read_source(folder, source).runs.items():
        stored = profile.fit_error["runs"][name]
        assert stored["used_in_fit"] == (name == source.fitted_run)
        for quantile, row in compare(run, profile).items():
            assert row["error"] == pytest.approx(stored["quantiles"][quantile]["error"], abs=0.01), (name, quantile)
