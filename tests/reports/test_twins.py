"""Simulated beside measured, and the noise of repeats below which no difference counts."""

from dataclasses import replace

import pytest

from reports.leaderboard import normal_day_rows
from reports.noise import Noise, noise_of, within_noise
from reports.read_scene import enter
from reports.twin_tables import percent, twin_sentence
from reports.twins import Compared, Verdicts, compared, verdict_pairs
from tests.reports.conftest import Results


def test_measured_and_simulated_are_compared_arm_by_arm(live_results: Results) -> None:
    """The made-up twins answer 80 ms after our router's measured runs, of which every second is 10 ms later."""
    con, scenes = live_results
    enter(con, scenes[0].pool)
    row = next(r for r in compared(con) if r.metric == "ttft_p50_s" and scenes[0].router(r.router).label == "cache_aware")
    assert row.measured is not None
    assert row.simulated is not None
    assert row.seeds == 2
    assert row.simulated - row.measured == pytest.approx(0.08 - 0.005, abs=0.02)
    assert row.error == pytest.approx(row.simulated / row.measured - 1)
    assert row.low is not None
    assert row.low < row.measured
    assert 0 < (row.noise or 0) < 0.2
    assert {(v.alike, v.pairs) for v in verdict_pairs(con)} == {(4, 4)}


def test_the_simulations_sentence_claims_no_more_than_there_is() -> None:
    row = Compared("r0", "c0", "ttft_p50_s", 0.2, 0.19, 0.21, 0.25, 2, 0.04)
    assert twin_sentence([row], []) == (
        "The simulation of the same requests was off by +25% in TTFT p50; repeats of one measured run differ by 4.0% in TTFT p50."
    )
    other = replace(row, router="r1", simulated=0.19, noise=None)
    ends = [Verdicts("r0", "c0", {"recovered": 2}, {"slow": 2}, 0, 2)]
    assert twin_sentence([row, other], ends) == (
        "The simulation of the same requests was off by a median of 15.0% (from −5.0% to +25%) in TTFT p50 over 2 arms; repeats "
        "of one measured run differ by 4.0% in TTFT p50; the verdict was the same in 0 of 2 pairs."
    )
    failed = replace(row, measured=None)
    assert twin_sentence([failed], []).startswith("The simulation of the same requests was off by an unknown amount")
    assert [percent(e) for e in (0.034, -0.2, 3.2)] == ["+3.4%", "−20%", "+320%"]


def test_routers_that_differ_by_less_than_repeats_do_share_the_first_place(live_results: Results) -> None:
    con, scenes = live_results
    enter(con, scenes[0].pool)
    assert noise_of(con)["ttft_p90_s"].pairs == 8
    assert {r.rank for r in normal_day_rows(con, scenes[0])} == {1}  # 5 and 20 ms of 435, where repeats differ by 24
    enter(con, scenes[2].pool)
    assert noise_of(con) == {}


def test_the_reach_of_noise_shrinks_with_runs() -> None:
    """Median difference 10% of singles: means over 4 runs differ by up to 2.906 · 10% / 2 by chance."""
    noise = Noise("ttft_p90_s", 8, 0.10, 0.2, 0.1)
    assert within_noise(noise, 1.07, 0.93, 4)
    assert not within_noise(noise, 1.08, 0.92, 4)
    assert not within_noise(None, 1.0, 1.0, 4)
