"""vllm-router, 0.1.17's options. It does not know what the replicas behind it run."""

from pathlib import Path

from routers.gateways.gateway import Gateway, GatewaySpec, Launch, wheel_version
from routers.gateways.wheel_flags import replica_flags, shared_flags


class VllmRouter(Gateway):
    """`consistent_hash` and `sticky_least_sessions` (its `sticky_least_loaded`) know a session by `x-session-id`."""

    name = "vllm_router"
    program = "vllm-router"
    policies = ("cache_aware", "random", "round_robin", "power_of_two", "consistent_hash", "sticky_least_sessions", "kv_aware")
    serves_pairs = True

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        flags = shared_flags(spec, self.name, "warning") + replica_flags(spec, "--vllm-pd-disaggregation")
        words = {"sticky_least_sessions": "sticky_least_loaded"}
        command = (str(program), *(words.get(flag, flag) for flag in flags))
        counts = ("prefill.healthy", "decode.healthy") if spec.pairs else ("healthy_workers",)
        return Launch(command, {}, "/readiness", counts, f"http://127.0.0.1:{spec.metrics_port}/metrics")

    def version(self, program: Path) -> str:
        return wheel_version(program, "vllm-router")
