"""`stampede run` for a study of gateways' faults: plays it, writes the run folder, says whether what it expects was seen.

It knows neither Prefect nor a cell: no workload, no pool, no arms to compare.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf, isfinite
from pathlib import Path
from typing import Any

from flows.failure import report_failure, say
from flows.fault_study import FaultKeys, FaultStudy, bounds_of, holds_faults, load_fault_study
from flows.fault_words import done_words
from flows.manifest import commit, host, now_utc, versions
from flows.run_folder import check_new, write_aside
from flows.study import StudyError
from routers.gateways import find_gateway
from routers.gateways.faults.playing import play
from routers.gateways.faults.scenario import Scenario
from routers.gateways.faults.seen import meaning_of, seconds, value_of
from routers.gateways.installed import installed_gateways
from routers.gateways.process import GatewayFailed
from routers.gateways.programs import MissingProgram

__all__ = ["holds_faults", "is_fault_run", "rebuild_fault_page", "run_gateway_faults"]

DONE, FAILED, INTERRUPTED = 0, 1, 130
FAULTS = "faults.json"
Row = dict[str, Any]


def run_gateway_faults(study: str, *, out: str | None, sets: list[str], refused: dict[str, object] | None = None) -> int:
    """Runs it and prints the report's path: 0 where all was seen as expected, 1 where not, or where no program was found.

    `refused`: options that mean nothing here, by name; StudyError where one of them was given, or for a bad study.
    """
    for option, value in (refused or {}).items():
        if value is not None:
            raise StudyError(f"{option} {value}: a study of gateways' faults has no use for it; allowed: --out, --set")
    chosen = load_fault_study(study, sets)
    folder = Path(out) if out is not None else Path("runs") / f"{chosen.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    check_new(folder)
    folder = folder.absolute()
    try:
        return _run(chosen, folder)
    except KeyboardInterrupt:
        say("interrupted; a study of gateways' faults is run whole: begin again")
        return INTERRUPTED
    except Exception as error:
        report_failure("the run failed", error, folder / "run.log")
        return FAILED


def _run(study: FaultStudy, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / "study.yaml", study.to_yaml())
    facts = _facts(study)
    write_aside(folder / "manifest.json", json.dumps(facts, indent=1))
    rows: list[Row] = []
    for row in played(study, folder / "gateways"):
        rows.append(row)
        say(f"{len(rows)} of {sum(len(f.scenarios()) for f in study.faults)}: fault {row['number']}, {_said(row)}")
    facts["ended_utc"] = now_utc()
    write_aside(folder / "manifest.json", json.dumps(facts, indent=1))
    write_aside(folder / FAULTS, json.dumps(rows, indent=1))
    page = rebuild_fault_page(folder)
    code = verdict(rows)
    print(page, flush=True)
    return code


def is_fault_run(folder: Path) -> bool:
    """Whether a run folder holds a finished study of this kind."""
    return (folder / FAULTS).is_file()


def rebuild_fault_page(folder: Path) -> Path:
    """The page of a run folder, made from its files alone; StudyError where one of them is missing or no JSON."""
    from reports.fault_page import build_fault_page

    try:
        manifest, rows = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("manifest.json", FAULTS))
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder}: no finished run of gateways' faults: {error}") from error
    return build_fault_page({"title": manifest["title"], "manifest": manifest, "rows": rows}, folder / "report.html")


def verdict(rows: list[Row]) -> int:
    """The exit code, and a line on stderr where it is not 0."""
    ran = [row for row in rows if not row["skipped"]]
    otherwise = [row for row in ran if not row["as_expected"]]
    if not ran:
        say("nothing was run: no gateway's program was found; set STAMPEDE_GATEWAYS to the folder that holds them")
    if otherwise:
        names = "; ".join(f"fault {row['number']} of {row['gateway']} with {row['policy']}" for row in otherwise[:3])
        more = " …" if len(otherwise) > 3 else ""
        say(f"{len(otherwise)} of {len(ran)} were seen otherwise than the study expects: {names}{more}")
    return DONE if ran and not otherwise else FAILED


def played(study: FaultStudy, folder: Path) -> Iterator[Row]:
    """One row for each fault, gateway and policy, as it is done; logs and configurations stay in `folder`."""
    for place, fault in enumerate(study.faults):
        for arms in fault.scenarios():
            first = arms[0]
            yield _row(fault, arms, folder / f"{place}-{first.gateway}-{first.policy}")


def _row(fault: FaultKeys, arms: list[Scenario], folder: Path) -> Row:
    """`reproduced`: what is expected of the default arm was seen there. `in_bare`: whether the same was seen in the bare arm,
    None where that was not run. `as_expected`: every arm did what is expected of it."""
    first = arms[0]
    head = {"number": fault.number, "title": fault.title, "kind": fault.kind, "done": done_words(fault)}
    head |= {"gateway": first.gateway, "policy": first.policy}
    row: Row = {**head, "version": None, "skipped": None, "failed": None, "arms": {}}
    try:
        for scenario in arms:
            seen = play(scenario, folder / scenario.arm)
            row["version"], row["policy_at_work"] = seen.version, seen.policy
            row["arms"][scenario.arm] = _arm(fault, scenario.arm, seen.steps)
    except MissingProgram:
        why = f"its program {find_gateway(first.gateway).program} was not found"
        return row | {"skipped": why, "reproduced": None, "in_bare": None, "as_expected": None}
    except GatewayFailed as failed:
        return row | {"failed": str(failed), "reproduced": False, "in_bare": None, "as_expected": False}
    bare = row["arms"].get("bare")
    return row | {
        "reproduced": _all_held(row["arms"]["default"]["expected"]),
        "in_bare": None if bare is None else _all_held(_held(fault.wanted("default"), bare["steps"])),
        "as_expected": all(_all_held(arm["expected"]) for arm in row["arms"].values()),
    }


def _arm(fault: FaultKeys, arm: str, steps: dict[str, dict[str, float]]) -> Row:
    plain = {step: {name: _plain(value) for name, value in numbers.items()} for step, numbers in steps.items()}
    return {"steps": plain, "expected": _held(fault.wanted(arm), plain)}


def _held(expect: dict[str, Any], steps: dict[str, dict[str, Any]]) -> list[Row]:
    """One row an expectation; `value` None: it was not seen at all, or (a time) never came."""
    rows = []
    for name, bounds in expect.items():
        step, _, quantity = name.partition(".")
        least, most = bounds_of(name, bounds)
        value = value_of(steps[step], quantity)
        known = {"step": step, "quantity": quantity, "meaning": meaning_of(quantity), "seconds": seconds(quantity)}
        limits = {"least": None if least == -inf else least, "most": None if most == inf else most}
        rows.append({**known, **limits, "value": value, "held": value is not None and least <= value <= most})
    return rows


def _all_held(expected: list[Row]) -> bool:
    return all(row["held"] for row in expected)


def _plain(value: float) -> float | None:
    """As JSON can hold it: a time that never came is null."""
    return round(value, 6) if isfinite(value) else None


def _facts(study: FaultStudy) -> Row:
    """The manifest: what is known before the first gateway is started."""
    wanted = {name for fault in study.faults for name in fault.gateways}
    found = [g for g in installed_gateways() if g.name in wanted]
    return {
        "study": study.name,
        "title": study.title,
        "study_hash": study.resolved()["content_hash"],
        "driver": "gateways",
        "started_utc": now_utc(),
        "ended_utc": None,
        "versions": versions(),
        "commit": commit(),
        "host": host(),
        "gateways": [{"name": g.name, "version": g.version if g.program else None} for g in found],
    }


def _said(row: Row) -> str:
    who = f"{row['gateway']} with {row['policy']}"
    if row["skipped"]:
        return f"{who}: skipped ({row['skipped']})"
    return f"{who}: {'as expected' if row['as_expected'] else row['failed'] or 'otherwise than expected'}"
