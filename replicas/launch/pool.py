"""Starts the replicas of a live pool, launched and remote, of either engine: all of them or none. It knows no router."""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from replicas.launch.failed import EngineFailed
from replicas.launch.ports import free_port
from replicas.launch.process import STOP_S
from replicas.launch.replica import READY_S, RemoteSpec, Replica, launched_replica, remote_replica, warm_up
from replicas.launch.reset import Flushed, reset
from replicas.launch.spec import EngineSpec


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas that answer, in the order of their specs; their ids are their places."""

    replicas: tuple[Replica, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(replica.url for replica in self.replicas)

    def warm_up(self) -> list[float]:
        """Seconds it took each replica; see `replica.warm_up`. Reset afterwards: the cache holds its prompts."""
        return [warm_up(replica) for replica in self.replicas]

    def reset(self, patience_s: float = 10.0) -> list[Flushed]:
        """Every cache empty and verified, one replica after another; the first that is not raises EngineFailed."""
        return [reset(replica, patience_s) for replica in self.replicas]

    def stop(self, grace_s: float = STOP_S) -> None:
        """End all that was launched here, at the same time; EngineFailed, after the last, for those that would not end."""
        _stop_all(self.replicas, grace_s)


@contextmanager
def running_pool(
    specs: Sequence[EngineSpec | RemoteSpec], log_folder: Path, at_once: int | None = None, ready_s: float = READY_S
) -> Iterator[Pool]:
    """A pool until the block ends, however it ends; see `start_pool`."""
    pool = start_pool(specs, log_folder, at_once, ready_s)
    try:
        yield pool
    finally:
        pool.stop()


def start_pool(
    specs: Sequence[EngineSpec | RemoteSpec], log_folder: Path, at_once: int | None = None, ready_s: float = READY_S
) -> Pool:
    """Start at most `at_once` at a time (default: half the cores, 1 to 4) and wait for all.

    The first that fails (EngineFailed, with its log's end) ends the others too. ValueError for a port given twice.
    """
    if not specs:
        raise ValueError("the pool has no replicas; name one or more")
    replicas = _planned(specs, log_folder)
    limit = at_once or max(1, min(4, (os.cpu_count() or 1) // 2))
    given_up = threading.Event()
    with ThreadPoolExecutor(limit, thread_name_prefix="start-replica") as threads:
        futures = [threads.submit(_start, i, spec, replicas, ready_s, given_up) for i, spec in enumerate(specs)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            _raise_first(done)
        except BaseException:
            given_up.set()
            _end_starts(futures, replicas)
            raise
    return Pool(tuple(replicas[i] for i in range(len(specs))))


def _planned(specs: Sequence[EngineSpec | RemoteSpec], log_folder: Path) -> dict[int, Replica]:
    """The launched ones by id, each with its port."""
    taken = [(spec.host, spec.port) for spec in specs if isinstance(spec, EngineSpec) and spec.port]
    for address in taken:
        if taken.count(address) > 1:
            raise ValueError(
                f"port {address[1]} is given to {taken.count(address)} replicas; allowed: each its own, or 0 for any"
            )
    found = {}
    for i, spec in enumerate(specs):
        if isinstance(spec, EngineSpec):
            found[i] = launched_replica(i, _with_port(spec, taken), log_folder)
    return found


def _with_port(spec: EngineSpec, taken: list[tuple[str, int]]) -> EngineSpec:
    while not spec.port:
        port = free_port(spec.host)
        if (spec.host, port) not in taken:
            taken.append((spec.host, port))
            return replace(spec, port=port)
    return spec


def _start(
    i: int, spec: EngineSpec | RemoteSpec, replicas: dict[int, Replica], ready_s: float, given_up: threading.Event
) -> None:
    if given_up.is_set():
        return
    if isinstance(spec, RemoteSpec):
        replicas[i] = remote_replica(i, spec, ready_s)
    else:
        replicas[i].start(ready_s)


def _raise_first(futures: Iterable["Future[None]"]) -> None:
    for future in futures:
        future.result()


def _end_starts(futures: Sequence["Future[None]"], replicas: dict[int, Replica]) -> None:
    """Until no start is under way and nothing runs: one whose engine is taken away fails at once."""
    for future in futures:
        future.cancel()
    while True:
        over = all(future.done() for future in futures)
        _stop_all(tuple(replicas.values()), grace_s=2.0)
        if over:
            return
        time.sleep(0.1)


def _stop_all(replicas: Sequence[Replica], grace_s: float) -> None:
    with ThreadPoolExecutor(max(1, len(replicas)), thread_name_prefix="stop-replica") as threads:
        futures = [threads.submit(replica.stop, grace_s) for replica in replicas]
        wait(futures)
    if errors := [str(error) for future in futures if (error := future.exception())]:
        raise EngineFailed("; ".join(errors))
