"""`stampede probe` around its flow: embedded server, exit code, last line, log of a failure. It knows no phase."""

import sys
from pathlib import Path

from flows.failure import report_failure, say
from flows.run_folder import RunFolder
from flows.study import StudyError

DONE, FAILED, INTERRUPTED = 0, 1, 130
DEFAULT = "probe"


def probe_to_report(
    study: str | None, *, out: str | None, sets: list[str], resume: str | None, phases: str | None, processes: int | None
) -> int:
    """Run the flow in this process and print the report's path; returns the exit code. StudyError for a bad study."""
    from flows.choose_run import choose
    from flows.embedded_server import prefect_api
    from flows.probe.plan import checked

    chosen, path = choose(study or (None if resume else DEFAULT), out, sets, None, resume)
    wanted = [phase.strip() for phase in phases.split(",")] if phases is not None else []
    checked(chosen, wanted)
    folder = RunFolder(Path(path))
    try:
        with prefect_api() as api:
            from flows.probe.flow import run_probe
            from flows.run_study import on_threads
            from flows.workload_plan import read_trace

            if not folder.conversations.is_file():
                read_trace(chosen)
            api.wait()
            flow = run_probe if processes is None else run_probe.with_options(task_runner=on_threads(processes))
            done = flow(
                study=chosen.model_dump_json(),
                path=str(path),
                resume=resume is not None,
                phases=wanted,
                processes=processes,
                command=["stampede", *sys.argv[1:]],
            )
    except StudyError:
        raise
    except KeyboardInterrupt:
        say("interrupted" + (f"; continue with: stampede probe --resume {path}" if folder.study.is_file() else ""))
        return INTERRUPTED
    except Exception as error:
        report_failure("the probe failed", error, folder.log)
        return FAILED
    print(done["report"], flush=True)
    return DONE


def rebuild_reports(runs: list[Path]) -> int:
    """Tables and page of each run anew, probes and other runs; the exit code. StudyError when one is no run folder."""
    from flows.probe.rebuild import is_probe, rebuild_probe
    from flows.run_command import rebuild_reports

    for run in runs:
        if not RunFolder(run).study.is_file():
            raise StudyError(f"RUN = {str(run)!r}: no run folder (it has no study.yaml)")
    worst = DONE
    for run in runs:
        if not is_probe(run):
            worst = max(worst, rebuild_reports([run]))
            continue
        try:
            print(rebuild_probe(run.absolute()), flush=True)
        except StudyError:
            raise
        except Exception as error:
            report_failure("the report failed", error, RunFolder(run).log)
            return FAILED
    return worst
