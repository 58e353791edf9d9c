"""vLLM's command line and environment for a spec (0.26 to 0.32). It knows no SGLang and starts nothing."""

import json

from replicas.launch.ports import free_port
from replicas.launch.spec import Command, EngineSpec, kv_bytes_per_token, offline_environment, options

CPU_BLOCK_TOKENS = 32  # 16, the default on a card, fails on a CPU


def command(spec: EngineSpec) -> Command:
    """How to start it. Developer mode is on, for it alone opens /reset_prefix_cache: keep the port on a trusted network."""
    port = spec.port or free_port(spec.host)
    argv = [str(spec.python), "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", str(spec.model), "--served-model-name", spec.served_name, "--host", spec.host, "--port", str(port)]
    argv += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    argv += options(
        {
            "load-format": "dummy" if spec.weights == "dummy" else None,
            "max-model-len": spec.context_tokens,
            "max-num-seqs": spec.max_running,
            "max-num-batched-tokens": spec.max_batched_tokens,
            "max-num-queued-reqs": spec.max_queued,
            "kv-cache-memory-bytes": _kv_bytes(spec),
            "block-size": spec.block_tokens or (CPU_BLOCK_TOKENS if spec.on_cpu else None),
            "tensor-parallel-size": len(spec.gpus) if len(spec.gpus) > 1 else None,
            "shutdown-timeout": None if spec.drain_s is None else round(spec.drain_s),
            "kv-transfer-config": _kv_transfer(spec),
        }
    )
    if spec.on_cpu:
        # The `uni` executor keeps the worker inside the engine: without it tokens come in bursts on a busy CPU.
        argv += ["--dtype", "float32", "--enforce-eager", "--distributed-executor-backend", "uni"]
    return Command((*argv, *spec.arguments), _environment(spec), port)


def _environment(spec: EngineSpec) -> dict[str, str]:
    found = {**offline_environment(spec), "VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1"}
    if spec.on_cpu:
        found["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if spec.transfer_port is not None:
        found |= {"VLLM_NIXL_SIDE_CHANNEL_HOST": spec.host, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(spec.transfer_port)}
    return {**found, **spec.environment}


def _kv_bytes(spec: EngineSpec) -> int | None:
    """The pool of one card; whole blocks, one of which is the null block."""
    if spec.kv_tokens is None:
        return spec.kv_bytes
    value_bytes = 4 if spec.on_cpu else 2
    return spec.kv_tokens * kv_bytes_per_token(spec.model, value_bytes) // max(1, len(spec.gpus))


def _kv_transfer(spec: EngineSpec) -> str | None:
    if spec.kv_transfer is None or spec.kv_transfer.startswith("{"):
        return spec.kv_transfer
    return json.dumps({"kv_connector": spec.kv_transfer, "kv_role": "kv_both"})
