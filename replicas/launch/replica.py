"""One replica of a live pool: launched here or remote, asked until it answers, warmed up, ended. It knows no policy."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from replicas.launch import served, sglang, vllm
from replicas.launch.api import EngineApi
from replicas.launch.failed import EngineFailed, tail
from replicas.launch.gauges import engine_of
from replicas.launch.process import STOP_S, EngineProcess
from replicas.launch.scrape import Source
from replicas.launch.spec import ENGINES, Command, EngineSpec

READY_S = 300.0
_POLL_S = 0.25
_COMMANDS = {"vllm": vllm.command, "sglang": sglang.command, "served": served.command}
SAFE_IDS = range(3, 256)
"""Token ids that every real vocabulary has and no engine takes for a special one; an id beyond the vocabulary kills SGLang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSpec:
    """A replica that somebody else runs. `engine` None: by its metrics. `url` is http(s)://HOST:PORT without a path."""

    url: str
    model: str
    engine: str | None = None
    api_key_variable: str | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or self.url.count("/") != 2:
            raise ValueError(f"url is {self.url!r}; allowed: http://HOST:PORT or https://HOST:PORT, without a path")
        if self.engine is not None and self.engine not in ENGINES:
            raise ValueError(f"engine is {self.engine!r}; allowed: {', '.join(ENGINES)}, or nothing (by its metrics)")


@dataclass(slots=True)
class Replica:
    """A replica that answers. `process` and `spec` are None for a remote one; `starts` counts how often it was launched,
    `warm` is the start after which it was warmed up last."""

    replica_id: int
    engine: str
    api: EngineApi
    spec: EngineSpec | None = None
    process: EngineProcess | None = None
    log_folder: Path | None = None
    command: Command | None = None
    starts: int = 0
    warm: int = 0
    ready_after_s: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.api.url

    @property
    def dialect(self) -> str:
        """Whose API and metrics it has: vllm or sglang."""
        return "vllm" if self.engine == "served" else self.engine

    @property
    def source(self) -> Source:
        return Source(self.replica_id, self.dialect, self.api)

    @property
    def answers_alone(self) -> bool:
        """Whether a completion can be asked of it: SGLang's prefill and decode replicas answer only as a pair."""
        return self.spec is None or self.engine != "sglang" or self.spec.role == "both"

    @property
    def launched(self) -> EngineProcess:
        """Its processes; ValueError for a remote replica, of which there are none here."""
        if self.process is None:
            raise ValueError(f"replica {self.replica_id} at {self.url} is remote: its processes cannot be touched from here")
        return self.process

    def start(self, ready_s: float = READY_S) -> None:
        """Launch it anew, with a log of its own, and wait until it answers; EngineFailed otherwise, and then nothing is left."""
        if self.command is None or self.log_folder is None:
            raise ValueError(f"replica {self.replica_id} at {self.url} is remote: it cannot be started from here")
        if self.process is not None and self.process.exit_code is None:
            raise ValueError(f"replica {self.replica_id} at {self.url} still runs: stop or kill it before it is started again")
        log = self.log_folder / f"replica-{self.replica_id}.{self.starts}.log"
        self.starts += 1
        self.process = EngineProcess(self.command, log, self.spec.host if self.spec else "127.0.0.1")
        try:
            self.ready_after_s.append(wait_ready(self, ready_s))
        except BaseException:
            self.process.stop(grace_s=2.0)
            raise

    def stop(self, grace_s: float = STOP_S) -> None:
        """End it, if it was launched here."""
        if self.process is not None and self.process.exit_code is None:
            self.process.stop(grace_s)


def launched_replica(replica_id: int, spec: EngineSpec, log_folder: Path) -> Replica:
    """A replica that is not started yet."""
    command = _COMMANDS[spec.engine](spec)
    api = EngineApi(f"http://{spec.host}:{command.port}", spec.served_name)
    return Replica(replica_id, spec.engine, api, spec, None, log_folder, command)


def remote_replica(replica_id: int, spec: RemoteSpec, ready_s: float = 30.0) -> Replica:
    """A remote replica, once it answers; EngineFailed when it does not, or shows the metrics of neither engine."""
    api = EngineApi(spec.url, spec.model, spec.api_key_variable)
    replica = Replica(replica_id, spec.engine or "", api)
    replica.ready_after_s.append(wait_ready(replica, ready_s))
    if not replica.engine:
        found = engine_of(api.get("/metrics")[1])
        if found is None:
            raise EngineFailed(
                f"{spec.url}/metrics: neither vLLM's nor SGLang's; name the engine, or let SGLang --enable-metrics"
            )
        replica.engine = found
    return replica


def wait_ready(replica: Replica, ready_s: float) -> float:
    """Seconds until /health answers 200 and one token comes; EngineFailed with the log's end when it dies or takes longer."""
    began_s = time.monotonic()
    last = "no answer yet"
    while (elapsed_s := time.monotonic() - began_s) < ready_s:
        if replica.process is not None and (code := replica.process.exit_code) is not None:
            raise EngineFailed(_story(replica, f"ended with {code} after {elapsed_s:.0f} s, before it was ready"))
        try:
            status, text = replica.api.get("/health", min(5.0, ready_s))
            last = f"/health answered {status} {text[:80]}".strip()
            if status == 200:
                if replica.answers_alone:
                    replica.api.complete(prompt_ids(replica.replica_id, 4), 1, max(1.0, ready_s - elapsed_s))
                return time.monotonic() - began_s
        except EngineFailed as error:
            last = str(error)
        time.sleep(_POLL_S)
    raise EngineFailed(_story(replica, f"is not ready after {ready_s:.0f} s ({last})"))


def warm_up(replica: Replica, prompt_tokens: tuple[int, ...] = (16, 128, 512), output_tokens: int = 8, at_once: int = 8) -> float:
    """Completions of each length, alone and then `at_once`, so that no measured request is the first of its shape; seconds taken.

    Kept within the spec's limits. A replica that answers only in a pair is left as it is. EngineFailed when one does not come.
    """
    began_s = time.monotonic()
    replica.warm = replica.starts
    if not replica.answers_alone:
        return 0.0
    spec = replica.spec
    most_tokens = (spec.context_tokens if spec else None) or max(prompt_tokens) + output_tokens
    most = min(at_once, (spec.max_queued if spec else None) or at_once)
    lengths = [tokens for tokens in prompt_tokens if tokens + output_tokens <= most_tokens]
    with ThreadPoolExecutor(most, thread_name_prefix="warm-up") as threads:
        for n in (1, most):
            for tokens in lengths:
                prompts = [prompt_ids(f"warm-up {n} {tokens} {i}", tokens) for i in range(n)]
                list(threads.map(replica.api.complete, prompts, [output_tokens] * n))
    return time.monotonic() - began_s


def prompt_ids(content: object, tokens: int) -> list[int]:
    """Token ids of a content: the same whenever it is asked for."""
    return random.Random(f"{content}").choices(SAFE_IDS, k=tokens)


def _story(replica: Replica, what: str) -> str:
    first = f"replica {replica.replica_id} ({replica.engine or 'remote'} at {replica.url}) {what}"
    return first if replica.process is None else f"{first}; its log {replica.process.log} ends:\n{tail(replica.process.log)}"
