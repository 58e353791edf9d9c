"""The child that runs asks from a pipe (`python -m flows.probe.child RUN`), one after another. It does not know what comes next.

A line in is {"ask": …, "calm": [cell ids]}, a line out {"ok", "error", "answer"}. When the input ends, the process ends at once.
"""

import json
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from flows.probe.run_cell import Scene, run_cell
from flows.probe.run_files import read_scene
from replay.__main__ import private_stdout, read_orders
from reports.probe.asks import Ask


def ask_of(data: dict[str, Any]) -> Ask:
    """An ask from its plain data."""
    return Ask(**{**data, "pieces": tuple((float(factor), float(for_s)) for factor, for_s in data["pieces"])})


def answer(scene: Scene, order: dict[str, Any]) -> dict[str, Any]:
    """What goes back; never raises for what a cell did."""
    try:
        found = run_cell(scene, ask_of(order["ask"]), tuple(order["calm"]))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())}", "answer": None}
    return {"ok": True, "error": "", "answer": asdict(found)}


def main(arguments: list[str]) -> int:
    answers = private_stdout()
    waiting: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=read_orders, args=(sys.stdin, waiting), daemon=True).start()
    scene = read_scene(Path(arguments[0]))
    while True:
        answers.write(json.dumps(answer(scene, json.loads(waiting.get()))) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
