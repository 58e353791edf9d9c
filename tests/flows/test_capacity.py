"""The search for C_ref, driven by a pool whose success at every load is known."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows import capacity
from flows.capacity import IDLE_RPS_PER_REPLICA, PROBE_REQUESTS, CapacityNotFound, find_capacity, reference_study
from flows.load_study import load_study
from flows.run_folder import RunFolder
from tests.replay.scenes import cell


def found_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, success_at: Any) -> Any:
    """C_ref where a load of x rps meets the SLO for `success_at(x)` of its requests."""
    monkeypatch.setattr(capacity, "_probe", lambda study, load_rps, *_: (cell(), success_at(load_rps)))
    seen: list[float] = []
    nothing: Any = None
    capacity_found = find_capacity(load_study("smoke"), RunFolder(tmp_path), nothing, nothing, lambda rps, _: seen.append(rps))
    return capacity_found, seen


def test_c_ref_is_where_success_falls_below_95_percent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, seen = found_with(monkeypatch, tmp_path, lambda rps: 1.0 if rps <= 23.0 else 0.5)
    assert found.low_rps <= 23.0 < found.high_rps <= 1.03 * found.low_rps
    assert found.idle_success == 1.0
    assert seen[0] == 2 * IDLE_RPS_PER_REPLICA
    kept = json.loads((tmp_path / "capacity.json").read_text())
    assert kept["c_ref_rps"] == found.c_ref_rps
    assert len(kept["probes"]) == len(seen)


def test_an_slo_that_an_idle_pool_misses_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CapacityNotFound, match=r"even a nearly idle pool meets it for only 90\.0% of requests"):
        found_with(monkeypatch, tmp_path, lambda rps: 0.9)


def test_a_pool_that_nothing_breaks_has_no_capacity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CapacityNotFound, match=r"load\.fraction needs C_ref"):
        found_with(monkeypatch, tmp_path, lambda rps: 1.0)


@pytest.mark.parametrize(("load_rps", "steady_s"), [(0.5, 2000.0), (20.0, 50.0), (1000.0, 20.0), (0.001, 7200.0)])
def test_a_probe_lasts_long_enough_to_judge_by(load_rps: float, steady_s: float) -> None:
    probe = reference_study(load_study("smoke"), load_rps)  # smoke's own steady phase is 20 s
    assert probe.phases.steady_s == steady_s
    assert probe.phases.steady_s * load_rps >= PROBE_REQUESTS or steady_s == 7200.0
    assert probe.trigger.kind == "placebo"
