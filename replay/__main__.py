"""Runs one cell without Prefect (`python -m replay CELL.json`), or one after another from a pipe (`-`). It knows no study.

The pipe's protocol: a line in is {"cell": …, "folder": …}; a line out is {"cell_id", "ok", "error", "cpu_s", "attempts"}. When
the input ends, the process ends at once, in the middle of a cell too: its writer is dead and nobody waits for the answer.
"""

import argparse
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from replay.cell import Cell


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m replay", description="Run one cell in virtual time.")
    parser.add_argument("cell", metavar="CELL.json", help="a cell's JSON, or the cell.json of a finished one; - reads a pipe")
    parser.add_argument("--out", type=Path, help="the folder to write (default: ./<cell_id>)")
    given = parser.parse_args(arguments)
    if given.cell == "-":
        serve(sys.stdin, private_stdout())
        return 0
    try:
        cell = read_cell(Path(given.cell))
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"{given.cell}: not a cell: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    folder = given.out or Path(cell.cell_id)
    if folder.exists() and not _is_cell(folder, cell.cell_id):
        print(f"--out {folder}: exists and is not this cell ({cell.cell_id}); name another folder", file=sys.stderr)
        return 2
    answer = run(cell, folder)
    if not answer["ok"]:
        print(answer["error"], file=sys.stderr)
        return 1
    print(folder)
    return 0


def read_cell(path: Path) -> Cell:
    """A cell from its own JSON, or from the `spec` inside the cell.json of a finished one."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError("must be a JSON object")
    return Cell.from_json(json.dumps(data.get("spec", data)))


def _is_cell(folder: Path, cell_id: str) -> bool:
    """True where the folder holds a run of this cell, which may be run again in its place."""
    try:
        return bool(json.loads((folder / "cell.json").read_text(encoding="utf-8"))["cell_id"] == cell_id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def run(cell: Cell, folder: Path) -> dict[str, Any]:
    """Run one cell and say how it went; never raises for what the cell did."""
    from replay.virtual_cell import run_cell

    start_s = time.process_time()
    answer: dict[str, Any] = {"cell_id": cell.cell_id, "ok": True, "error": "", "attempts": 0}
    try:
        run_cell(cell, folder)
        answer["attempts"] = _rows(folder / "attempts.parquet")
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        answer |= {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return answer | {"cpu_s": time.process_time() - start_s}


def _rows(path: Path) -> int:
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)


def serve(lines: TextIO, answers: TextIO) -> None:
    """Answer every line until the input ends."""
    waiting: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=read_orders, args=(lines, waiting), daemon=True).start()
    while True:
        order = json.loads(waiting.get())
        answer = run(Cell.from_json(json.dumps(order["cell"])), Path(order["folder"]))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def read_orders(lines: TextIO, waiting: SimpleQueue[str]) -> None:
    for line in lines:
        waiting.put(line)
    os._exit(0)


def private_stdout() -> TextIO:
    """The pipe for answers; whatever else prints goes to stderr, so that no stray print breaks the protocol."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    sys.exit(main())
