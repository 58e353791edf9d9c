"""nginx as a gateway: one unbuffered proxy over kept-alive connections. It knows no replica's load but its own connections."""

from dataclasses import dataclass
from pathlib import Path

from routers.gateways.gateway import IDLE_S, Gateway, GatewaySpec, Launch, connections_allowed, runs_as_root, said_version
from routers.parameters import settings_of, within

_RULES = {
    "round_robin": "",
    "random": "random;",
    "least_outstanding": "least_conn;",
    "power_of_two": "random two least_conn;",
    "consistent_hash": "hash $http_x_session_id consistent;",
}

_CONFIGURATION = """\
daemon off;
{user}worker_processes {processes};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  client_max_body_size 0;
  client_body_buffer_size 4m;
  keepalive_requests 1000000;
  upstream replicas {{
    zone replicas 1m;
    {rule}
{servers}
    keepalive 1024; keepalive_requests 1000000; keepalive_timeout {idle_s}s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout {timeout_s}s;
      proxy_send_timeout {timeout_s}s;
{arm}    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class NginxSettings:
    """`processes` that share one count of connections."""

    processes: int = 1

    def __post_init__(self) -> None:
        within("processes", self.processes, 1)


class Nginx(Gateway):
    """Default arm: a replica that fails a connection is left alone for 10 s (max_fails 1), what was not sent yet is tried on the
    next one. Bare arm: neither. Session affinity by `x-session-id`; without that header it goes round."""

    name = "nginx"
    program = "nginx"
    policies = tuple(_RULES)

    def launch(self, spec: GatewaySpec, program: Path, folder: Path) -> Launch:
        self.check(spec)
        limits = " max_fails=0" if spec.bare else ""
        servers = [f"    server {host}:{port}{limits};" for host, port in (r.address for r in spec.replicas)]
        text = _CONFIGURATION.format(
            user="user root;\n" if runs_as_root() else "",  # its worker must reach this folder
            processes=settings_of(NginxSettings, spec.parameters, self.name).processes,
            connections=2 * connections_allowed(),
            rule=_RULES[spec.policy],
            servers="\n".join(servers),
            idle_s=IDLE_S,
            port=spec.port,
            timeout_s=int(spec.timeout_s),
            arm="      proxy_next_upstream off;\n" if spec.bare else "",
        )
        command = (str(program), "-p", f"{folder}/", "-e", "stderr", "-c", f"{folder}/nginx.conf")
        return Launch(command, {"nginx.conf": text})

    def version(self, program: Path) -> str:
        return said_version([str(program), "-v"]).removeprefix("nginx version: ").replace("/", " ")
