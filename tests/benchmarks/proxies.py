"""Reverse proxies as processes before the same stub replicas, one core for each: ours and its peers. It measures nothing.

nginx and HAProxy are looked for on PATH, `sglang-router` and `vllm-router` in the folder STAMPEDE_GATEWAYS first.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
READY_S = 60.0  # the wheels take up to 20 s on a busy machine
OURS, RUST = "stampede", ("vllm-router", "sglang-router")

_NGINX = """daemon off; worker_processes 1; pid nginx.pid; error_log error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream u {{ {servers} keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""
_HAPROXY = """global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option http-no-delay
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  balance roundrobin
{servers}
"""


@dataclass
class Started:
    """One proxy under test."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Of all its processes, since they began."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in self._family()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS

    def memory_mib(self) -> float:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._family())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> None:
        family = self._family()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in family:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def _family(self) -> list[int]:
        known = [self.process.pid]
        for pid in known:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            known += [int(child) for child in children.read_text().split()] if children.exists() else []
        return known


Command = Callable[[int, Sequence[int], Path], list[str] | None]
"""(its port, the replicas' ports, a folder of its own): what to start, None where it is not there."""


def _stampede(port: int, replicas: Sequence[int], folder: Path) -> list[str]:
    command = [sys.executable, "-m", "flows.cli", "serve", "router", "--policy", "round_robin", "--port", str(port)]
    return command + [part for each in replicas for part in ("--replica", f"http://127.0.0.1:{each}")]


def _nginx(port: int, replicas: Sequence[int], folder: Path) -> list[str] | None:
    program = shutil.which("nginx", path=_path("/usr/sbin"))
    if program is None:
        return None
    servers = " ".join(f"server 127.0.0.1:{each};" for each in replicas)
    (folder / "nginx.conf").write_text(_NGINX.format(port=port, servers=servers))
    return [program, "-p", f"{folder}/", "-c", str(folder / "nginx.conf")]


def _haproxy(port: int, replicas: Sequence[int], folder: Path) -> list[str] | None:
    program = shutil.which("haproxy", path=_path("/usr/sbin"))
    if program is None:
        return None
    servers = "\n".join(f"  server s{i} 127.0.0.1:{each}" for i, each in enumerate(replicas))
    (folder / "haproxy.cfg").write_text(_HAPROXY.format(port=port, servers=servers))
    return [program, "-f", str(folder / "haproxy.cfg")]


def _rust(name: str, *extra: str) -> Command:
    def command(port: int, replicas: Sequence[int], folder: Path) -> list[str] | None:
        program = shutil.which(name, path=_path(os.environ.get("STAMPEDE_GATEWAYS", "")))
        if program is None:
            return None
        urls = [f"http://127.0.0.1:{each}" for each in replicas]
        serve = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", *urls, "--policy", "round_robin"]
        first = ["launch"] if name == "sglang-router" else []
        return [program, *first, *serve, "--prometheus-port", str(free_port()), *extra]

    return command


KINDS: dict[str, Command] = {
    OURS: _stampede,
    "vllm-router": _rust("vllm-router", "--worker-startup-check-interval", "2"),
    "sglang-router": _rust("sglang-router", "--log-level", "warn"),
    "nginx": _nginx,
    "haproxy": _haproxy,
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def all_started(replicas: Sequence[int], folder: Path, pinned: Sequence[str]) -> Iterator[list[Started]]:
    """Every proxy that is there, started with `pinned` before its command and ready; all are stopped afterwards."""
    started: list[Started] = []
    try:
        for name, kind in KINDS.items():
            own = folder / name
            own.mkdir()
            port = free_port()
            command = kind(port, replicas, own)
            if command is not None:
                with (own / "out.log").open("wb") as out:
                    process = subprocess.Popen([*pinned, *command], cwd=ROOT, stdout=out, stderr=out)
                started.append(Started(name, port, process))
        for proxy in started:
            _wait_until_ready(proxy, folder)
        yield started
    finally:
        for proxy in started:
            proxy.stop()


def _wait_until_ready(proxy: Started, folder: Path) -> None:
    asked = b'{"model": "stub", "prompt": "x", "max_tokens": 16, "stream": true}'
    url, headers = f"http://127.0.0.1:{proxy.port}/v1/completions", {"content-type": "application/json"}
    deadline_s = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, asked, headers), timeout=3) as answer:
                answer.read()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > deadline_s or proxy.process.poll() is not None:
                said = (folder / proxy.name / "out.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{proxy.name} does not serve: {error}; it said: {said}") from error
            time.sleep(0.3)


def _path(folder: str) -> str:
    return os.pathsep.join(part for part in (folder, os.environ.get("PATH", "")) if part)
