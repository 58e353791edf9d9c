"""`stampede serve router`: reads what to serve from the command line, and runs it until it is told to stop."""

import asyncio
import gc
import json
import logging
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.failure import say
from flows.serve import DONE, INTERRUPTED

_OTHER_FILES = 64

if TYPE_CHECKING:
    from routers.serve.proxy import Named, Proxy
    from routers.serve.request_log import RequestLog
    from routers.serve.settings import ServeSettings


def serve_router(
    policy: str,
    replicas: Sequence[str],
    prefills: Sequence[str],
    decodes: Sequence[str],
    guards: Sequence[str],
    seed: int,
    profile: str | None,
    log: str | None,
    **options: Any,
) -> int:
    """Serve until SIGTERM (then drain, for the shutdown timeout at most) or SIGINT. ValueError in one line for a bad option."""
    from replicas.profile import EngineProfile
    from routers.serve.proxy import Proxy
    from routers.serve.replica_link import Address

    pool = [
        (Address.of(url), role) for urls, role in ((replicas, "both"), (prefills, "prefill"), (decodes, "decode")) for url in urls
    ]
    if not pool:
        raise ValueError("no replica: give --replica URL, or --prefill URL and --decode URL")
    asked = options["max_connections"]
    most = options["max_connections"] = _within_files(asked)
    settings = _settings(**options)
    engine = None if profile is None else EngineProfile.load(profile)
    proxy = Proxy(named(policy), [named(guard) for guard in guards], pool, settings, seed, engine)  # type: ignore[arg-type]
    if most < asked:
        say(f"at most {most} clients' connections, not {asked}: the system limits how many files this process may open")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with ExitStack() as stack:
        if log is not None:
            proxy.request_log = stack.enter_context(_open_log(log))
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory()))
        return runner.run(_serve(proxy, settings.shutdown_s))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed, else asyncio's own."""
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def named(text: str) -> "Named":
    """`NAME KEY=VALUE …`, the values as JSON or else plain text; raises ValueError in one line."""
    name, *rest = text.split()
    parameters: dict[str, object] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"{text!r}: must be NAME KEY=VALUE …, got {part!r}")
        try:
            parameters[key] = json.loads(value)
        except ValueError:
            parameters[key] = value
    return name, parameters


def _settings(
    *,
    host: str,
    port: int,
    admin_port: int | None,
    health_path: str,
    health_s: float,
    observe_s: float,
    session_headers: Sequence[str],
    forwarded_for: bool,
    tell_replica: bool,
    body_mib: int,
    max_connections: int,
    pairs: str,
    shutdown_s: float,
    **times: float | None,
) -> "ServeSettings":
    from routers.serve.settings import Health, Limits, ServeSettings, Timeouts

    if not health_path.startswith("/") or not health_path.isprintable() or " " in health_path:
        raise ValueError(f"--health-path {health_path!r}: must be a path, such as /health")
    return ServeSettings(
        host=host,
        port=port,
        admin_port=admin_port,
        limits=Limits(body_bytes=body_mib << 20, connections=max_connections),
        timeouts=Timeouts(**{name: s for name, s in times.items() if s is not None}),
        health=Health(path=health_path, every_s=health_s),
        observe_s=observe_s,
        session_headers=tuple(name.lower() for name in session_headers) or ("x-session-id",),
        forwarded_for=forwarded_for,
        tell_replica=tell_replica,
        pairs=pairs,
        shutdown_s=shutdown_s,
    )


async def _serve(proxy: "Proxy", shutdown_s: float) -> int:
    from routers.serve.server import RouterServer

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.put_nowait, int(number))
    server = RouterServer(proxy)
    try:
        await server.__aenter__()
    except OSError as error:
        raise ValueError(f"cannot listen on {proxy.settings.host}:{proxy.settings.port}: {error.strerror or error}") from error
    try:
        gc.collect()
        gc.freeze()  # what is there now stays: later collections need not look at it
        gc.set_threshold(20_000, 20, 100)
        print(server.url, flush=True)
        admin = "" if server.admin_url is None else f", admin {server.admin_url}"
        say(f"{type(proxy.router.policy).__name__} in front of {len(proxy.links)} replica(s){admin}")
        if await told.get() == signal.SIGINT:
            return INTERRUPTED
        return await _drained(server, told, shutdown_s)
    finally:
        await server.__aexit__(None, None, None)


async def _drained(server: Any, told: "asyncio.Queue[int]", timeout_s: float) -> int:
    """Wait for what is under way, or for another signal."""
    draining = asyncio.ensure_future(server.drain(timeout_s))
    again = asyncio.ensure_future(told.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        draining.cancel()
        return INTERRUPTED
    again.cancel()
    if not draining.result():
        say(f"stopped after {timeout_s:g} s with requests under way")
    return DONE


def _open_log(path: str) -> "RequestLog":
    from routers.serve.request_log import RequestLog

    try:
        return RequestLog(Path(path))
    except OSError as error:
        raise ValueError(f"--log {path}: {error.strerror or error}") from error


def _within_files(connections: int) -> int:
    """Raises the limit of open files; returns how many clients' connections fit, with one to a replica for each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = max(1, (hard - _OTHER_FILES) // 2) if hard != resource.RLIM_INFINITY else connections
    return min(most, connections)
