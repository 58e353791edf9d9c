"""The sender beside aiperf, guidellm, inference-perf and `vllm bench serve`: one core, one stub, paced streams of 16 chunks.

Each climbs a ladder of rates until it is no longer clean, then runs at half of its highest clean rate (750 a second at most)
and, where it can, at 500; of STAMPEDE_ROUNDS (3) runs the best counts, since what a busy machine takes away is nobody's cost.
One table is printed, with every run above it and every command below. STAMPEDE_ROUND_S (4): seconds of a run; STAMPEDE_SENDERS:
only these, by name, separated by commas. `senders.py` says which variables name the peers.
"""

import os
import platform
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.benchmarks.sender_runs import Seen, run, stub_on_its_core
from tests.benchmarks.senders import OURS, SENDERS, Asked, Sender
from tests.routers.serve.compiled import compiled, pinned

pytestmark = pytest.mark.benchmark

ROUND_S = float(os.environ.get("STAMPEDE_ROUND_S", "4"))
LADDER = (25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 2500, 3000, 4000)
STEADY_RPS, HALF_RPS = 500, 750
ROUNDS = int(os.environ.get("STAMPEDE_ROUNDS", "3"))
GOAL_RPS, GOAL_CPU_MS = 1500, 0.45
GOAL_LATE_MS, GOAL_TTFT_MS, GOAL_DRIFT_MS = (0.2, 1.0), (0.5, 1.0), 0.1


@dataclass
class Figures:
    """Of one sender: `highest` clean run, the run at `half` its rate, the `steady` one at 500/s; None where there was none."""

    sender: Sender
    highest: Seen | None = None
    half: Seen | None = None
    steady: Seen | None = None
    runs: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figures]:
    stub = compiled("stub")
    if stub is None or (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        pytest.skip("needs the compiled stub (STAMPEDE_STUB), taskset and two cores")
    only = [name.strip() for name in os.environ.get("STAMPEDE_SENDERS", "").split(",") if name.strip()]
    figures: dict[str, Figures] = {}
    with stub_on_its_core(stub) as url:
        for sender in SENDERS:
            missing = sender.missing()
            if missing:
                print(f"\n{missing}")
            elif not only or sender.name in only:
                figures[sender.name] = measure(sender, url, tmp_path_factory.mktemp("runs"))
    print(table(figures, tmp_path_factory.mktemp("commands")))
    return figures


def measure(sender: Sender, url: str, where: Path) -> Figures:
    figures = Figures(sender)

    def at(rps: float) -> Seen:
        seen = run(sender, rps, ROUND_S, url, where)
        print(f"\n{sender.name} {seen}", flush=True)
        return seen

    def best_of(rps: float) -> Seen | None:
        """The first clean run of some, None where none is."""
        return next((seen for seen in (at(rps) for _ in range(ROUNDS)) if seen.clean), None)

    above = [rps for rps in LADDER if rps >= sender.first_rps]
    for rps in above:
        seen = best_of(rps)
        if seen is None:
            break
        figures.highest = seen
    for rps in reversed([rps for rps in LADDER if rps < sender.first_rps]):
        if figures.highest is not None:
            break
        figures.highest = best_of(rps)
    if figures.highest is not None:
        half = [at(min(HALF_RPS, figures.highest.rps / 2)) for _ in range(ROUNDS)]
        figures.half = min(half, key=lambda seen: abs(seen.ttft_off_ms[1]))
        if figures.highest.rps >= STEADY_RPS:
            figures.steady = min((at(STEADY_RPS) for _ in range(ROUNDS)), key=lambda seen: seen.late_ms[1])
    return figures


def table(figures: dict[str, Figures], folder: Path) -> str:
    """All figures, and how each was started."""
    names = ("", "highest clean/s", "CPU ms there", "late p50/p99 ms", "at", "TTFT off p50/p99 ms", "at half")
    rows = [names, *(_row(of) for of in figures.values())]
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(names))]
    lines = ["".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    real_time = "real-time" if "chrt" in pinned(0) else "no real-time"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}, {real_time} priority"
    asked = Asked(100, 400, "http://127.0.0.1:PORT", folder / "run")
    asked.folder.mkdir()
    commands = [f"{name}: {shlex.join(of.sender.command(asked))}" for name, of in figures.items()]
    return "\n".join(("", machine, *lines, *commands))


def _row(of: Figures) -> tuple[str, ...]:
    if of.highest is None or of.half is None:
        return (of.sender.name, "none", "", "", "", "", "")
    timely = of.steady or of.highest
    late = f"{timely.late_ms[0]:.2f}/{timely.late_ms[1]:.2f}{' (it says)' if of.sender.own_lateness else ''}"
    off = f"{of.half.ttft_off_ms[0]:.2f}/{of.half.ttft_off_ms[1]:.2f}"
    return (of.sender.name, f"{of.highest.rps:g}", f"{of.highest.cpu_ms:.2f}", late, f"{timely.rps:g}", off, f"{of.half.rps:g}")


def test_our_own_goals(measured: dict[str, Figures]) -> None:
    ours = measured[OURS]
    assert ours.highest is not None
    assert ours.half is not None
    assert ours.steady is not None
    assert ours.highest.rps >= GOAL_RPS
    assert min(ours.highest.cpu_ms, ours.steady.cpu_ms) <= GOAL_CPU_MS
    assert ours.steady.late_ms[0] <= GOAL_LATE_MS[0]
    assert ours.steady.late_ms[1] <= GOAL_LATE_MS[1]
    assert abs(ours.steady.drift_ms) <= GOAL_DRIFT_MS
    assert abs(ours.half.ttft_off_ms[0]) <= GOAL_TTFT_MS[0]
    assert abs(ours.half.ttft_off_ms[1]) <= GOAL_TTFT_MS[1]


@pytest.mark.parametrize("peer", [sender.name for sender in SENDERS if sender.name != OURS])
def test_ahead_of_each_peer_in_every_column(measured: dict[str, Figures], peer: str) -> None:
    if peer not in measured:
        pytest.skip(next(sender for sender in SENDERS if sender.name == peer).missing() or "not among STAMPEDE_SENDERS")
    ours, theirs = measured[OURS], measured[peer]
    assert ours.highest is not None
    assert ours.half is not None
    if theirs.highest is None or theirs.half is None:
        return  # it was clean at no rate
    assert ours.highest.rps > theirs.highest.rps
    assert ours.highest.cpu_ms < theirs.highest.cpu_ms
    off = min(abs(seen.ttft_off_ms[1]) for seen in (ours.half, ours.steady) if seen)  # both at more than the peer's half
    assert off < abs(theirs.half.ttft_off_ms[1])
    assert (ours.steady or ours.highest).late_ms[1] < (theirs.steady or theirs.highest).late_ms[1]
