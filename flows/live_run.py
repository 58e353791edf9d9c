"""One live pool through all its cells: started, warmed up, one cell at a time, stopped. It knows no Prefect and no result."""

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.live_pool import ROUTER, LivePool
from flows.progress import RunProgress, Stage
from flows.replay_processes import CellFailed, title
from flows.run_folder import RunFolder
from flows.study import MAX_SENDERS, Study, StudyError
from flows.study_parts import DIRECT
from replay.cell import Cell
from replay.measured import Place
from replay.send.self_test import self_test
from replicas.launch.facts import facts
from replicas.launch.pool import Pool, running_pool

SENDER_RPS, SENDER_CHUNKS_PER_S = 700.0, 10_000.0
"""What `senders: auto` gives to one sender at most: half of what one core sends cleanly."""
SELF_TEST_RPS = 20.0, 500.0
SELF_TEST_REQUESTS, SELF_TEST_S = 100, 3.0
Measure = Callable[[Cell, Place, Path], None]
Note = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Sending:
    """How a study's load is sent: so many sender processes, prompts as token ids or text, the planned rate at its highest, and
    how long a cell sends."""

    senders: int
    prompt: str
    peak_rps: float
    cell_s: float


def sending(study: Study, load_rps: float, mean_output_tokens: float) -> Sending:
    """`senders` as the study says, or enough of them for its highest load. Text, for all arms alike, where a gateway of the study
    takes no token ids."""
    from routers.gateways import find_gateway

    k = float(study.trigger.described().get("k", 1.0))
    peak_rps = load_rps * max(1.0, k)
    named = {router.gateway for router in study.routers if router.gateway not in (None, DIRECT)}
    text = any(not find_gateway(str(name)).takes_token_ids for name in named)
    needed = max(peak_rps / SENDER_RPS, peak_rps * mean_output_tokens / SENDER_CHUNKS_PER_S)
    senders = study.senders if study.senders != "auto" else min(max(1, math.ceil(needed)), os.cpu_count() or 1, MAX_SENDERS)
    return Sending(senders, "text" if text else "ids", peak_rps, study.horizon_s)


def sender_tested(plan: Sending) -> dict[str, Any]:
    """The sender tried on a stub whose timing is known, at one sender's share of the load, as far as seconds can tell."""
    least, most = SELF_TEST_RPS
    rps = min(max(plan.peak_rps / plan.senders, least), most)
    return self_test(rps, max(SELF_TEST_S, SELF_TEST_REQUESTS / rps))


def words_of_test(result: dict[str, Any]) -> str:
    """The self-test in a line."""
    errors = (
        f"send p99 {1e3 * result['send_error_p99_s']:.2f} ms, first token p99 {1e3 * result['ttft_error_p99_s']:.2f} ms off, "
        f"at {result['rps']:g} requests/s"
    )
    if result["passed"]:
        return errors
    reasons = ", ".join(result["misses"]) or f"{result['requests'] - result['ok']} answers were not well"
    return f"missed its limits ({reasons}): {errors}"


def run_pool(
    pool: LivePool, cells: Sequence[Cell], plan: Sending, folder: RunFolder, progress: RunProgress, measure: Measure, note: Note
) -> None:
    """Every cell on the pool, in the order given; `measure` runs one, `note` is told of the engines once they answer.

    The pool is gone afterwards, however it ends. CellFailed at the first cell that cannot be run (none is tried again), in one
    line with its logs; EngineFailed when the pool does not start.
    """
    logs = _log_folder(folder, pool)
    stage = progress.stage(f"start {pool.title}", 1)
    with _running(pool, logs) as running:
        note([{"pool": pool.title, **facts(replica)} for replica in running.replicas])
        stage.finish(f"{len(cells)} cells of {plan.cell_s:g} s, and a drain each")
        place = _place(pool, running, plan)
        stage = progress.stage(f"on {pool.title}", len(cells))
        for i, cell in enumerate(cells):
            _measure(cell, place, folder, logs, measure)
            stage.advance(note=_left(stage, i + 1, len(cells)))


@contextmanager
def _running(pool: LivePool, logs: Path) -> Iterator[Pool]:
    """Started, or reached where it is remote, and warmed up."""
    logs.mkdir(parents=True, exist_ok=True)
    with running_pool(pool.replicas, logs) as running:
        running.warm_up()
        yield running


def _measure(cell: Cell, place: Place, folder: RunFolder, logs: Path, measure: Measure) -> None:
    try:
        measure(cell, place, folder.cells / cell.cell_id)
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", []))
        raise CellFailed(f"cell {cell.cell_id} ({title(cell)}): {said[0]}{notes}; engines' logs: {logs}") from error


def _place(pool: LivePool, running: Pool, plan: Sending) -> Place:
    if plan.prompt == "text" and not pool.tokenizer:
        raise StudyError(f"pool {pool.title}: a gateway of this study takes text only, and there is no tokenizer of it here")
    return Place(
        pool=running,
        model=pool.model,
        router_command=ROUTER,
        senders=plan.senders,
        prompt=plan.prompt,
        tokenizer=pool.tokenizer,
        vocabulary_size=pool.vocabulary_size,
        length=pool.length,
    )


def _log_folder(folder: RunFolder, pool: LivePool) -> Path:
    """A new one each time: a resumed run keeps the logs of the one that broke."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", pool.title).strip("-").lower() or "pool"
    taken = len([there for there in folder.engines.glob(f"{name}*") if re.fullmatch(rf"{name}(\.\d+)?", there.name)])
    return folder.engines / (f"{name}.{taken}" if taken else name)


def _left(stage: Stage, done: int, total: int) -> str:
    """What is left, by the cells so far."""
    seconds = stage.elapsed_s / done * (total - done)
    return f"about {time.strftime('%H:%M:%S', time.gmtime(seconds)) if seconds >= 3600 else f'{seconds / 60:.1f} min'} left"
