"""From a study to the workload file of one seed. The making is the workloads package's; this only hands over the study's keys."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.grid import PlannedWorkload
from flows.shipped_traces import trace_file
from flows.study import Study, StudyError

if TYPE_CHECKING:
    from workloads.plan import Plan
    from workloads.trace_table import Trace


def read_trace(study: Study) -> "Trace":
    """The study's trace, read once a process; StudyError naming file and line for a row that cannot be read."""
    choice = study.workload
    trace = selected(read_trace_file(choice.trace, choice.source, tuple(sorted(choice.columns.items()))), study)
    if max_tokens(trace, study) < longest_answer(trace):
        raise StudyError(
            f"workload.max_tokens = {choice.max_tokens}: the trace {choice.trace!r} has answers of up to {longest_answer(trace)} "
            "tokens, which nobody may cut silently; use at least that, or null for the longest answer"
        )
    _check_usable(trace, study)
    return trace


def _check_usable(trace: "Trace", study: Study) -> None:
    """StudyError for a trace that no workload can be made of: empty, all beyond the context, or without two start times."""
    from workloads.synthesis import check_usable

    try:
        check_usable(trace, plan_of(study))
    except ValueError as error:
        raise StudyError(f"workload.trace = {study.workload.trace!r}: {error}") from error


def longest_answer(trace: "Trace") -> int:
    """Tokens of the trace's longest answer (at least 1)."""
    return max(1, int(trace.reply_tokens.max())) if trace.turn_count else 1


def max_tokens(trace: "Trace", study: Study) -> int:
    """What every client asks for at most: the study's number, or the longest answer of the trace."""
    return study.workload.max_tokens or longest_answer(trace)


def selected(trace: "Trace", study: Study) -> "Trace":
    """The sessions that the study wants of a trace."""
    from workloads.selection import Selection, select

    try:
        return select(trace, Selection.of(study.workload.select))
    except ValueError as error:
        raise StudyError(f"workload.select = {study.workload.select}: {error}") from error


def read_trace_file(trace: str, source: str | None = None, columns: tuple[tuple[str, str], ...] = ()) -> "Trace":
    """A trace by name or file, remembered as long as the file stays the same."""
    trace = trace_file(trace)
    path = Path(trace)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(trace, source, columns, stamp)


@lru_cache(maxsize=1)
def _read(trace: str, source: str | None, columns: tuple[tuple[str, str], ...], stamp: int) -> "Trace":
    from workloads.trace import load_trace

    try:
        return load_trace(trace, source, columns=dict(columns))
    except OSError as error:
        raise StudyError(f"workload.trace = {trace!r}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise StudyError(" ".join(str(error).split())) from error


def synthesize_workload(trace: "Trace", study: Study, load_rps: float, seed: int, folder: Path) -> PlannedWorkload:
    """Make one seed's workload at a base load and write it into `folder`."""
    from workloads.storage import write_workload
    from workloads.synthesis import synthesize

    workload = synthesize(trace, plan_of(study), load_rps, seed)
    if not len(workload.table):
        raise StudyError(
            f"load of {load_rps:g} rps with workload.arrival = {study.workload.arrival} plans no request: raise either"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = write_workload(workload, folder)
    return PlannedWorkload(path, path.stem, len(workload.table), plan_facts(trace, study))


def plan_facts(trace: "Trace", study: Study) -> dict[str, Any]:
    """How the workload of every seed is made: the trace's content and the plan; part of an arm's identity."""
    facts = {"trace": trace.provenance["sha256"], "select": study.workload.select, "max_tokens": max_tokens(trace, study)}
    return {**facts, **plan_of(study).to_json()}


def plan_of(study: Study) -> "Plan":
    """The study's arrivals, phases and trigger, as the workloads package takes them."""
    from workloads.plan import Plan

    return Plan(
        arrival=study.workload.arrival,
        warmup_s=study.phases.warmup_s,
        steady_s=study.phases.steady_s,
        recovery_s=study.phases.recovery_s,
        trigger=study.trigger.described(),
        events=tuple(study.events),
        mode=study.session.mode,
        stationary_start=study.workload.stationary_start,
        max_context_tokens=context_tokens(study),
        deadline_s=study.workload.deadline_s,
    )


def context_tokens(study: Study) -> int:
    """The longest context that every pool can hold: the study's own limit, or else the least of theirs."""
    return study.workload.max_context_tokens or min(pool.context_tokens for pool in study.pools)
