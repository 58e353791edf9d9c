"""A rule that would hear nothing is refused before it routes anything, with the parameter to change."""

import asyncio

import pytest

from replay.live import LiveRun
from replay.recorder import Recorder
from replicas.view import Role
from routers.serve.proxy import Named, Proxy
from routers.serve.replica_link import Address
from routers.serve.settings import ServeSettings
from tests.replay.scenes import cell, single_turns

EXACT: list[Named] = [("kv_cost", {}), ("epp_weighted", {"index": "exact"}), ("lmetric", {"index": "exact"})]
PAIR: Named = ("pd_pair", {"prefill_policy": "kv_cost"})
SAYS = "index = 'exact' listens to KV events, which replicas over HTTP do not bring; set index=approximate"


def served(policy: Named, roles: tuple[Role, ...] = ("both",)) -> Proxy:
    pool = [(Address.of(f"http://127.0.0.1:{port}"), role) for port, role in enumerate(roles, 9)]
    return Proxy(policy, [], pool, ServeSettings())


@pytest.mark.parametrize("policy", EXACT)
def test_the_served_router_says_what_to_change(policy: Named) -> None:
    with pytest.raises(ValueError, match=f"^router {policy[0]!r}: {SAYS} in its parameters$"):
        served(policy)
    assert served((policy[0], {"index": "approximate"})).router.policy.wants_kv_events is False


def test_a_half_of_a_pair_counts() -> None:
    with pytest.raises(ValueError, match=f"{SAYS} in prefill_parameters and decode_parameters$"):
        served(PAIR, ("prefill", "decode"))
    served((PAIR[0], {**PAIR[1], "prefill_parameters": {"index": "approximate"}}), ("prefill", "decode"))


@pytest.mark.parametrize("policy", EXACT)
def test_a_live_run_says_it_too(policy: Named) -> None:
    async def build(parameters: dict[str, object]) -> None:
        LiveRun(cell(policy[0], **parameters), single_turns([0.1]), [9], Recorder(), 0.0)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=SAYS):
        asyncio.run(build(policy[1]))
    asyncio.run(build({"index": "approximate"}))
