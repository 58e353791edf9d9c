"""The router under load for a long time, with replicas that die, hang and return and clients of every bad habit.

`STAMPEDE_SOAK_S` (60) seconds; `STAMPEDE_SOAK_RPS` (200) streams a second by `STAMPEDE_SOAK_SENDERS` (2) of our senders beside 30
unruly clients a second: set it to four fifths of what the machine's router bears. The router has a core to itself, and it, the
replicas and the senders come before other work of the machine where the system lets them.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.routers.serve.compiled import compiled, pinned
from tests.routers.serve.steady import Steady, steady_load
from tests.routers.serve.unruly import WHOLE, UnrulyClients, UnrulyReplica

pytestmark = [pytest.mark.slow, pytest.mark.benchmark]

ROOT = Path(__file__).parents[3]
LASTS_S = float(os.environ.get("STAMPEDE_SOAK_S", "60"))
RPS = int(os.environ.get("STAMPEDE_SOAK_RPS", "200"))
SENDERS = int(os.environ.get("STAMPEDE_SOAK_SENDERS", "2"))
UNRULY_RPS = 30.0
ROUTER_CORE, OTHERS_CORE = 0, 1
GUARDS = ("retry max_attempts=3 exclude=tried", "breaker open_s=2")


class Stub:
    """A compiled replica in a process of its own, that can be killed and stopped."""

    def __init__(self, program: Path, port: int) -> None:
        self.port, self._program = port, program
        self._process: subprocess.Popen[bytes] | None = None

    async def up(self) -> None:
        if self._process is None:
            self._process = subprocess.Popen([*pinned(OTHERS_CORE), self._program, str(self.port)])
        else:
            self._process.send_signal(signal.SIGCONT)

    async def down(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def hang(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)


class Router:
    """The served router as a process, looked at from outside."""

    def __init__(self, replicas: list[int], log: Path) -> None:
        self.port = free_ports(1)[0]
        command = [
            sys.executable,
            "-m",
            "flows.cli",
            "serve",
            "router",
            "--policy",
            "least_outstanding",
            "--host",
            "0.0.0.0",
            "--port",
            str(self.port),
        ]
        command += ["--first-byte-timeout", "1.5", "--idle-timeout", "1.5", "--total-timeout", "10", "--log", str(log)]
        command += [part for guard in GUARDS for part in ("--guard", guard)]
        command += [part for port in replicas for part in ("--replica", f"http://127.0.0.1:{port}")]
        self.process = subprocess.Popen(
            [*pinned(ROUTER_CORE), *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("http")

    def memory_mib(self) -> float:
        statm = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


async def disturb(replicas: list[Stub | UnrulyReplica]) -> None:
    """Every few seconds one of them dies or hangs, and returns."""
    draw = random.Random(5)
    while True:
        await asyncio.sleep(draw.uniform(1, 3))
        replica = draw.choice(replicas)
        if isinstance(replica, Stub) and draw.random() < 0.5:
            await replica.hang()
        else:
            await replica.down()
        await asyncio.sleep(draw.uniform(0.2, 2))
        await replica.up()


async def unruly_load(clients: UnrulyClients, until_s: float) -> None:
    draw, open_ones = random.Random(6), set[asyncio.Task[None]]()
    faults: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        open_ones.discard(task)
        if task.exception() is not None:
            faults.append(task.exception() or RuntimeError())

    while time.monotonic() < until_s:
        task = asyncio.ensure_future(clients.one())
        open_ones.add(task)
        task.add_done_callback(ended)
        await asyncio.sleep(draw.expovariate(UNRULY_RPS))
    if open_ones:
        await asyncio.wait(set(open_ones), timeout=60)
    assert not open_ones
    assert faults == []


async def body_of(port: int) -> bytes:
    """What the compiled replica answers, byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = b'{"stream": true}'
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(asked), asked))
    await reader.readuntil(b"\r\n\r\n")
    body = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.transport.abort()
    return body


async def watch(router: Router, seen: list[tuple[float, float, int]], began_s: float) -> None:
    while True:
        await asyncio.sleep(LASTS_S / 20)
        seen.append((time.monotonic() - began_s, router.memory_mib(), router.files()))


async def soak(router: Router, replicas: list[Stub | UnrulyReplica]) -> tuple[UnrulyClients, Steady, list]:  # type: ignore[type-arg]
    clients, seen, began_s = UnrulyClients(router.port, 7, WHOLE | {await body_of(replicas[0].port)}), [], time.monotonic()  # type: ignore[var-annotated]
    background = [asyncio.ensure_future(disturb(replicas)), asyncio.ensure_future(watch(router, seen, began_s))]
    try:
        steady, _ = await asyncio.gather(
            steady_load(router.port, RPS, LASTS_S, SENDERS, OTHERS_CORE), unruly_load(clients, began_s + LASTS_S)
        )
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    for replica in replicas:
        await replica.up() if isinstance(replica, Stub) else None
    await asyncio.sleep(8)  # kept connections are closed after 4 s, and health checks go on
    return clients, steady, seen


def test_every_request_ends_once_and_nothing_grows(tmp_path: Path) -> None:
    stub = compiled("stub")
    if stub is None or (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        pytest.skip("needs the compiled stub (STAMPEDE_STUB) or its source and a compiler, taskset and two cores")
    ports = free_ports(6)

    async def go() -> None:
        stubs, unruly = [Stub(stub, port) for port in ports[:4]], [UnrulyReplica(port, port) for port in ports[4:]]
        replicas: list[Stub | UnrulyReplica] = [*stubs, *unruly]
        for replica in replicas:
            await replica.up()
        await asyncio.sleep(0.3)
        router = await asyncio.to_thread(Router, ports, tmp_path / "log.jsonl")
        try:
            quiet_files = router.files()
            clients, steady, seen = await soak(router, replicas)
            judge(await asyncio.to_thread(router.metrics), clients, steady)
            flat(router, seen, quiet_files)
            began_s = time.monotonic()
            router.process.terminate()
            assert await asyncio.to_thread(router.process.wait, 10) == 0
            assert time.monotonic() - began_s < 2
            assert tries_end_once(tmp_path / "log.jsonl")
        finally:
            router.process.kill()
            router.process.communicate()
            for replica in replicas:
                await replica.down()

    asyncio.run(go())


def judge(metrics: dict[str, float], clients: UnrulyClients, steady: Steady) -> None:
    """The router's books against the clients'."""
    outcomes = {name: n for name, n in metrics.items() if "requests_total{outcome" in name}
    counted, sent = sum(outcomes.values()), clients.requests + steady.asked
    print(f"\n{sent:.0f} requests, {counted:.0f} in the router's books: {outcomes}")
    print(f"unruly clients: {dict(clients.ended)}, {dict(clients.other)}")
    print(f"steady: {steady}")
    assert sum(clients.ended.values()) == clients.requests
    assert clients.ended["never"] == 0
    assert clients.wrong == []
    assert (steady.rows, steady.ids, steady.sent) == (steady.asked,) * 3  # each stream went out and has one outcome
    assert steady.no_socket == 0
    answered = steady.asked + sum(n for how, n in clients.ended.items() if how not in ("hung up", "cut off"))
    assert answered <= counted <= sent  # who hangs up at once may not have been heard
    assert steady.whole >= 0.75 * steady.asked  # replicas die under their streams; most requests are not touched by it
    left = {
        name: n for name, n in metrics.items() if n and any(x in name for x in ("in_flight", "open_requests", "held", "buffered"))
    }
    assert left == {}


def flat(router: Router, seen: list[tuple[float, float, int]], quiet_files: int) -> None:
    """After the first quarter, which fills indexes and pools."""
    for at_s, mib, files in seen:
        print(f"{at_s:6.0f} s {mib:6.1f} MiB {files:5} files")
    settled = [mib for at_s, mib, _ in seen if at_s > LASTS_S / 4]
    half = len(settled) // 2
    early, late = max(settled[:half]), min(settled[half:])
    print(f"afterwards {router.memory_mib():.1f} MiB, {router.files()} files (before: {quiet_files})")
    assert late <= early * 1.1 + 4
    assert router.files() <= quiet_files + 8  # a kept connection for each replica's health checks


def tries_end_once(log: Path) -> bool:
    """Every try is a line, and a request that ended well has one that is. (Ten minutes are a million lines: one at a time.)"""
    tries: set[tuple[str, int]] = set()
    well: set[str] = set()
    lines = good = 0
    with log.open(encoding="utf-8") as rows:
        for line in rows:
            row = json.loads(line)
            lines += 1
            tries.add((row["rid"], row["router_try"]))
            if row["outcome"] == "ok":
                good += 1
                well.add(row["rid"])
    return lines > 0 and len(tries) == lines and len(well) == good
