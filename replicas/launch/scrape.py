"""Reads every replica's metrics once an interval, on the run's clock, while a cell runs. It knows no load and writes no file."""

import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from replicas.launch.api import EngineApi
from replicas.launch.failed import EngineFailed
from replicas.launch.gauges import Reading, SinceStart, read

PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class GaugeRow:
    """One replica's gauges at `t_us` from the run's start, the fields of a sample row; real engines tell no `queue_age_us`."""

    t_us: int
    replica_id: int
    running: int
    waiting: int
    kv_used: float
    prefix_hit_tokens: int
    prefix_query_tokens: int
    preemptions: int
    queue_age_us: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where one replica's metrics are, and whose they are."""

    replica_id: int
    engine: str
    api: EngineApi


def take(source: Source, timeout_s: float) -> Reading:
    """One reading; EngineFailed when none comes."""
    status, text = source.api.get("/metrics", timeout_s)
    if status != 200:
        raise EngineFailed(f"{source.api.url}/metrics: HTTP {status}")
    try:
        return read(text, source.engine)
    except ValueError as error:
        raise EngineFailed(f"{source.api.url}: {error}") from error


class Scraper:
    """Threads, one a replica, so that a stopped replica holds up no other.

    `epoch_s` is the run's start on `time.monotonic()`. A row's time is when the answer came, and counters count from `start()`.
    A slow answer is waited for, `PATIENCE_S` at most: a replica in trouble is what one wants to see. After `stop`, `last` holds a
    further reading, off the ticks, of each replica that still answers: where its counters ended.
    """

    def __init__(self, sources: Sequence[Source], epoch_s: float, interval_s: float = 1.0) -> None:
        if interval_s <= 0:
            raise ValueError(f"interval_s is {interval_s!r}; allowed: above 0")
        self._sources, self._epoch_s, self._interval_s = sources, epoch_s, interval_s
        self._over = threading.Event()
        self._rows: dict[int, list[GaugeRow]] = {source.replica_id: [] for source in sources}
        self._missed: dict[int, int] = dict.fromkeys(self._rows, 0)
        self._threads: list[threading.Thread] = []
        self.last: dict[int, GaugeRow] = {}

    def start(self) -> None:
        """Read every replica once, for the counters' zero (EngineFailed when one does not answer), then go on by threads."""
        firsts = [SinceStart(take(source, timeout_s=10.0)) for source in self._sources]
        for source, since in zip(self._sources, firsts, strict=True):
            thread = threading.Thread(target=self._follow, args=(source, since), daemon=True, name=f"scrape-{source.replica_id}")
            thread.start()
            self._threads.append(thread)

    def stop(self) -> list[GaugeRow]:
        """All rows so far, in order of time and replica."""
        self._over.set()
        for thread in self._threads:
            thread.join(self._interval_s + PATIENCE_S + 1.0)
        return sorted((row for rows in self._rows.values() for row in list(rows)), key=lambda row: (row.t_us, row.replica_id))

    @property
    def missed(self) -> dict[int, int]:
        """Ticks without a row of their own, by replica."""
        return dict(self._missed)

    def _follow(self, source: Source, since: SinceStart) -> None:
        """Ticks at whole intervals from the run's start; one that is already past is left out, not made up for."""
        tick = max(0, self._next_tick())
        while not self._over.wait(max(0.0, self._epoch_s + tick * self._interval_s - time.monotonic())):
            try:
                self._rows[source.replica_id].append(self._row(source, since))
            except EngineFailed:
                self._missed[source.replica_id] += 1
            following = max(tick + 1, self._next_tick())
            self._missed[source.replica_id] += following - tick - 1
            tick = following
        with suppress(EngineFailed):
            self.last[source.replica_id] = self._row(source, since)

    def _next_tick(self) -> int:
        return math.floor((time.monotonic() - self._epoch_s) / self._interval_s) + 1

    def _row(self, source: Source, since: SinceStart) -> GaugeRow:
        reading = take(source, PATIENCE_S)
        t_us = round((time.monotonic() - self._epoch_s) * 1e6)
        hits, queries, preemptions = since.counters(reading)
        gauges = (reading.running, reading.waiting, reading.kv_used)
        return GaugeRow(t_us, source.replica_id, *gauges, hits, queries, preemptions)
