"""The options that both router wheels share, as a study may set them. It does not know what a gateway does with them."""

from dataclasses import asdict, dataclass

from routers.gateways.gateway import GatewaySpec
from routers.parameters import settings_of, within


@dataclass(frozen=True, slots=True)
class WheelSettings:
    """What is None stays as the wheel has it. Names are the wheels' own flags with underscores."""

    cache_threshold: float | None = None
    balance_abs_threshold: int | None = None
    balance_rel_threshold: float | None = None
    prefill_policy: str | None = None
    decode_policy: str | None = None
    retry_max_retries: int | None = None
    retry_initial_backoff_ms: int | None = None
    retry_max_backoff_ms: int | None = None
    cb_failure_threshold: int | None = None
    cb_success_threshold: int | None = None
    cb_timeout_duration_secs: int | None = None
    cb_window_duration_secs: int | None = None
    max_concurrent_requests: int | None = None
    queue_size: int | None = None
    queue_timeout_secs: int | None = None
    health_check_interval_secs: int | None = None
    kv_connector: str | None = None

    def __post_init__(self) -> None:
        within("cache_threshold", self.cache_threshold, 0.0, 1.0)
        within("retry_max_retries", self.retry_max_retries, 1)


def shared_flags(spec: GatewaySpec, owner: str, log_level: str) -> list[str]:
    """The command line behind the program's name, replicas and pairs left out."""
    settings = asdict(settings_of(WheelSettings, spec.parameters, owner))
    flags = ["--host", "127.0.0.1", "--port", str(spec.port), "--policy", spec.policy, "--log-level", log_level]
    flags += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(spec.metrics_port)]
    flags += ["--request-timeout-secs", str(int(spec.timeout_s)), "--worker-startup-check-interval", "1"]
    for name, value in settings.items():
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags + (["--disable-circuit-breaker", "--disable-retries"] if spec.bare else [])


def replica_flags(spec: GatewaySpec, pairs_flag: str) -> list[str]:
    """`--worker-urls …`, or the pairs' flags: a prefill replica is followed by its bootstrap port where it has one."""
    if not spec.pairs:
        return ["--worker-urls", *(r.url for r in spec.replicas)]
    flags = [pairs_flag]
    for r in spec.replicas:
        port = [str(r.bootstrap_port)] if r.bootstrap_port is not None else []
        flags += [f"--{r.role}", r.url, *(port if r.role == "prefill" else [])]
    return flags
