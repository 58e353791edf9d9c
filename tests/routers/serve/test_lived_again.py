"""What the served router decided, replicas joining and leaving included, another one decides again from the log of its inputs."""

from typing import cast

from replicas.view import ReplicaView
from routers.factory import build_router
from routers.input_log import Input, Recording, Refeed
from routers.router import Router
from tests.routers.serve.bench import Bench, run, until
from tests.routers.serve.fake_replica import Exchange, FakeReplica, say_ok, whole


def test_a_log_with_changes_of_the_pool_gives_the_same_decisions() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(whole(b"{}", "503 Busy"))

    async def test(bench: Bench) -> None:
        proxy, log = bench.proxy, list[Input]()
        pool = [ReplicaView(v.replica_id, v.role, v.healthy) for v in proxy.router.views]
        sent = []
        proxy.router = cast(Router, Recording(proxy.router, log))
        wrapped = proxy.dispatch.send
        proxy.dispatch.send = lambda relay, attempt, client: sent.append(attempt) or wrapped(relay, attempt, client)  # type: ignore

        third = await bench.stack.enter_async_context(FakeReplica())
        for _ in range(4):
            await bench.ask()
        await bench.admin("POST", "/replicas", {"url": third.url})
        await until(lambda: proxy.router.views[-1].healthy)
        for _ in range(8):
            await bench.ask()
        await bench.admin("DELETE", "/replicas/0")
        for _ in range(4):
            await bench.ask()

        again = Refeed(log)
        again.run(build_router("power_of_two", {}, guards, pool, again, 1))
        decided = [(t.request.rid, t.router_try, t.replica_id) for t in sent]
        assert [(t.request.rid, t.router_try, t.replica_id) for t in again.sent] == decided
        assert {replica_id for *_, replica_id in decided} == {0, 1, 2}
        assert any(router_try > 1 for _, router_try, _ in decided)

    guards: list[tuple[str, dict[str, object]]] = [("retry", {"exclude": "last", "backoff_s": 0.0})]
    run(test, FakeReplica(refuse), FakeReplica(say_ok), policy=("power_of_two", {}), guards=guards)
