"""Runs one cell on a running pool and leaves its folder, whole or not at all. It computes no statistics.

Every replica is emptied and verified, then comes what stands in front, then senders, all on one epoch; the workload's events
are carried out at their times.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from replay.cell import Cell
from replay.measured.check import check_live
from replay.measured.decisions import read_tries, write_decisions
from replay.measured.disturbance import Disturbance
from replay.measured.front import Front, front_of
from replay.measured.place import Place
from replay.measured.prepared import Prepared, prepare
from replay.measured.samples import FrontWatch, card_watch, write_samples
from replay.measured.tries import with_tries
from replay.send.merge import Merged, check_rows, merge_parts, write_merged
from replay.send.processes import SenderFailed, ready_senders
from replay.send.spec import TEXT, SendSpec
from replay.virtual_cell import NotConserved, describe_cell
from replicas.launch.failed import EngineFailed, tail
from replicas.launch.scrape import Scraper
from routers.gateways import GATEWAYS, find_gateway
from routers.gateways.process import GatewayFailed
from workloads.storage import read_workload
from workloads.workload import Workload

LEAD_S = 1.5  # from the order to begin to the epoch: every gauge has been read once by then
_FAILURES = (EngineFailed, GatewayFailed, SenderFailed, NotConserved, ValueError)


def run_measured_cell(cell: Cell, place: Place, folder: Path) -> None:
    """Send the cell's workload to the pool and write `folder` (aside, then renamed): attempts, samples, decisions, the front's
    and the cards' samples, cell.json, and `logs/`.

    Raises, in one line: ValueError for what cannot be run, EngineFailed, GatewayFailed or SenderFailed for what did not do its
    part, NotConserved when the books do not balance. The logs are then in `<folder>.failed`, and the pool is left as it is: the
    next cell brings back what is dead.
    """
    began_s = time.time()
    workload = read_workload(Path(cell.workload))
    _check(cell, place, workload)
    with _aside(folder) as aside:
        logs = aside / "logs"
        logs.mkdir()
        prepared = prepare(place)
        with front_of(cell, place, logs / "front") as front:
            run = _play(cell, place, workload, front, logs)
            facts = _known(cell, workload, prepared, front)
        run |= {"wall_s": time.time() - began_s}
        _write(cell, facts | run, front, aside)


def _check(cell: Cell, place: Place, workload: Workload) -> None:
    replicas = place.pool.replicas
    if len(replicas) != cell.pool.replicas:
        raise ValueError(f"the pool has {len(replicas)} replicas, and the cell is for {cell.pool.replicas}")
    launched = all(replica.process is not None for replica in replicas)
    if problems := check_live(cell, workload.events, launched):
        raise ValueError("; ".join(problems))
    if cell.router.gateway in GATEWAYS and not (find_gateway(cell.router.gateway).takes_token_ids or place.tokenizer):
        raise ValueError(f"{cell.router.gateway} refuses token ids: its prompts are text, which needs the model's tokenizer")


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Where the cell is written; it becomes `folder` at the end, and after a failure its logs lie beside it."""
    aside, failed = folder.with_name(f".{folder.name}.{os.getpid()}"), folder.with_name(f"{folder.name}.failed")
    for old in (failed, *folder.parent.glob(f".{folder.name}.*")):  # of a run that was killed
        shutil.rmtree(old, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except _FAILURES as error:
        (aside / "logs").rename(failed)
        error.add_note(f"logs: {failed}")
        raise
    finally:
        if not (aside / "cell.json").is_file():
            shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _play(cell: Cell, place: Place, workload: Workload, front: Front, logs: Path) -> dict[str, Any]:
    """The run itself; what it says of itself, with the merged rows and samples under names that `_write` takes out."""
    with ExitStack() as stack:
        senders = stack.enter_context(ready_senders(_specs(cell, place, front, logs), logs))
        epoch_s = time.monotonic() + LEAD_S
        scraper = Scraper([replica.source for replica in place.pool.replicas], epoch_s, place.scrape_s)
        scraper.start()
        stack.callback(scraper.stop)
        watch = FrontWatch(front, epoch_s)
        disturbance = Disturbance(workload.events, place.pool.replicas, epoch_s, place.ready_s)
        cards, no_card = card_watch(place.pool, epoch_s)
        if time.monotonic() > epoch_s - 0.2:
            raise EngineFailed(f"the replicas took longer than {LEAD_S:g} s to tell their gauges once: they are not idle")
        watch.start()
        disturbance.start()
        stack.callback(disturbance.finish)
        before = front.usage()
        senders.begin(epoch_s=epoch_s)
        parts = senders.wait()
        after = front.usage()
        front.check()
        disturbance.finish()
        _check_engines(place)
        rows, front_rows = scraper.stop(), watch.stop()
        card_rows = cards.stop() if cards else []
    merged = merge_parts(parts)
    return {
        "_rows": (merged, rows, front_rows, card_rows, epoch_s),
        "events": disturbance.records,
        "carried_out": disturbance.done,
        "problems": disturbance.problems,
        "scrape": {"missed": scraper.missed, "front_missed": watch.missed},
        "prefix": {
            row.replica_id: {"hit_tokens": row.prefix_hit_tokens, "query_tokens": row.prefix_query_tokens}
            for row in sorted({**{r.replica_id: r for r in rows}, **scraper.last}.values(), key=lambda r: r.replica_id)
        },
        "gpu": no_card,
        "front_cpu_s": after["cpu_s"] - before["cpu_s"],
        "front_memory_bytes": after["memory_bytes"],
    }


def _specs(cell: Cell, place: Place, front: Front, logs: Path) -> list[SendSpec]:
    return [
        SendSpec(
            cell,
            front.urls,
            str(logs),
            target=front.target,
            sender=i,
            senders=place.senders,
            model=place.model,
            prompt=place.prompt if front.takes_token_ids else TEXT,
            vocabulary_size=place.vocabulary_size,
            tokenizer=place.tokenizer,
            length=place.length,
            api_key_env=place.pool.replicas[0].api.api_key_variable or "",
            core=place.cores[i % len(place.cores)] if place.cores else None,
            lag_limit_s=place.lag_limit_s,
            events_elsewhere=True,
            session_header=front.session_header,
        )
        for i in range(place.senders)
    ]


def _check_engines(place: Place) -> None:
    """EngineFailed for a replica that has ended though no event killed it."""
    for replica in place.pool.replicas:
        if replica.process is not None and (code := replica.process.exit_code) is not None:
            log = replica.process.log
            raise EngineFailed(
                f"replica {replica.replica_id} ({replica.engine} at {replica.url}) ended with {code} while the cell ran; "
                f"its log {log} ends: {tail(log, 1)}"
            )


def _known(cell: Cell, workload: Workload, prepared: Prepared, front: Front) -> dict[str, Any]:
    engines = sorted({f"{engine['engine']} {engine['version'] or ''}".strip() for engine in prepared.engines})
    return describe_cell(cell, workload, " + ".join(engines)) | {
        "flushed": [asdict(one) for one in prepared.flushed],
        "unverified": prepared.unverified,
        "restarted": prepared.restarted,
        "engines": prepared.engines,
        "gateway": dict(front.facts),
    }


def _write(cell: Cell, facts: dict[str, Any], front: Front, aside: Path) -> None:
    merged, rows, front_rows, card_rows, epoch_s = facts.pop("_rows")
    problems, own = facts.pop("problems"), merged.facts()
    facts["gateway"] |= {"cpu_s": facts.pop("front_cpu_s"), "memory_bytes": facts.pop("front_memory_bytes")}
    void = "; ".join(text for text in (own["void"], *problems) if text)
    write_samples(rows, front_rows, card_rows, aside)
    tries = read_tries(front.log)
    if front.log is not None:
        merged = replace(merged, table=with_tries(merged.table, tries, epoch_s))
        check_rows(merged.counts, merged.table)
    write_decisions(tries, cell.pool.replicas, epoch_s, aside / "decisions.parquet")
    for part in (aside / "logs").glob("sender-*/"):
        shutil.rmtree(part)
    if front.log is not None:
        front.log.unlink()
    _write_merged(merged, facts, void, aside)


def _write_merged(merged: Merged, facts: dict[str, Any], void: str, aside: Path) -> None:
    """cell.json last: with it the cell is whole."""
    write_merged(merged, facts, aside)
    path = aside / "cell.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"void": void}, indent=1))
