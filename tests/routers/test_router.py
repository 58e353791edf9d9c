"""What the router does with a request, one rule a test."""

from collections.abc import Sequence

import pytest

from replicas.view import Observation, ReplicaView
from routers.guard import HOLD, Admission, Guard, Refuse, Release, Retry, TryEnd
from routers.guards import build_guard
from routers.policies import build_policy
from routers.policy import Decision, Policy, RoutedRequest
from routers.router import Router
from tests.routers.fake_driver import Always, FakeDriver, context, guard_context, request, views

INF = float("inf")


class RetryOnce(Guard):
    """Retries the first try after 1 s, away from the replica that failed; writes down all it hears."""

    def __init__(self, wait_s: float = 1.0, tries: int = 2) -> None:
        self.wait_s, self.tries = wait_s, tries
        self.ends: list[TryEnd] = []
        self.asked = self.done = 0

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        self.asked += 1
        return super().on_request(request, replicas, now_s)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> Retry | None:
        self.ends.append(end)
        return Retry(now_s + self.wait_s, frozenset((end.replica_id,))) if end.router_try < self.tries else None

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self.done += 1


class Door(Guard):
    """Holds everything until opened."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.open = False
        self.refuse_status: int | None = None

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        self.waiting.append(request.rid)
        return HOLD

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        if request.rid in self.waiting:
            self.waiting.remove(request.rid)

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        if not self.open:
            return ()
        left, self.waiting = self.waiting, []
        return [Release(rid, self.refuse_status) for rid in left]


class Hide(Guard):
    def __init__(self, *hidden: int) -> None:
        self.hidden = set(hidden)

    def admits(self, replica_id: int, now_s: float) -> bool:
        return replica_id not in self.hidden


class RefuseAll(Guard):
    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        return Refuse(429)


def build(policy: Policy, *guards: Guard, n: int = 3, on_decision: object = None) -> tuple[Router, FakeDriver]:
    driver = FakeDriver()
    router = Router(policy, guards, views(n), driver, on_decision=on_decision)  # type: ignore[arg-type]
    driver.router = router
    return router, driver


def test_a_request_is_sent_counted_and_answered() -> None:
    policy = Always(1)
    router, driver = build(policy)
    router.on_request(request(7, (1, 300), (2, 200), max_tokens=50), 0.0)
    assert (driver.last.replica_id, driver.last.stage, driver.last.router_try) == (1, "serve", 1)
    assert (router.views[1].in_flight, router.views[1].in_flight_tokens) == (1, 300 + 200 + 50)
    router.on_first_token(driver.last.try_id, 1.0)
    router.on_try_end(driver.last.try_id, True, 200, 2.0)
    end = driver.answers[7]
    assert (end.ok, end.status, end.error, end.last_try) == (True, 200, "", driver.last)
    assert (router.views[1].in_flight, router.views[1].in_flight_tokens, router.open_requests) == (0, 0, 0)
    assert policy.heard == [("sent", 1), ("first token", 1), ("ok", 1)]


def test_unknown_output_counts_as_1024_tokens_at_most() -> None:
    router, _ = build(Always())
    router.on_request(request(1, (1, 10), max_tokens=100_000), 0.0)
    assert router.views[0].in_flight_tokens == 10 + 1024


def test_a_failure_is_relayed_when_no_guard_retries() -> None:
    router, driver = build(Always())
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 502, 1.0, "bad gateway")
    assert (driver.answers[1].ok, driver.answers[1].status, driver.answers[1].error) == (False, 502, "bad gateway")


def test_a_retry_comes_at_its_time_and_excludes_the_replica() -> None:
    guard = RetryOnce()
    router, driver = build(Always(0), guard)
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 1.0)
    assert (router.next_wake_s(), driver.answers, router.views[0].in_flight) == (2.0, {}, 0)
    router.on_wake(1.9)
    assert driver.routes == [0]
    router.on_wake(2.0)
    assert driver.routes == [0, 1]
    assert (driver.last.router_try, driver.last.request.router_try, router.next_wake_s()) == (2, 2, INF)
    router.on_try_end(driver.last.try_id, True, 200, 3.0)
    assert (driver.answers[1].ok, guard.done) == (True, 1)


def test_exclusion_is_ignored_when_nothing_else_is_left() -> None:
    router, driver = build(Always(0), RetryOnce(), n=1)
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 1.0)
    router.on_wake(2.0)
    assert driver.routes == [0, 0]


@pytest.mark.parametrize(("ok", "streaming"), [(False, True), (True, False)])
def test_no_retry_once_a_token_was_relayed_nor_after_success(ok: bool, streaming: bool) -> None:
    guard = RetryOnce()
    router, driver = build(Always(0), guard)
    router.on_request(request(1), 0.0)
    if streaming:
        router.on_first_token(driver.last.try_id, 0.5)
    router.on_try_end(driver.last.try_id, ok, 200 if ok else 0, 1.0)
    assert driver.answers[1].ok is ok
    assert (guard.ends[0].streaming, router.next_wake_s()) == (streaming, INF)


def test_immediate_retries_of_a_driver_that_refuses_inside_send_do_not_nest() -> None:
    router, driver = build(Always(0), RetryOnce(wait_s=0.0, tries=5000))
    driver.refuse = {0, 1, 2}
    router.on_request(request(1), 0.0)
    router.on_wake(0.0)
    assert len(driver.sent) == 5000
    assert driver.answers[1].status == 503


def test_every_guard_hears_of_an_end_and_the_first_retry_counts() -> None:
    first, second = RetryOnce(wait_s=1.0), RetryOnce(wait_s=5.0)
    router, driver = build(Always(0), first, second)
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    assert (len(first.ends), len(second.ends), router.next_wake_s()) == (1, 1, 1.0)


def test_a_retry_passes_only_the_guards_after_the_one_that_asked() -> None:
    outer, asking, inner = RetryOnce(tries=1), RetryOnce(), RetryOnce(tries=1)
    router, driver = build(Always(0), outer, asking, inner)
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    router.on_wake(1.0)
    assert (outer.asked, asking.asked, inner.asked) == (1, 1, 2)


def test_a_held_request_goes_on_at_the_next_guard() -> None:
    door, after = Door(), RetryOnce()
    router, driver = build(Always(2), door, after)
    router.on_request(request(1), 0.0)
    assert (driver.sent, router.held_requests, after.asked) == ([], 1, 0)
    door.open = True
    router.on_wake(5.0)
    assert (driver.routes, router.held_requests, after.asked) == ([2], 0, 1)


def test_a_guard_may_refuse_what_it_holds() -> None:
    door = Door()
    router, driver = build(Always(), door)
    router.on_request(request(1), 0.0)
    door.open, door.refuse_status = True, 408
    router.on_wake(1.0)
    assert (driver.answers[1].status, driver.answers[1].last_try, router.open_requests) == (408, None, 0)


def test_a_guard_that_releases_what_it_does_not_hold_is_a_bug() -> None:
    class Confused(Guard):
        def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
            return [Release(1)]

    router, _ = build(Always(), Confused(), Door())
    with pytest.raises(RuntimeError, match="guard 0 releases rid 1"):
        router.on_request(request(1), 0.0)


def test_a_refused_request_is_answered_and_every_guard_told() -> None:
    before = RetryOnce()
    router, driver = build(Always(), before, RefuseAll())
    router.on_request(request(1), 0.0)
    assert (driver.answers[1].status, driver.sent, before.done) == (429, [], 1)


def test_hidden_and_unhealthy_replicas_are_not_shown() -> None:
    policy = Always(0)
    router, driver = build(policy, Hide(0), n=4)
    router.set_healthy(2, False, 0.0)
    router.on_request(request(1), 0.0)
    router.set_healthy(2, True, 0.0)
    router.on_request(request(2), 0.0)
    assert policy.shown == [[1, 3], [1, 2, 3]]
    assert driver.routes == [1, 1]


def test_a_guard_is_shown_what_the_others_admit() -> None:
    class Look(Hide):
        shown: list[int]

        def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
            self.shown = [v.replica_id for v in replicas]
            return super().on_request(request, replicas, now_s)

    first, second = Look(0), Look(1)
    router, _ = build(Always(), first, second, n=4)
    router.set_healthy(3, False, 0.0)
    router.on_request(request(1), 0.0)
    assert (first.shown, second.shown) == ([0, 2], [1, 2])


def test_no_eligible_replica_is_503() -> None:
    router, driver = build(Always(), Hide(0, 1))
    router.set_healthy(2, False, 0.0)
    router.on_request(request(1), 0.0)
    assert (driver.answers[1].status, driver.answers[1].error) == (503, "no eligible replica")


def test_nothing_hidden_means_one_shared_list() -> None:
    seen: list[Sequence[ReplicaView]] = []

    class Watch(Always):
        def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
            seen.append(replicas)
            return super().choose(request, replicas, now_s)

    router, _ = build(Watch(), Hide())
    router.on_request(request(1), 0.0)
    router.on_request(request(2), 0.0)
    assert seen[0] is seen[1]


def test_a_hang_up_aborts_the_try_and_late_news_of_it_is_ignored() -> None:
    policy, guard = Always(0), RetryOnce()
    router, driver = build(policy, guard)
    router.on_request(request(1), 0.0)
    router.on_cancel(1, 1.0)
    assert (driver.aborted, driver.answers) == ([driver.last.try_id], {})
    assert (router.views[0].in_flight, router.views[0].in_flight_tokens, router.open_requests) == (0, 0, 0)
    assert (policy.heard, guard.ends, guard.done) == ([("sent", 0), ("failed", 0)], [], 1)
    router.on_first_token(driver.last.try_id, 2.0)
    router.on_try_end(driver.last.try_id, True, 200, 2.0)
    router.on_cancel(1, 2.0)
    assert (driver.answers, guard.done, router.views[0].in_flight) == ({}, 1, 0)


def test_a_hang_up_drops_a_held_request() -> None:
    door = Door()
    router, driver = build(Always(), door)
    router.on_request(request(1), 0.0)
    router.on_cancel(1, 1.0)
    door.open = True
    router.on_wake(2.0)
    assert (driver.sent, door.waiting, router.open_requests, router.held_requests) == ([], [], 0, 0)


def test_a_hang_up_during_the_backoff_drops_the_retry() -> None:
    router, driver = build(Always(), RetryOnce())
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    router.on_cancel(1, 0.5)
    assert router.next_wake_s() == INF
    router.on_wake(1.0)
    assert (len(driver.sent), driver.aborted) == (1, [])


def test_a_rid_may_not_come_twice() -> None:
    router, _ = build(Always())
    router.on_request(request(1), 0.0)
    with pytest.raises(ValueError, match="rid 1 is already in the router"):
        router.on_request(request(1), 0.0)


def test_news_is_written_into_the_view_with_its_own_age() -> None:
    router, _ = build(Always())
    router.on_observation(2, Observation(4, 5, 0.75), 10.0, observed_s=9.5)
    view = router.views[2]
    assert (view.waiting, view.running, view.kv_used, view.observed_s) == (4, 5, 0.75, 9.5)
    router.on_observation(2, Observation(0, 1, 0.5), 11.0)
    assert (view.waiting, view.observed_s) == (0, 11.0)


def test_the_decision_log_sees_the_pool_before_the_send_is_counted() -> None:
    log: list[tuple[int, int, int, list[int], float]] = []

    def note(r: RoutedRequest, d: Decision, router_try: int, seen: Sequence[ReplicaView], now_s: float) -> None:
        log.append((r.rid, d.replica_id, router_try, [v.in_flight for v in seen], now_s))

    router, driver = build(Always(1), RetryOnce(), on_decision=note)
    router.on_request(request(1), 0.0)
    router.on_request(request(2), 0.5)
    router.on_try_end(driver.last.try_id, False, 503, 1.0)
    router.on_wake(2.0)
    assert log == [(1, 1, 1, [0, 0, 0], 0.0), (2, 1, 1, [0, 1, 0], 0.5), (2, 0, 2, [0, 0], 2.0)]


# PD pairs


def pd(*guards: Guard) -> tuple[Router, FakeDriver]:
    driver = FakeDriver()
    pool = views(4, ["prefill", "prefill", "decode", "decode"])
    router = Router(build_policy("pd_pair", context(4)), guards, pool, driver)
    driver.router = router
    return router, driver


def test_a_pair_is_prefilled_then_decoded() -> None:
    router, driver = pd()
    router.on_request(request(1, (1, 100), max_tokens=20), 0.0)
    prefill = driver.last
    assert (prefill.stage, prefill.replica_id, prefill.decision.prefill_id) == ("prefill", prefill.replica_id, prefill.replica_id)
    assert prefill.replica_id in (0, 1)
    assert router.views[prefill.replica_id].in_flight_tokens == 100
    router.on_try_end(prefill.try_id, True, 200, 1.0)
    decode = driver.last
    assert (decode.stage, decode.router_try, decode.replica_id) == ("decode", 1, prefill.decision.replica_id)
    assert (router.views[prefill.replica_id].in_flight, router.views[decode.replica_id].in_flight_tokens) == (0, 120)
    assert driver.answers == {}
    router.on_try_end(decode.try_id, True, 200, 2.0)
    assert driver.answers[1].last_try is decode


@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_the_failure_of_either_stage_is_a_failed_try_of_the_pair(stage: str) -> None:
    router, driver = pd(build_guard("retry", guard_context(exclude="last", jitter=0.0)))
    router.on_request(request(1), 0.0)
    if stage == "decode":
        router.on_try_end(driver.last.try_id, True, 200, 1.0)
    failed = driver.last
    router.on_try_end(failed.try_id, False, 503, 2.0)
    router.on_wake(router.next_wake_s())
    again = driver.last
    assert (again.stage, again.router_try) == ("prefill", 2)
    assert failed.replica_id not in (again.decision.prefill_id, again.decision.replica_id)


def test_a_prefills_token_is_not_relayed_so_decode_may_still_fail_over() -> None:
    guard = RetryOnce()
    router, driver = pd(guard)
    router.on_request(request(1), 0.0)
    router.on_first_token(driver.last.try_id, 0.5)
    router.on_try_end(driver.last.try_id, False, 0, 1.0)
    assert (guard.ends[0].streaming, router.next_wake_s()) == (False, 2.0)


def test_a_pair_without_its_role_is_503() -> None:
    router, driver = pd()
    router.set_healthy(2, False, 0.0)
    router.set_healthy(3, False, 0.0)
    router.on_request(request(1), 0.0)
    assert driver.answers[1].status == 503


def test_the_only_replica_of_a_role_is_used_again_though_excluded() -> None:
    router, driver = pd(RetryOnce())
    router.set_healthy(0, False, 0.0)
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    router.on_wake(1.0)
    assert driver.routes == [1, 1]
