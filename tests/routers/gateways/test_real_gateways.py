"""The real programs in front of stub replicas: each rule sends where its name says, in both arms, and the process goes away."""

import asyncio
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from routers.gateways import GATEWAYS, find_gateway
from routers.gateways.ask import ask_once
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import GatewaySpec, Upstream
from routers.gateways.process import GatewayProcess, free_ports
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour, StubReplica

RULES = [(name, policy) for name in GATEWAYS for policy in find_gateway(name).policies]
Test = Callable[[GatewayProcess, list[StubReplica]], Awaitable[None]]


def through(name: str, setting: Setting, folder: Path, test: Test) -> None:
    async def go() -> None:
        async with asyncio.timeout(60), running(find_gateway(name), setting, folder) as (process, stubs):
            await test(process, stubs)

    asyncio.run(go())


async def sessions(process: GatewayProcess, n: int, first: int = 0) -> list[int]:
    """One request for each of `n` sessions; their statuses."""
    header = process.gateway.session_header
    return [(await ask_once(process.url, PATH, completion(first + i), {header: f"s{i}"})).status for i in range(n)]


def spread(stubs: list[StubReplica]) -> list[int]:
    return [len(stub.asked) for stub in stubs]


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "policy"), RULES)
def test_every_rule_serves_and_tells_its_version(name: str, policy: str, tmp_path: Path) -> None:
    async def test(process: GatewayProcess, stubs: list[StubReplica]) -> None:
        assert await sessions(process, 12) == [200] * 12
        assert sum(spread(stubs)) == 12
        assert any(c.isdigit() for c in process.version)
        assert process.memory_bytes() > 1_000_000
        if policy == "round_robin":
            assert spread(stubs) == [4, 4, 4]
        if policy == "uri_hash":
            assert max(spread(stubs)) == 12

    through(name, Setting(policy), tmp_path, test)


@pytest.mark.gateway
@pytest.mark.parametrize("name", GATEWAYS)
def test_the_bare_arm_serves_and_is_gone_after(name: str, tmp_path: Path) -> None:
    pids: list[int] = []

    async def test(process: GatewayProcess, stubs: list[StubReplica]) -> None:
        pids.extend(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _runs_in(p, tmp_path))
        assert await sessions(process, 6) == [200] * 6
        assert spread(stubs) == [2, 2, 2]

    through(name, Setting("round_robin", "bare"), tmp_path, test)
    assert pids, "its processes were seen while it ran"
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def _runs_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").resolve() == folder
    except OSError:
        return False


AFFINITY = [(n, p) for n, p in RULES if "hash" in p or p in ("maglev", "manual", "sticky_least_sessions")]


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "policy"), [(n, p) for n, p in AFFINITY if p != "uri_hash"])
def test_affinity_keeps_a_session_and_spreads_sessions(name: str, policy: str, tmp_path: Path) -> None:
    async def test(process: GatewayProcess, stubs: list[StubReplica]) -> None:
        header = process.gateway.session_header
        await sessions(process, 24)
        places = _session_places(stubs, header)
        assert len(set(places.values())) > 1, "sessions spread"
        await sessions(process, 24, first=100)  # other prompts of the same sessions
        assert _session_places(stubs, header) == places
        assert sum(spread(stubs)) == 48

    through(name, Setting(policy), tmp_path, test)


def _session_places(stubs: list[StubReplica], header: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, stub in enumerate(stubs):
        for asked in stub.asked:
            assert places.setdefault(asked.headers[header], place) == place, "a session on two replicas"
    return places


LOAD_AWARE = [(n, p) for n, p in RULES if p == "least_outstanding"]


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "policy"), LOAD_AWARE)
def test_least_outstanding_avoids_the_loaded_replicas(name: str, policy: str, tmp_path: Path) -> None:
    async def test(process: GatewayProcess, stubs: list[StubReplica]) -> None:
        long = []
        for i in range(2):  # one after the other: Envoy counts a request from when its connection stands
            long.append(asyncio.create_task(ask_once(process.url, PATH, completion(i))))
            while sum(spread(stubs)) <= i:
                await asyncio.sleep(0.02)
        for stub in stubs:
            stub.behaviour = Behaviour()
        free = spread(stubs).index(0)
        before = spread(stubs)
        assert await sessions(process, 10, first=10) == [200] * 10
        assert [after - b for after, b in zip(spread(stubs), before, strict=True)] == [10 if i == free else 0 for i in range(3)]
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)

    through(name, Setting(policy, behaviour=Behaviour(first_s=30.0)), tmp_path, test)


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "told"), [("haproxy", False), ("haproxy", True)])
def test_haproxy_passes_an_early_hang_up_on_only_if_told(name: str, told: bool, tmp_path: Path) -> None:
    async def test(process: GatewayProcess, stubs: list[StubReplica]) -> None:
        asking = asyncio.create_task(ask_once(process.url, PATH, completion(1)))
        while not stubs[0].asked:
            await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(1.0)
        assert stubs[0].asked[0].hung_up == told

    parameters = (("abort_on_close", told),)
    through(name, Setting("round_robin", parameters=parameters, replicas=1, behaviour=Behaviour(first_s=30.0)), tmp_path, test)


@pytest.mark.gateway
@pytest.mark.parametrize("name", [n for n in GATEWAYS if n != "nginx"])
def test_metrics_speak_prometheus(name: str, tmp_path: Path) -> None:
    async def test(process: GatewayProcess, stubs: list[StubReplica]) -> None:
        await sessions(process, 2)

        def fetched() -> str:
            with urllib.request.urlopen(process.metrics_url, timeout=5) as answer:
                return str(answer.read().decode())

        assert "# TYPE " in await asyncio.to_thread(fetched)

    through(name, Setting("round_robin"), tmp_path, test)


@pytest.mark.gateway
@pytest.mark.parametrize("name", ["sglang_router", "vllm_router"])
def test_pairs_get_a_prefill_and_a_decode_request_each(name: str, tmp_path: Path) -> None:
    async def go() -> None:
        async with asyncio.timeout(60), StubReplica() as p1, StubReplica() as p2, StubReplica() as d1, StubReplica() as d2:
            bootstrap = 8998 if name == "sglang_router" else None
            prefill = [Upstream(s.url, "prefill", bootstrap_port=bootstrap) for s in (p1, p2)]
            decode = [Upstream(s.url, "decode") for s in (d1, d2)]
            port, metrics_port = free_ports(2)
            spec = GatewaySpec("round_robin", (*prefill, *decode), port, metrics_port)
            process = GatewayProcess(find_gateway(name), spec, tmp_path)
            try:
                await asyncio.to_thread(process.start)
                assert await sessions(process, 4) == [200] * 4
            finally:
                await asyncio.to_thread(process.stop)
            assert len(p1.asked) + len(p2.asked) == 4
            assert len(d1.asked) + len(d2.asked) == 4
            first, second = (p1.asked or p2.asked)[0].json, (d1.asked or d2.asked)[0].json
            if name == "sglang_router":
                assert first["bootstrap_port"] == 8998
                rooms = [{a.json["bootstrap_room"] for s in pair for a in s.asked} for pair in ((p1, p2), (d1, d2))]
                assert rooms[0] == rooms[1]
            else:
                assert (first["max_tokens"], first["kv_transfer_params"]["do_remote_decode"]) == (1, True)
                assert second["kv_transfer_params"]["do_remote_prefill"] is True

    asyncio.run(go())
