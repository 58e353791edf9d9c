"""SGLang's command line and environment for a spec (0.5.15 to 0.5.23). It knows no vLLM and starts nothing."""

from pathlib import Path

from replicas.launch.ports import free_port
from replicas.launch.spec import Command, EngineSpec, offline_environment, options

CPU_SCRIPT = Path(__file__).parent / "engine_side" / "sglang_on_cpu.py"
CPU_MAX_RUNNING = 16


def command(spec: EngineSpec) -> Command:
    """How to start it. Its gauges are written every step: at the default interval of 40 they are old news."""
    port = spec.port or free_port(spec.host)
    argv = [str(spec.python), "-W", "ignore", *([str(CPU_SCRIPT)] if spec.on_cpu else ["-m", "sglang.launch_server"])]
    argv += ["--model-path", str(spec.model), "--served-model-name", spec.served_name, "--host", spec.host, "--port", str(port)]
    argv += ["--enable-metrics", "--enable-cache-report", "--decode-log-interval", "1"]
    argv += options(
        {
            "load-format": "dummy" if spec.weights == "dummy" else None,
            "context-length": spec.context_tokens,
            "max-running-requests": spec.max_running or (CPU_MAX_RUNNING if spec.on_cpu else None),
            "chunked-prefill-size": spec.max_batched_tokens,
            "max-queued-requests": spec.max_queued,
            "max-total-tokens": spec.kv_tokens,
            "page-size": spec.block_tokens,
            "tp-size": len(spec.gpus) if len(spec.gpus) > 1 else None,
            **_transfer(spec),
        }
    )
    if spec.on_cpu:
        argv += ["--device", "cpu", "--dtype", "float32", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"]
        argv += ["--disable-overlap-schedule", "--disable-cuda-graph", "--sleep-on-idle"]
    return Command((*argv, *spec.arguments), _environment(spec), port)


def _environment(spec: EngineSpec) -> dict[str, str]:
    cpu = {"SGLANG_USE_CPU_ENGINE": "1"} if spec.on_cpu else {}
    return {**offline_environment(spec), **cpu, **spec.environment}


def _transfer(spec: EngineSpec) -> dict[str, object]:
    if spec.role == "both":
        return {}
    found: dict[str, object] = {"disaggregation-mode": spec.role, "disaggregation-transfer-backend": spec.kv_transfer}
    if spec.role == "prefill":
        found["disaggregation-bootstrap-port"] = spec.transfer_port
    return found
