"""A small probe's folder with its page, built once and never changed; the same world, parts left out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import yaml

from reports.probe.page import build_probe_page
from reports.probe.scene import ProbeScene, scene_of
from reports.probe.tables import read_answers, read_findings
from reports.read_scene import open_results
from tests.reports.probe.plans import DEFAULT, PULSES
from tests.reports.probe.probe_run import make_probe_run

SMALL = replace(
    DEFAULT,
    routers=("round_robin", "consistent_hash", "epp_weighted"),
    guards=("none", "retry budget"),
    fractions=(0.7, 0.9),
    pulses=PULSES[:3],
    variants=DEFAULT.variants[:2],
    cures=("retry budget", "budget and cap"),
    steps=(0.5, 0.9, 1.1),
    placebo_seeds=5,
)
"""Three routers, two guard sets, two loads: some hundred cells with every phase."""
Probed = tuple[duckdb.DuckDBPyConnection, ProbeScene]


@pytest.fixture(scope="session")
def probe_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_probe_run(tmp_path_factory.mktemp("probe") / "run", SMALL)
    build_probe_page(run)
    return run


@pytest.fixture(scope="session")
def probe_text(probe_run: Path) -> str:
    return (probe_run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def partial_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which only the capacity search and calm runs were asked for."""
    plan = replace(SMALL, routers=SMALL.routers[:1], phases=("capacity", "placebo"))
    run = make_probe_run(tmp_path_factory.mktemp("partial") / "run", plan, title="<img src=x onerror=alert(1)>")
    build_probe_page(run)
    return run


@pytest.fixture(scope="module")
def probed_scene(probe_run: Path) -> Iterator[Probed]:
    study = yaml.safe_load((probe_run / "study.yaml").read_text())
    with open_results(probe_run / "results.duckdb") as con:
        yield con, scene_of(read_findings(con), read_answers(con), study)
