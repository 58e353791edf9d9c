"""Predictions are judged by stated limits, and the shipped profile stays about as true as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replicas.fidelity import Row, allowed_error, gauge_rows, hosts_spread, judge, main, rows_of, table
from replicas.fitting.measurements import Run
from replicas.fitting.replayed import simulated
from replicas.fitting.sources import SOURCES, read_source, source_of
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


def test_repeats_on_other_hosts_widen_a_limit_and_the_verdict_says_so() -> None:
    """0.9, 1.0 and 1.1 differ by 0.2 of their mean."""
    assert hosts_spread(1.0, (0.9, 1.1)) == pytest.approx(0.2)
    assert hosts_spread(1.0, ()) == 0.0
    near, far, beyond = (Row("r", "ttft_p50", 1.0, said, 0.07, 0.2) for said in (1.05, 1.15, 1.25))
    assert [row.verdict for row in (near, far, beyond)] == ["inside", "inside hosts' spread", "OUTSIDE"]


@pytest.mark.parametrize(("own_host", "verdict"), [(-0.06, "inside on its own host"), (0.08, "OUTSIDE"), (None, "OUTSIDE")])
def test_a_run_is_judged_on_its_own_host_where_that_is_known(own_host: float | None, verdict: str) -> None:
    assert Row("r", "ttft_p50", 1.0, 1.3, 0.07, 0.2, own_host=own_host).verdict == verdict


def test_the_run_that_told_its_host_predicts_nothing_there() -> None:
    assert Row("r", "ttft_p50", 1.0, 1.3, 0.07, own_host=0.01, tells_host=True).verdict == "fitted on its own host"


def test_the_host_of_a_run_is_told_by_one_run() -> None:
    """Also of runs that were not known when this was written."""
    source = SOURCES[FOLDER.name]
    hosts = [source.same_host_run(name) for name in ("d_poisson_4", "d_poisson_32", "cap_48", "overload")]
    assert hosts == ["d_poisson_16", "d_poisson_16", "cap_34", None]


def test_a_run_that_was_fitted_is_told_from_one_that_was_not() -> None:
    text = table([Row("a", "tpot_p50", 1.0, 1.0, 0.1, fitted=True), Row("b", "tpot_p50", 1.0, 1.0, 0.1)]).splitlines()
    assert ["fitted" in text[1], "unseen" in text[2]] == [True, True]


def test_p99_is_judged_from_a_thousand_requests_on() -> None:
    few, many = ({row.metric for row in rows_of(made_run(n), shipped(), SOURCES[FOLDER.name])} for n in (999, 1000))
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
    """Nothing was fitted to the runs, whose hosts differ: TTFT of one that met a fast host is beyond, by 12 points at most."""
    source = source_of(folder)
    for run in read_source(folder, source).runs.values():
        for row in rows_of(run, shipped(), source):
            assert row.inside or (row.run == "cap_34" and row.metric.startswith("ttft")), table([row])
            assert abs(row.error) < max(row.allowed, row.hosts) + 0.12, table([row])


def test_with_one_number_a_host_all_runs_are_inside(folder: Path) -> None:
    """The launch of each host told by one run of it; the median of the one that told none is within 4%."""
    rows = judge(folder, shipped())
    assert all(row.inside for row in rows), table(rows)
    unseen = [row.own_host for row in rows if row.run == "d_poisson_4" and row.metric.endswith("p50")]
    assert len(unseen) == 3
    assert max(abs(error) for error in unseen if error is not None) < 0.04


def test_a_slower_engine_is_outside(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from replicas.fitting.profile_file import write_profile

    slow = replace(shipped(), step=replace(shipped().step, base_s=2 * shipped().step.base_s))
    write_profile(slow, tmp_path / "slow.json")
    assert main([str(folder), "--profile", str(tmp_path / "slow.json")]) == 1
    assert "OUTSIDE" in capsys.readouterr().out
