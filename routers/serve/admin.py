"""The operator's port: the pool's replicas, added and removed while it runs. It has no key: keep it on this machine."""

import json
import logging
from typing import TYPE_CHECKING, Any

from replicas.view import Role
from routers.serve.client_connection import ClientConnection
from routers.serve.openai_error import HttpError, error_body
from routers.serve.replica_link import Address
from routers.serve.request_head import RequestHead

if TYPE_CHECKING:
    from routers.serve.proxy import Proxy

log = logging.getLogger("stampede.router")

_MOST_DIGITS = 12
_ROLES: dict[str, Role] = {"both": "both", "prefill": "prefill", "decode": "decode"}


class Admin:
    """`GET /replicas`; `POST /replicas {"url": …, "role": …}`; `DELETE /replicas/ID`; `GET /metrics`, `GET /health`."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self.settings, self.wheel = proxy.settings, proxy.wheel
        self.connections: set[ClientConnection] = set()

    @property
    def draining(self) -> bool:
        return self._proxy.draining

    def on_connection(self, connection: ClientConnection) -> bool:
        self.connections.add(connection)
        return True

    def on_connection_lost(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)

    def buffered(self, change: int) -> bool:
        return True

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        path = head.path.decode("latin-1")
        try:
            if b"origin" in head.known:
                raise HttpError(403, "not for web pages: a browser on this machine may be at anybody's command")
            if path in ("/metrics", "/health"):
                self._proxy.on_request(connection, head, body)
            elif path == "/replicas" and head.method == "GET":
                connection.respond(200, json.dumps(self._list()).encode())
            elif path == "/replicas" and head.method == "POST":
                connection.respond(201, json.dumps({"id": self._add(body)}).encode())
            elif path.startswith("/replicas/") and head.method == "DELETE":
                self._remove(path.removeprefix("/replicas/"))
                connection.respond(202, b'{"removed": true}')
            else:
                raise HttpError(404, "allowed: GET or POST /replicas, DELETE /replicas/ID, GET /metrics, GET /health")
        except HttpError as error:
            connection.respond(error.status, error_body(error.status, error.message))
        except Exception as error:  # a fault of ours
            log.exception("%s %r", head.method, head.path)
            connection.respond(500, error_body(500, f"the router failed: {type(error).__name__}"))

    def _list(self) -> list[dict[str, Any]]:
        proxy = self._proxy
        return [
            {
                "id": v.replica_id,
                "url": proxy.name_of(v.replica_id),
                "role": v.role,
                "healthy": v.healthy,
                "in_flight": v.in_flight,
                "waiting": v.waiting,
                "running": v.running,
                "kv_used": v.kv_used,
            }
            for v in proxy.router.views
        ]

    def _add(self, body: bytes) -> int:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("url"), str) or not asked.keys() <= {"url", "role"}:
            raise HttpError(400, 'the body must be {"url": "http://HOST:PORT", "role": "both" | "prefill" | "decode"}')
        role = _ROLES.get(str(asked.get("role", "both")))
        if role is None:
            raise HttpError(400, f"role: must be one of {', '.join(_ROLES)}")
        try:
            return self._proxy.add(Address.of(asked["url"]), role)
        except ValueError as error:
            raise HttpError(409 if "already" in str(error) else 400, str(error)) from None

    def _remove(self, name: str) -> None:
        if not name.isdecimal() or len(name) > _MOST_DIGITS or int(name) not in self._proxy.watches:
            raise HttpError(404, f"no replica {name[:40]!r}; GET /replicas lists them")
        self._proxy.remove(int(name))
