"""Prefect's own API server as a child of this run: no account, no network, gone with its parent. It does not know any flow.

As a program (`python -m flows.embedded_server`) it is the child: it binds a free loopback port, prints it, and serves until its
standard input ends, so even `kill -9` of the parent leaves no server behind.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTUP_TIMEOUT_S = 120.0

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # our progress and run.log say it; a traceback on the terminal would drown them
}
EMBEDDED = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


def prefect_home() -> Path:
    """Where the embedded server keeps its database: a folder of ours in the user's cache, never the user's own `~/.prefect`."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "stampede" / "prefect"


@dataclass(frozen=True, slots=True)
class Api:
    """A Prefect API by its URL; `process` and `log` are those of the embedded server, None for a server that was chosen."""

    url: str
    process: subprocess.Popen[str] | None = None
    log: Path | None = None

    def wait(self, timeout_s: float = STARTUP_TIMEOUT_S) -> None:
        """Return once it answers; RuntimeError when it does not within `timeout_s`, or as soon as its process has ended."""
        end = time.monotonic() + timeout_s
        while not answers(self.url):
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"the embedded Prefect server ended (exit code {self.process.returncode}); see {self.log}")
            if time.monotonic() > end:
                where = "PREFECT_API_URL" if self.process is None else f"embedded, see {self.log}"
                raise RuntimeError(f"no Prefect server answered at {self.url} ({where}) within {timeout_s:g} s")
            time.sleep(0.05)


@contextmanager
def prefect_api() -> Iterator[Api]:
    """The API in `PREFECT_API_URL` (a worker or the user chose a server), else an embedded server for the time of the block.

    Must be entered before `prefect` is imported, since Prefect reads its settings from the environment at import.
    """
    chosen = os.environ.get("PREFECT_API_URL")
    for key, value in (QUIET if chosen else QUIET | EMBEDDED).items():
        os.environ.setdefault(key, value)
    if chosen:
        yield Api(chosen)
        return
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = str(prefect_home())
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    with _child(home / "embedded_server.log") as api:
        os.environ["PREFECT_API_URL"] = api.url
        try:
            yield api
        finally:
            del os.environ["PREFECT_API_URL"]


@contextmanager
def _child(log: Path) -> Iterator[Api]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.embedded_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError(f"the embedded Prefect server ended at once (exit code {process.wait()}); see {log}")
            yield Api(f"http://127.0.0.1:{port}/api", process, log)
        finally:
            process.kill()


def answers(url: str) -> bool:
    """True where a Prefect API is up at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _serve() -> None:
    """The child: one uvicorn server on a socket bound here, so that no port is guessed."""
    import fcntl
    import socket
    import threading

    def end_with_parent() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    os.environ.update({"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"})
    # Two first runs at once would both migrate one SQLite file.
    with (Path(os.environ["PREFECT_HOME"]) / "migration.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        import uvicorn
        from prefect.server.api.server import create_app

        server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", lifespan="on"))
        threading.Thread(target=_unlock_when, args=(server, lock.fileno()), daemon=True).start()
        server.run(sockets=[listener])


def _unlock_when(server: object, descriptor: int) -> None:
    import fcntl

    while not getattr(server, "started", False):
        time.sleep(0.05)
    fcntl.flock(descriptor, fcntl.LOCK_UN)


if __name__ == "__main__":
    _serve()
