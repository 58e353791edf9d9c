"""The manifest of a run: versions, commit, host, trace, profile, fidelity, times. It does not know results."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.study import Study
from replay.code import code_hash

if TYPE_CHECKING:
    from workloads.trace_table import Trace

PACKAGES = ("stampede", "prefect", "polars", "duckdb", "pyarrow", "numpy", "scipy", "altair", "pydantic", "datasets", "ray")

MAX_COMPARED = 2_000_000
"""Turns of the trace, or requests of the plan, beyond which the two are not compared: it would take minutes."""


def started(study: Study, command: list[str]) -> dict[str, Any]:
    """What is known before the first cell."""
    return {
        "study": study.name,
        "study_hash": study.resolved()["content_hash"],
        "seeds": study.seeds,
        "command": command,
        "driver": "wall" if study.is_live else "virtual",
        "started_utc": now_utc(),
        "ended_utc": None,
        "versions": versions(),
        "commit": commit(),
        "code_hash": code_hash(),
        "host": host(),
        "profile": profile_facts(study),
    }


def profile_facts(study: Study) -> dict[str, Any] | None:
    """The engine profile as run, with its fit's error and how far its context was measured: of the first pool that has one."""
    profile = next((found for pool in study.pools if (found := pool.engine_profile) is not None), None)
    if profile is None:
        return None
    return {**profile.to_json(), "extrapolated": profile.context_tokens > profile.measured_context_tokens}


def fidelity_facts(trace: "Trace", workload: Path, requests: int, seed: int) -> dict[str, Any]:
    """How one seed's plan compares with the trace: {seed, rows}, or {seed, skipped} with the reason for one that is too long."""
    from workloads.fidelity import fidelity
    from workloads.storage import read_workload

    for what, count in (("the trace has {} turns", trace.turn_count), ("the plan of one seed has {} requests", requests)):
        if count > MAX_COMPARED:
            return {"seed": seed, "skipped": f"{what.format(f'{count:,}')}, and at most {MAX_COMPARED:,} are compared"}
    return {"seed": seed, "rows": fidelity(trace, read_workload(workload))}


def versions() -> dict[str, str]:
    """Installed versions of what can change a number or a picture, Python first."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The project's git commit, `+changes` when its files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+changes" if changed else head


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def host() -> dict[str, Any]:
    """The machine, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
