"""`stampede run` and `report` around the flow: embedded server, exit code, last line, log of a failure. It knows no stage."""

import sys
from pathlib import Path
from typing import Any

from flows.failure import report_failure, say
from flows.run_folder import RunFolder
from flows.study import Study, StudyError

DONE, FAILED, INTERRUPTED = 0, 1, 130


def run_to_report(
    study: str | None,
    *,
    out: str | None,
    sets: list[str],
    seed: int | None,
    resume: str | None,
    processes: int | None,
) -> int:
    """Run the flow in this process and print the report's path; returns the exit code. StudyError for a bad study."""
    from flows.gateway_faults import holds_faults, run_gateway_faults

    if resume is None and study is not None and holds_faults(study):
        return run_gateway_faults(study, out=out, sets=sets, refused={"--seed": seed, "--processes": processes})
    from flows.choose_run import choose
    from flows.ready_here import ready_here

    chosen, path = choose(study, out, sets, seed, resume)
    ready_here(chosen)
    try:
        done = _run(chosen, path, study=study, sets=sets, seed=seed, resume=resume, processes=processes)
    except StudyError:
        raise
    except KeyboardInterrupt:
        say("interrupted" + (f"; continue with: stampede run --resume {path}" if RunFolder(path).study.is_file() else ""))
        return INTERRUPTED
    except Exception as error:
        report_failure("the run failed", error, RunFolder(path).log)
        return FAILED
    return _finish([done])


def _run(chosen: Study, path: Path, *, resume: str | None, processes: int | None, **given: Any) -> dict[str, Any]:
    """The flow's result, run in this process on a server of its own; `given` as the command line gave it."""
    from flows.embedded_server import prefect_api
    from flows.workload_plan import read_trace

    with prefect_api() as api:
        if not RunFolder(path).conversations.is_file():
            read_trace(chosen)  # while the server starts, and so that a bad row fails before anything else
        from flows.run_study import on_threads, run_study

        api.wait()
        flow = run_study if processes is None else run_study.with_options(task_runner=on_threads(processes))
        out = None if resume else str(path)
        done: dict[str, Any] = flow(out=out, resume=resume, processes=processes, command=["stampede", *sys.argv[1:]], **given)
    return done


def rebuild_reports(runs: list[Path]) -> int:
    """Tables and page of each run anew; StudyError when one is no run folder."""
    from flows.build_report import build_report
    from flows.progress import RunProgress

    for path in runs:
        if not (path / "study.yaml").is_file():
            raise StudyError(f"RUN = {str(path)!r}: no run folder (it has no study.yaml)")
    done = []
    for path in runs:
        try:
            with RunProgress() as progress:
                done.append(build_report(path.absolute(), progress))
        except Exception as error:
            report_failure("the report failed", error, RunFolder(path).log)
            return FAILED
    return _finish(done)


def _finish(done: list[dict[str, object]]) -> int:
    voids = [cell for result in done for cell in result["void"]]  # type: ignore[attr-defined]
    if voids:
        say(f"void: the load was not delivered in {len(voids)} cells ({', '.join(voids[:3])}{' …' if len(voids) > 3 else ''})")
    for result in done:
        print(result["report"], flush=True)
    return FAILED if voids else DONE
