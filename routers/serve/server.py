"""The router's life: it listens, serves, drains, stops. It does not know what a request is."""

import asyncio
from types import TracebackType

from routers.serve.admin import Admin
from routers.serve.client_connection import ClientConnection
from routers.serve.proxy import Proxy

_BACKLOG = 4096
_GRACE_S = 0.3


class RouterServer:
    """`async with` starts and stops it; then `port` and `admin_port` are known, where the settings ask for any (0)."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.admin = Admin(proxy)
        self.port, self.admin_port = proxy.settings.port, proxy.settings.admin_port
        self._servers: list[asyncio.Server] = []

    @property
    def url(self) -> str:
        return f"http://{self.proxy.settings.host}:{self.port}"

    @property
    def admin_url(self) -> str | None:
        return None if self.admin_port is None else f"http://{self.proxy.settings.admin_host}:{self.admin_port}"

    async def __aenter__(self) -> "RouterServer":
        try:
            await self.proxy.start()
            await self._listen()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stop()

    async def drain(self, timeout_s: float) -> bool:
        """Accept no more, say so at `/health`, let what is under way end; False when it did not in time.

        An unused connection is closed a moment later only: what its client has just sent may be on its way.
        """
        proxy = self.proxy
        proxy.draining = True
        for server in self._servers[:1]:
            server.close()
        clock = asyncio.get_running_loop().time
        began_s = clock()
        while True:
            lasted_s = clock() - began_s
            if lasted_s >= min(_GRACE_S, timeout_s):
                for connection in [c for c in proxy.connections if not c.busy]:
                    connection.close()
            if not proxy.connections:
                return True
            if lasted_s >= timeout_s:
                return False
            await asyncio.sleep(0.02)

    # Inside

    async def _listen(self) -> None:
        settings = self.proxy.settings
        self.port = await self._serve(self.proxy, settings.host, settings.port)
        if settings.admin_port is not None:
            self.admin_port = await self._serve(self.admin, settings.admin_host, settings.admin_port)

    async def _serve(self, front: Proxy | Admin, host: str, port: int) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: ClientConnection(front), host, port, backlog=_BACKLOG)
        self._servers.append(server)
        number: int = server.sockets[0].getsockname()[1]
        return number

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        self.proxy.stop()
        for connection in list(self.admin.connections):
            connection.abort()
        for _ in range(4):
            await asyncio.sleep(0)  # what was hung up is told
