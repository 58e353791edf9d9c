"""sglang-router (the SGLang model gateway), 0.3.2's options. It does not know what the replicas behind it run, unless told."""

from pathlib import Path

from routers.gateways.gateway import Gateway, GatewaySpec, Launch, wheel_version
from routers.gateways.wheel_flags import replica_flags, shared_flags


class SglangRouter(Gateway):
    """`manual` is its affinity by the header `x-smg-routing-key`."""

    name = "sglang_router"
    program = "sglang-router"
    policies = ("cache_aware", "random", "round_robin", "power_of_two", "manual")
    session_header = "x-smg-routing-key"
    serves_pairs = True
    takes_token_ids = False

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        if "kv_connector" in spec.parameters:
            raise ValueError("sglang_router: unknown parameter 'kv_connector'; it is vllm_router's")
        flags = shared_flags(spec, self.name, "warn") + replica_flags(spec, "--pd-disaggregation")
        command = (str(program), "launch", *flags, "--shutdown-grace-period-secs", "2")
        return Launch(command, {}, "/readiness", ("healthy_workers",), f"http://127.0.0.1:{spec.metrics_port}/metrics")

    def version(self, program: Path) -> str:
        return wheel_version(program, "sglang-router")

    def reported_policy(self, spec: GatewaySpec) -> str:
        """Its power of two compares loads that it polls from SGLang's `/get_load`; a replica without that path has none, and the
        choice between two draws without loads is a random one."""
        if spec.policy == "power_of_two" and any(r.engine != "sglang" for r in spec.replicas):
            return "random (power_of_two without /get_load)"
        return spec.policy
