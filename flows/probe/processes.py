"""The children of a probe, one line each way. It does not know which cells or in what order."""

import sys
from collections.abc import Sequence
from dataclasses import asdict

from flows.probe.evidence import answer_of
from flows.replay_processes import CellFailed, ReplayProcess, ReplayProcesses
from flows.run_folder import RunFolder
from reports.probe.asks import Answer, Ask


class ProbeProcesses(ReplayProcesses):
    """Children that run asks of one run folder."""

    def __init__(self, count: int, folder: RunFolder) -> None:
        super().__init__(count, folder.log, (sys.executable, "-m", "flows.probe.child", str(folder.path)))

    def ask(self, process: ReplayProcess, ask: Ask, calm: Sequence[str]) -> Answer:
        """The answer to one ask; CellFailed, naming the cell, when it raises or when the child dies."""
        found = process.ask({"ask": asdict(ask), "calm": list(calm)})
        if found is None:
            raise CellFailed(f"{title(ask)}: its process died (exit code {process.exit_code()})")
        if not found["ok"]:
            raise CellFailed(f"{title(ask)}: {found['error']}")
        return answer_of(found["answer"])


def title(ask: Ask) -> str:
    """An ask in words."""
    without = f", {ask.variant}" if ask.variant else ""
    return f"{ask.phase} of {ask.router}, {ask.guard}{without} at {ask.load_rps:g} rps, trigger {ask.trigger}, seed {ask.seed}"
