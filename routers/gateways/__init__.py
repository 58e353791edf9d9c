"""Real gateways as black boxes, by name: a new one is its file and one line here."""

from routers.gateways.envoy import Envoy
from routers.gateways.gateway import Gateway
from routers.gateways.haproxy import HAProxy
from routers.gateways.nginx import Nginx
from routers.gateways.sglang_router import SglangRouter
from routers.gateways.vllm_router import VllmRouter

GATEWAYS: dict[str, type[Gateway]] = {
    "sglang_router": SglangRouter,
    "vllm_router": VllmRouter,
    "nginx": Nginx,
    "haproxy": HAProxy,
    "envoy": Envoy,
}

# Arms that need no gateway: senders go to the replicas themselves; our own router process with its cheapest rule.
DIRECT = "direct"
PASS_THROUGH = "pass_through"
PASS_THROUGH_POLICY = "round_robin"


def find_gateway(name: str) -> Gateway:
    """The gateway called `name`; raises ValueError in one line, listing what is allowed."""
    if name not in GATEWAYS:
        raise ValueError(f"unknown gateway {name!r}; allowed: {', '.join(sorted(GATEWAYS))}")
    return GATEWAYS[name]()
