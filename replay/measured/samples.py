"""What is read once a second while a cell runs: the front's own use and numbers, and cards. Rows only; it draws no conclusion."""

import json
import threading
import time
import urllib.request
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path

from replay.measured.front import Front
from replay.row_log import RowLog
from replay.rows import ReplicaSample
from replicas.launch.cards import CardRow, Cards, CardWatch
from replicas.launch.pool import Pool
from replicas.launch.scrape import GaugeRow

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_PATIENCE_S = 2.0


@dataclass(slots=True)
class GatewaySample:
    """The front at `t_us` from the run's start: CPU seconds of its processes since they began, resident memory, and what its
    /metrics says ({series: value} as JSON, histograms' buckets left out; "" where it says nothing)."""

    t_us: int
    cpu_s: float
    memory_bytes: int
    metrics: str


@dataclass(slots=True)
class CardSample:
    """One card: see `CardRow`."""

    t_us: int
    card: str
    busy: float
    memory_used_bytes: int
    memory_bytes: int


class FrontWatch:
    """Reads a front once an interval in a thread of its own; `missed` counts readings of its metrics that did not come."""

    def __init__(self, front: Front, epoch_s: float, interval_s: float = 1.0) -> None:
        self._front, self._epoch_s, self._interval_s = front, epoch_s, interval_s
        self._over = threading.Event()
        self.rows: list[GatewaySample] = []
        self.missed = 0
        self._thread = threading.Thread(target=self._follow, daemon=True, name="front")

    def start(self) -> None:
        if self._front.process is not None:
            self._thread.start()

    def stop(self) -> list[GatewaySample]:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(self._interval_s + _PATIENCE_S + 1.0)
        return list(self.rows)

    def _follow(self) -> None:
        tick = 0
        while not self._over.wait(max(0.0, self._epoch_s + tick * self._interval_s - time.monotonic())):
            self.rows.append(self._read())
            tick = max(tick + 1, int((time.monotonic() - self._epoch_s) / self._interval_s) + 1)

    def _read(self) -> GatewaySample:
        t_us, used = round((time.monotonic() - self._epoch_s) * 1e6), self._front.usage()
        return GatewaySample(t_us, used["cpu_s"], int(used["memory_bytes"]), self._metrics())

    def _metrics(self) -> str:
        if not self._front.metrics_url:
            return ""
        try:
            with _OPENER.open(self._front.metrics_url, timeout=_PATIENCE_S) as answer:
                return json.dumps(series_of(answer.read().decode(errors="replace")))
        except (OSError, HTTPException):
            self.missed += 1
            return ""


def series_of(exposition: str) -> dict[str, float]:
    """Every series of Prometheus' text format but histograms' buckets."""
    found: dict[str, float] = {}
    for line in exposition.splitlines():
        name, _, value = line.rpartition(" ")
        if not name or line.startswith("#") or name.partition("{")[0].endswith("_bucket"):
            continue
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return {name: value for name, value in found.items() if value == value and abs(value) != float("inf")}


def card_watch(pool: Pool, epoch_s: float) -> tuple[CardWatch | None, str]:
    """A watch of the pool's cards, started; or why there is none."""
    used = dict.fromkeys(card for replica in pool.replicas if replica.spec for card in replica.spec.gpus)
    if not used:
        return None, "no card: every replica runs on the CPU, is simulated or remote"
    cards = Cards()
    if not cards.names:
        return None, "no NVIDIA driver's library (NVML) on this machine"
    watch = CardWatch(cards, tuple(used), epoch_s)
    try:
        watch.start()
    except (ValueError, RuntimeError) as error:
        return None, str(error)
    return watch, ""


def write_samples(rows: list[GaugeRow], front: list[GatewaySample], cards: list[CardRow], folder: Path) -> None:
    """samples.parquet, gateway_samples.parquet and gpu_samples.parquet."""
    samples = RowLog(ReplicaSample, settled=lambda row: True)
    for row in rows:
        samples.append(ReplicaSample(**asdict(row)))
    gateway, gpu = RowLog(GatewaySample, settled=lambda row: True), RowLog(CardSample, settled=lambda row: True)
    for one in front:
        gateway.append(one)
    for card in cards:
        gpu.append(CardSample(**asdict(card)))
    samples.write(folder / "samples.parquet")
    gateway.write(folder / "gateway_samples.parquet")
    gpu.write(folder / "gpu_samples.parquet")
