"""Run folders that several report tests read: built once, never changed."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import yaml

from reports.page import build_page
from reports.read_scene import open_results, read_scenes
from reports.scene import Scene
from reports.tables import build_tables
from tests.reports.live_folder import make_live_run
from tests.reports.run_folder import CANCEL, EVENTS, ORPHANED, Arm, make_run_folder

Results = tuple[duckdb.DuckDBPyConnection, tuple[Scene, ...]]
HOSTILE = "<img src=x onerror=alert(1)>.[0]'\"&</script>"


@pytest.fixture(scope="session")
def page_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with tables and page: 3 routers (one with a hostile name, one the oracle) × 2 clients × 3 seeds."""
    arms = [
        Arm("least_outstanding", ORPHANED, "dead"),
        Arm("least_outstanding", CANCEL, "recovered"),
        Arm(HOSTILE, ORPHANED, "dead"),
        Arm(HOSTILE, CANCEL, "latent"),
        Arm("oracle", ORPHANED, "recovered"),
        Arm("oracle", CANCEL, "healthy"),
    ]
    run = make_run_folder(tmp_path_factory.mktemp("page") / "run", [_safe(a) for a in arms])
    _rename(run, "hostile", HOSTILE)
    build_tables(run)
    build_page(run)
    return run


@pytest.fixture(scope="session")
def events_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with tables and page: 2 routers × seeds 1 and 2, a dead replica as trigger and the further `EVENTS`."""
    arms = [Arm(router, CANCEL, "recovered", trigger="kill") for router in ("random", "round_robin")]
    run = make_run_folder(tmp_path_factory.mktemp("events") / "run", arms, seeds=(1, 2), events=EVENTS)
    build_tables(run)
    build_page(run)
    return run


@pytest.fixture(scope="session")
def live_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with tables and page: two live pools, a twin of one, 4 routers (a gateway among them) × 2 seeds × 2 repeats."""
    run = make_live_run(tmp_path_factory.mktemp("live") / "run")
    build_tables(run)
    build_page(run)
    return run


@pytest.fixture
def live_results(live_run: Path) -> Iterator[Results]:
    with open_results(live_run / "results.duckdb") as con:
        yield con, read_scenes(con, yaml.safe_load((live_run / "study.yaml").read_text()))


def _safe(arm: Arm) -> Arm:
    return Arm("hostile", arm.client, arm.kind) if arm.router == HOSTILE else arm


def _rename(run: Path, name: str, label: str) -> None:
    """Gives a router another label in every cell.json and the study (its folders keep the harmless name)."""
    import json

    for file in run.glob("cells/*/cell.json"):
        facts = json.loads(file.read_text())
        if facts["router"] == name:
            file.write_text(json.dumps(facts | {"router": label}))
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["routers"] = [{**r, "label": label} if r["label"] == name else r for r in study["routers"]]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["trace"]["name"] = label
    (run / "manifest.json").write_text(json.dumps(manifest))
