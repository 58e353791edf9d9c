"""The flows that prefect.yaml deploys: nightly, replay-trace, report. They run on the server of the worker that starts them."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.build_report import build_report
from flows.choose_run import new_folder
from flows.load_study import load_study
from flows.progress import RunProgress
from flows.run_study import run_study


class RunVoid(RuntimeError):
    """The load was not delivered, so the run's numbers say nothing of its routers."""


@flow(name="nightly")
def nightly(study: str = "quickstart", out: str = "runs", sets: list[str] | None = None, seed: int | None = None) -> str:
    """Run a study (preset or YAML file) into a new folder of `out`; returns the report's path. RunVoid for a void run."""
    return _run(study, out, sets or [], seed)


@flow(name="replay-trace")
def replay_trace(
    trace: str, study: str = "quickstart", out: str = "runs", source: str | None = None, sets: list[str] | None = None
) -> str:
    """Run a study on another trace: a source's name or a file (`source` names its format where its content does not)."""
    workload = {"trace": trace, "source": source}
    changes = [f"workload.{key}={_quoted(value)}" for key, value in workload.items()]
    return _run(study, out, [*changes, *(sets or [])], None)


@flow(name="report")
def report(run: str) -> str:
    """Build the tables and the page of a run folder anew; returns the report's path."""
    with RunProgress() as progress:
        return _told(build_report(Path(run).absolute(), progress))


def _run(study: str, out: str, sets: list[str], seed: int | None) -> str:
    folder = new_folder(load_study(study, sets, seed), Path(out))
    command = ["prefect deployment", f"study={study}", *(f"set {change}" for change in sets)]
    return _told(run_study(study=study, out=str(folder), sets=sets, seed=seed, command=command))


def _told(done: dict[str, Any]) -> str:
    create_markdown_artifact(f"Report: `{done['report']}`", key="stampede-report")
    if done["void"]:
        raise RunVoid(f"{len(done['void'])} cells are void: {', '.join(done['void'][:5])}; report: {done['report']}")
    return str(done["report"])


def _quoted(value: str | None) -> str:
    return "null" if value is None else "'" + value.replace("'", "''") + "'"
