"""A router's inputs, written down and fed to another one built alike: it decides alike, whoever joined or left meanwhile."""

from replicas.view import Observation, ReplicaView
from routers.factory import build_router
from routers.input_log import INPUTS, Input, Recording, Refeed
from routers.router import Router
from routers.tries import Effects
from tests.routers.fake_driver import FakeDriver, request


def built(effects: Effects, policy: str = "least_outstanding", together: bool = False) -> Router:
    roles = ("prefill", "prefill", "decode", "decode") if policy == "pd_pair" else ("both", "both")
    views = [ReplicaView(i, role=role) for i, role in enumerate(roles)]  # type: ignore[arg-type]
    router = build_router(policy, {}, [("retry", {"exclude": "last"})], views, effects, 3)
    router.pairs_together = together
    return router


def test_replicas_that_join_and_leave_do_so_again() -> None:
    driver, log = FakeDriver(), list[Input]()
    router = Recording(built(driver), log)
    for rid in range(6):
        router.on_request(request(rid), 0.1 * rid)
    router.add(ReplicaView(2, role="both", healthy=False), 1.0)
    router.set_healthy(2, True, 1.1)
    for rid in range(6, 12):
        router.on_request(request(rid), 1.2)
    router.on_observation(2, Observation(1, 2, 0.5), 1.3, observed_s=1.25)
    router.remove(0, 1.4)
    for attempt in list(driver.sent):
        router.on_try_end(attempt.try_id, attempt.try_id % 3 != 0, 503, 1.5)
    router.on_wake(3.0)
    for rid in range(12, 18):
        router.on_request(request(rid), 3.1)

    again = Refeed(log)
    second = built(again)
    again.run(second)
    sent = [(t.request.rid, t.router_try, t.replica_id) for t in driver.sent]
    assert [(t.request.rid, t.router_try, t.replica_id) for t in again.sent] == sent
    assert {replica_id for *_, replica_id in sent} == {0, 1, 2}
    assert {replica_id for rid, _, replica_id in sent if rid >= 12} == {1, 2}
    assert [(v.replica_id, v.in_flight, v.in_flight_tokens) for v in second.views] == [
        (v.replica_id, v.in_flight, v.in_flight_tokens) for v in router.views
    ]
    assert {e.name for e in log} >= {"add", "remove"}


def test_a_log_keeps_a_joining_view_as_it_was() -> None:
    log = list[Input]()
    router = Recording(built(FakeDriver()), log)
    router.add(ReplicaView(2, role="both"), 0.0)
    for rid in range(9):
        router.on_request(request(rid), 1.0)
    kept = log[0].arguments[0]
    assert (router.views[2].in_flight, kept.in_flight) == (3, 0)
    for _ in range(2):
        Refeed(log).run(built(FakeDriver()))
    assert kept.in_flight == 0


def test_halves_of_a_pair_end_again_where_they_did() -> None:
    driver, log = FakeDriver(), list[Input]()
    router = Recording(built(driver, "pd_pair", together=True), log)
    for rid in range(3):
        router.on_request(request(rid), 0.0)
    first, second, _ = driver.sent
    router.on_prefilled(first.try_id)
    router.on_try_end(second.try_id, False, 503, 1.0, "its prefill failed", at=second.decision.prefill_id)
    assert log[-1].arguments[-1] == second.decision.prefill_id
    again = built(refeed := Refeed(log), "pd_pair", together=True)
    refeed.run(again)
    assert [v.in_flight for v in again.views] == [v.in_flight for v in router.views]
    assert "on_prefilled" in {e.name for e in log}


def test_whatever_tells_a_router_something_is_an_input() -> None:
    told = {name for name, kind in vars(Router).items() if callable(kind) and name.startswith(("on_", "set_", "add", "remove"))}
    assert told == set(INPUTS)
