"""One sender against the stub, alone on its core, judged by the stub's own log and the kernel's accounts. It compares nothing.

STAMPEDE_BEFORE: words that come before each sender's command, e.g. those of a lock that keeps a shared machine quiet.
"""

import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.benchmarks.proxies import free_port
from tests.benchmarks.senders import OUTPUT_TOKENS, ROOT, Asked, Sender, read_log
from tests.routers.serve.compiled import pinned

TTFT_US, GAP_US = 20_000, 10_000
WARM_SHARE = 0.1  # connections are opened
SENDER_CORE, STUB_CORE = 0, 1
LIMIT_S = 600.0
CLEAN_SHARE, CLEAN_LATE_MS = 0.995, 10.0  # p99: half of the stub's time to a first token
_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """One run. `share`: of the asked rate that arrived; `late_ms` p50, p99: behind even distances, the earliest hundredth
    being on time (or as it says itself, where its distances are not even); `drift_ms`: the last tenth's median less the
    first's; `cpu_ms` of all its processes a request; `ttft_off_ms` p50, p99: what it reports less what the stub did."""

    rps: float
    n: int
    whole: int
    share: float
    late_ms: tuple[float, float]
    drift_ms: float
    cpu_ms: float
    ttft_off_ms: tuple[float, float]
    own_words: bool = False

    @property
    def clean(self) -> bool:
        """All of what was asked for was sent, in time and answered."""
        timely = self.late_ms[1] <= CLEAN_LATE_MS or self.own_words  # which count its first requests too
        return self.whole == self.n and self.share >= CLEAN_SHARE and timely

    def __str__(self) -> str:
        late = f"late {self.late_ms[0]:.2f}/{self.late_ms[1]:.2f} ms, drift {self.drift_ms:.2f}"
        off = f"TTFT off {self.ttft_off_ms[0]:.2f}/{self.ttft_off_ms[1]:.2f} ms"
        return f"{self.rps:g}/s: {self.share:.2%}, {self.whole} of {self.n}, {late}, {self.cpu_ms:.3f} ms CPU, {off}"


@contextmanager
def stub_on_its_core(program: Path) -> Iterator[str]:
    """The stub's URL; it paces streams of 16 chunks."""
    port = free_port()
    with subprocess.Popen([*pinned(STUB_CORE), str(program), str(port)]) as stub:
        try:
            time.sleep(0.5)
            url = f"http://127.0.0.1:{port}"
            get(f"{url}/__cfg?ttft={TTFT_US}&itl={GAP_US}&chunks={OUTPUT_TOKENS}")
            yield url
        finally:
            stub.kill()


def run(sender: Sender, rps: float, seconds: float, url: str, where: Path) -> Seen:
    """RuntimeError with the sender's last words where it fails or sends nothing."""
    get(f"{url}/__reset")
    n = round(rps * seconds)
    folder = Path(tempfile.mkdtemp(dir=where))
    before, asked = shlex.split(os.environ.get("STAMPEDE_BEFORE", "")), Asked(rps, n, url, folder)
    cpu, out = _Cpu(), folder / "out.log"
    with out.open("wb") as log:
        command = [*before, *pinned(SENDER_CORE), *sender.command(asked)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        cpu.watch(process.pid)
        code = process.wait(LIMIT_S)
    finally:
        cpu.stop()
        _kill_group(process)
    said = out.read_text(errors="replace")
    arrived = read_log(get(f"{url}/__log"))
    if code or len(arrived) < n:
        raise RuntimeError(f"{sender.name} ended with {code}, {len(arrived)} of {n} requests came; it said: {said[-500:]}")
    return _judged(sender, asked, arrived[-n:], cpu, sender.reported(folder, said))


def _judged(sender: Sender, asked: Asked, log: npt.NDArray[np.float64], cpu: "_Cpu", reported: tuple[float, float]) -> Seen:
    n, warm = asked.n, int(asked.n * WARM_SHARE)
    at_s = log[:, 0]
    behind = at_s - at_s[0] - np.arange(n) / asked.rps
    late = (behind - np.quantile(behind, 0.01))[warm:] * 1e3
    own = sender.own_lateness(asked.folder) if sender.own_lateness else None
    tenth = max(1, len(late) // 10)
    whole = log[log[:, 2] > 0]
    true = np.quantile((whole[:, 1] - whole[:, 0])[min(warm, len(whole) - 1) :] * 1e3, (0.5, 0.99))
    return Seen(
        rps=asked.rps,
        n=n,
        whole=len(whole),
        share=float((n - 1) / (at_s[-1] - at_s[0]) / asked.rps),
        late_ms=own or (float(np.quantile(late, 0.5)), float(np.quantile(late, 0.99))),
        drift_ms=nan if own else float(np.median(late[-tenth:]) - np.median(late[:tenth])),
        cpu_ms=cpu.used_s(at_s[warm], at_s[-1]) / (n - warm) * 1e3,
        ttft_off_ms=(float(reported[0] - true[0]), float(reported[1] - true[1])),
        own_words=own is not None,
    )


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@dataclass
class _Cpu:
    """What a process and all below it have used, sampled; those that ended stay in their parents' accounts."""

    samples: list[tuple[float, float]] = field(default_factory=list)
    _going: bool = True
    _thread: threading.Thread | None = None

    def watch(self, pid: int) -> None:
        self._thread = threading.Thread(target=self._sample, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._going = False
        if self._thread is not None:
            self._thread.join()

    def used_s(self, from_s: float, until_s: float) -> float:
        """Between two times of CLOCK_MONOTONIC."""
        at_s, used_s = np.array(self.samples).T
        return float(np.interp(until_s, at_s, used_s) - np.interp(from_s, at_s, used_s))

    def _sample(self, pid: int) -> None:
        while self._going:
            self.samples.append((time.monotonic(), sum(map(_used_s, _family(pid)))))
            time.sleep(_SAMPLE_S)


def _family(pid: int) -> list[int]:
    known = [pid]
    for each in known:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                known += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return known


def _used_s(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, stat[11:15])) / _TICKS


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
