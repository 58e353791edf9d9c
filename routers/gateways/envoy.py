"""Envoy as a gateway: one listener, one cluster. It knows no replica's load but its own open requests."""

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routers.gateways.gateway import IDLE_S, Gateway, GatewaySpec, Launch, Upstream, said_version
from routers.parameters import settings_of, within

_TYPES = "type.googleapis.com/envoy.extensions"
_CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "round_robin": ("ROUND_ROBIN", {}),
    "random": ("RANDOM", {}),
    "power_of_two": ("LEAST_REQUEST", {"least_request_lb_config": {"choice_count": 2}}),
    "consistent_hash": ("RING_HASH", {}),
    "maglev": ("MAGLEV", {}),
    "consistent_hash_bounded": ("RING_HASH", {}),
}
_NO_BOUND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """`threads` of the proxy; `hash_balance_factor`: no replica above this percentage of the mean load."""

    threads: int = 1
    hash_balance_factor: int = 125

    def __post_init__(self) -> None:
        within("threads", self.threads, 1)
        within("hash_balance_factor", self.hash_balance_factor, 101)


class Envoy(Gateway):
    """Envoy's least request draws two and takes the lighter: our `power_of_two`. Default arm: its own bounds (1,024 connections,
    requests and waiting requests a cluster, beyond them 503), no retries; bare arm: no bounds. Affinity by `x-session-id`."""

    name = "envoy"
    program = "envoy"
    policies = (*_CHOICES, "least_outstanding")

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        settings = settings_of(EnvoySettings, spec.parameters, self.name)
        bootstrap = {
            "admin": {"address": _address("127.0.0.1", spec.metrics_port)},
            "static_resources": {"listeners": [_listener(spec)], "clusters": [_cluster(spec, settings)]},
        }
        flags = ("--concurrency", str(settings.threads), "--log-level", "warning", "--disable-hot-restart")
        command = (str(program), "-c", f"{folder}/envoy.json", *flags)
        metrics_url = f"http://127.0.0.1:{spec.metrics_port}/stats/prometheus"
        return Launch(command, {"envoy.json": json.dumps(bootstrap, indent=1)}, metrics_url=metrics_url)

    def version(self, program: Path) -> str:
        parts = said_version([str(program), "--version"]).split("version:")[-1].split("/")
        return f"envoy {parts[1] if len(parts) > 1 else parts[0].strip()}"


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(spec: GatewaySpec) -> dict[str, Any]:
    route: dict[str, Any] = {"cluster": "replicas", "timeout": f"{spec.timeout_s}s"}
    if "hash" in spec.policy or spec.policy == "maglev":
        route["hash_policy"] = [{"header": {"header_name": Envoy.session_header}}]
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}}
    http = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}
    return {"name": "clients", "address": _address("127.0.0.1", spec.port), "filter_chains": [chain]}


def _cluster(spec: GatewaySpec, settings: EnvoySettings) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(*r.address)}} for r in spec.replicas]
    protocol = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_S}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    cluster: dict[str, Any] = {
        "name": "replicas",
        "type": "STATIC" if all(_is_ip(r) for r in spec.replicas) else "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "replicas", "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {f"{_TYPES.partition('/')[2]}.upstreams.http.v3.HttpProtocolOptions": protocol},
        **_choice(spec.policy, settings),
    }
    if spec.bare:
        bounds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
        cluster["circuit_breakers"] = {"thresholds": [dict.fromkeys(bounds, _NO_BOUND)]}
    return cluster


def _choice(policy: str, settings: EnvoySettings) -> dict[str, Any]:
    """The cluster's load balancing; a full scan exists only in the newer form of the configuration."""
    if policy == "least_outstanding":
        config = {"@type": f"{_TYPES}.load_balancing_policies.least_request.v3.LeastRequest", "selection_method": "FULL_SCAN"}
        typed = {"name": "envoy.load_balancing_policies.least_request", "typed_config": config}
        return {"load_balancing_policy": {"policies": [{"typed_extension_config": typed}]}}
    word, more = _CHOICES[policy]
    if policy == "consistent_hash_bounded":
        more = {"common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": settings.hash_balance_factor}}}
    return {"lb_policy": word, **more}


def _is_ip(replica: Upstream) -> bool:
    try:
        return bool(ipaddress.ip_address(replica.address[0]))
    except ValueError:
        return False
