"""Our router as a process of its own, for one cell: its command line, and how it gets ready. It knows no gateway."""

import json
import os
import select
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replay.cell import Cell, Named
from replay.measured.place import Place
from replicas.profile import EngineProfile
from routers.gateways.leashed import Leashed
from routers.gateways.process import GatewayFailed

READY_S = 30.0
_SHUTDOWN_S = 2.0
_OPTIONS = {"both": "--replica", "prefill": "--prefill", "decode": "--decode"}
_ASK_S = 5.0


@contextmanager
def own_router(cell: Cell, place: Place, folder: Path) -> Iterator[tuple[Leashed, str, tuple[str, ...]]]:
    """(the process, its URL, its command), once it serves and finds every replica healthy; it is gone after the block.

    Its log is folder/router.log, its tries are in folder/requests.jsonl. GatewayFailed, in one line, when it does not get ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = (*place.router_command, *router_options(cell, place, folder))
    router = Leashed(command, folder / "router.log", tells=True)
    try:
        url = _told_url(router, time.monotonic() + READY_S)
        _check_health(router, url, cell.pool.replicas, time.monotonic() + READY_S)
        yield router, url, command
    finally:
        router.stop()


def router_options(cell: Cell, place: Place, folder: Path) -> tuple[str, ...]:
    """The options of `serve router` for this cell; its profile, where fields are changed, is written into `folder`."""
    options = ["--policy", _named(cell.router)]
    for replica, role in zip(place.pool.replicas, cell.pool.all_roles(), strict=True):
        port = replica.spec.transfer_port if replica.spec and role == "prefill" and replica.dialect == "sglang" else None
        options += [_OPTIONS[role], replica.url if port is None else f"{replica.url},{port}"]
    if cell.pool.roles:
        options += ["--pairs", place.pool.replicas[0].dialect]
    for guard in cell.guards:
        options += ["--guard", _named(guard)]
    if cell.pool.profile:
        options += ["--profile", _profile(cell, folder)]
    options += ["--seed", str(cell.seed), "--observe-every", repr(cell.observation.age_s), "--port", "0"]
    options += ["--log", str(folder / "requests.jsonl"), "--tell-replica", "--shutdown-timeout", repr(_SHUTDOWN_S)]
    return tuple(options)


def _named(what: Named) -> str:
    """NAME KEY=VALUE …, the values as JSON without a space."""
    values = (f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in what.parameters.items())
    return " ".join([what.name, *(value.replace(" ", "\\u0020") for value in values)])


def _profile(cell: Cell, folder: Path) -> str:
    if not cell.pool.changes:
        return cell.pool.profile
    path = folder / "profile.json"
    path.write_text(json.dumps(EngineProfile.load(cell.pool.profile).with_changes(cell.pool.changes).to_json()))
    return str(path)


def _told_url(router: Leashed, until_s: float) -> str:
    """The first line of its stdout."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([router.stdout], [], [], max(0.0, until_s - time.monotonic()))
        more = os.read(router.stdout.fileno(), 4096) if ready else b""
        if not more:
            what = "ended before it served" if ready else f"was not ready within {READY_S:g} s"
            raise GatewayFailed(f"our router {what}; {router.last_line()}")
        line += more
    return line.decode().split("\n")[0].strip()


def _check_health(router: Leashed, url: str, replicas: int, until_s: float) -> None:
    """It has looked at every replica before it listens; one that is busy may need another look."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        with opener.open(f"{url}/metrics", timeout=_ASK_S) as answer:
            text = answer.read().decode()
        healthy = sum(line.startswith("stampede_router_replica_healthy{") and line.endswith(" 1") for line in text.splitlines())
        if healthy == replicas:
            return
        if time.monotonic() > until_s or not router.running:
            raise GatewayFailed(f"our router finds {healthy} of {replicas} replicas healthy; {router.last_line()}")
        time.sleep(0.1)
