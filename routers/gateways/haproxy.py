"""HAProxy as a gateway: HTTP mode, one thread unless told, connections reused. It knows no replica's load but its own streams."""

from dataclasses import dataclass
from pathlib import Path

from routers.gateways.gateway import Gateway, GatewaySpec, Launch, connections_allowed, said_version
from routers.parameters import settings_of, within

_BY_SESSION = "balance hdr(x-session-id)\n  hash-type consistent"
_RULES = {
    "round_robin": "balance roundrobin",
    "random": "balance random(1)",
    "least_outstanding": "balance leastconn",
    "power_of_two": "balance random(2)",
    "consistent_hash": _BY_SESSION,
    "consistent_hash_bounded": _BY_SESSION + "\n  hash-balance-factor {hash_balance_factor}",
    "uri_hash": "balance uri\n  hash-type consistent",
}

_CONFIGURATION = """\
global
  nbthread {threads}
  maxconn {connections}
defaults
  mode http
  timeout connect 5s
  timeout client {timeout_s}s
  timeout server {timeout_s}s
  timeout queue {timeout_s}s
  option http-no-delay
{abort}{arm}frontend clients
  bind 127.0.0.1:{port}
  default_backend replicas
frontend numbers
  bind 127.0.0.1:{metrics_port}
  http-request use-service prometheus-exporter if {{ path /metrics }}
backend replicas
  {rule}
{servers}
"""


@dataclass(frozen=True, slots=True)
class HAProxySettings:
    """`abort_on_close`: pass a client's hang-up on while the replica has not begun to answer; HAProxy itself comes without it, so
    that a client's timeout leaves the work in the engine."""

    threads: int = 1
    hash_balance_factor: int = 125
    abort_on_close: bool = False

    def __post_init__(self) -> None:
        within("threads", self.threads, 1)
        within("hash_balance_factor", self.hash_balance_factor, 101)


class HAProxy(Gateway):
    """Default arm: a connection that fails is tried again three times, on the same replica. Bare arm: never. Neither checks
    health. `uri_hash` is here for what it shows: every completion has the same path, so one replica gets them all."""

    name = "haproxy"
    program = "haproxy"
    policies = tuple(_RULES)

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        settings = settings_of(HAProxySettings, spec.parameters, self.name)
        # the purge halves what is idle, so a kept connection is gone well before the replica closes it
        line = "  server r{} {}:{} pool-purge-delay 1s"
        text = _CONFIGURATION.format(
            threads=settings.threads,
            connections=connections_allowed(),
            timeout_s=int(spec.timeout_s),
            abort="  option abortonclose\n" if settings.abort_on_close else "",
            arm="  retries 0\n" if spec.bare else "",
            port=spec.port,
            metrics_port=spec.metrics_port,
            rule=_RULES[spec.policy].format(hash_balance_factor=settings.hash_balance_factor),
            servers="\n".join(line.format(i, *r.address) for i, r in enumerate(spec.replicas)),
        )
        command = (str(program), "-db", "-f", f"{folder}/haproxy.cfg")
        metrics_url = f"http://127.0.0.1:{spec.metrics_port}/metrics"
        return Launch(command, {"haproxy.cfg": text}, metrics_url=metrics_url)

    def version(self, program: Path) -> str:
        return said_version([str(program), "-v"]).partition(" - ")[0].replace("HAProxy version", "HAProxy")
