"""Predictions are judged by stated limits, and the shipped profile stays about as true as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replicas.fidelity import Row, allowed_error, gauge_rows, main, rows_of, table
from replicas.fitting.measurements import Run
from replicas.fitting.replayed import simulated
from replicas.fitting.sources import read_source, source_of
from replicas.profile import EngineProfile

FOLDER = Path(__file__).resolve().parents[2] / "../shared/calibration/h100_vllm_0.26_llama8b"


def shipped() -> EngineProfile:
    return EngineProfile.load("h100-vllm-llama8b")


def made_run(requests: int = 200) -> Run:
    """TTFT 10% and decoding 90% of a second."""
    sent = np.arange(requests) / 10
    return Run("made", np.full(requests, 512), np.full(requests, 128), sent, sent, sent + 0.1, sent + 1.0)


@pytest.mark.parametrize(
    ("metric", "spread", "expected"),
    [
        ("ttft_p50", {}, 0.07),
        ("ttft_p90", {}, 0.10),
        ("e2e_p99", {}, 0.15),
        ("ttft_p50", {"ttft_p50": 0.2}, 0.2),
        ("ttft_p90", {"ttft_p50": 0.2}, 0.2),
        ("tpot_p50", {"tpot_p50": 0.09}, 0.09),
        ("tpot_p90", {"tpot_p50": 0.09}, 0.10),  # the limit is wider than the spread
        ("e2e_p50", {"ttft_p50": 0.2, "tpot_p50": 0.09}, 0.101),  # 0.1 x 20% + 0.9 x 9%
    ],
)
def test_limits(metric: str, spread: dict[str, float], expected: float) -> None:
    assert allowed_error(metric, made_run(), spread) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "measured", "predicted", "inside"),
    [
        ("ttft_p50", 0.100, 0.107, True),
        ("ttft_p50", 0.100, 0.1072, False),
        ("ttft_p50", 0.100, 0.092, False),
        ("waiting", 0.0, 1.4, True),  # within one and a half
        ("waiting", 0.0, 1.6, False),
        ("running", 60.0, 64.0, True),
        ("running", 60.0, 65.0, False),
    ],
)
def test_verdicts(metric: str, measured: float, predicted: float, inside: bool) -> None:
    row = Row("r", metric, measured, predicted, 0.0701)
    assert row.inside == inside
    assert ("OUTSIDE" in table([row])) != inside


def test_p99_is_judged_from_a_thousand_requests_on() -> None:
    few, many = ({row.metric for row in rows_of(made_run(n), shipped(), {})} for n in (999, 1000))
    assert many - few == {"ttft_p99", "tpot_p99", "e2e_p99"}


def test_gauges_are_read_where_the_engine_was_asked(tmp_path: Path) -> None:
    """Two reads during the run: 7 and 9 running; the read before it and the one after it do not count."""
    metrics = tmp_path / "m.csv"
    metrics.write_text("t,running,waiting\n0.0,99,9\n5.0,7,0\n10.0,9,2\n30.0,99,9\n")
    running, waiting = gauge_rows(made_run(), shipped(), metrics)
    assert (running.measured, waiting.measured) == (8.0, 1.0)
    assert 5 < running.predicted < 15  # Little: 10 a second x about 1 s


def test_gauges_follow_littles_law() -> None:
    run = made_run()
    answer = simulated(run, shipped(), at_s=np.linspace(3.0, 19.0, 321))
    assert answer.running + answer.waiting == pytest.approx(10 * answer.latencies.e2e_s.mean(), rel=0.05)


def test_a_folder_that_is_not_known_is_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def folder() -> Path:
    if not FOLDER.is_dir():
        pytest.skip("the calibration measurements are not here")
    return FOLDER


def test_the_shipped_profile_is_as_true_as_log_md_says(folder: Path) -> None:
    """The three runs contradict one another, so a few errors are beyond their limits; none may be by more than 3 points."""
    source = source_of(folder)
    for run in read_source(folder, source).runs.values():
        for row in rows_of(run, shipped(), source.spread):
            assert abs(row.error) < row.allowed + 0.03, table([row])


def test_a_slower_engine_is_outside(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from replicas.fitting.profile_file import write_profile

    slow = replace(shipped(), step=replace(shipped().step, base_s=2 * shipped().step.base_s))
    write_profile(slow, tmp_path / "slow.json")
    assert main([str(folder), "--profile", str(tmp_path / "slow.json")]) == 1
    assert "OUTSIDE" in capsys.readouterr().out
