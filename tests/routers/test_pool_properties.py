"""Replicas that join and leave amid everything else, and pairs that are sent at once: the same truths as ever."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.view import ReplicaView, Role
from routers.policy import Decision, RoutedRequest
from tests.routers.test_router_properties import EVENTS, GUARD_SETS, POLICIES, Story

steps = st.lists(
    st.tuples(st.sampled_from((*EVENTS, "join", "leave", "prefilled")), st.integers(0, 7), st.integers(0, 7)), max_size=80
)


class PoolStory(Story):
    """`together`: pairs go to both replicas at once."""

    def __init__(self, policy: str, guards: Sequence[tuple[str, dict[str, object]]], together: bool) -> None:
        super().__init__(policy, guards, set())
        self.router.pairs_together = together
        self.in_pool = {0, 1, 2, 3}
        self.next_id = 4
        self.paired = policy == "pd_pair"

    def on_decision(self, r: RoutedRequest, d: Decision, n: int, seen: Sequence[ReplicaView], now_s: float) -> None:
        super().on_decision(r, d, n, seen, now_s)
        assert {v.replica_id for v in seen} <= getattr(self, "in_pool", {0, 1, 2, 3}), "one that had left was shown"

    def step(self, event: str, a: int, b: int) -> None:
        live, ids = self.live(), sorted(self.in_pool)
        if event == "join":
            role: Role = ("prefill", "decode")[a % 2] if self.paired else "both"
            self.in_pool.add(self.next_id)
            self.router.add(ReplicaView(self.next_id, role=role), self.now_s)
            self.next_id += 1
        elif event == "leave" and ids:
            self.in_pool.discard(ids[a % len(ids)])
            self.router.remove(ids[a % len(ids)], self.now_s)
        elif event == "prefilled" and live:
            self.router.on_prefilled(live[a % len(live)])
        elif event not in ("health", "observe", "probe") or a % 4 in self.in_pool:
            super().step(event, a, b)

    def check(self) -> None:
        tries = [t for t in self.driver.sent if t.try_id in set(self.live())]
        for view in self.router.views:
            here = [t for t in tries if t.replica_id == view.replica_id]
            half = [t for t in tries if t.prefilling and t.decision.prefill_id == view.replica_id]
            assert view.in_flight == len(here) + len(half)
            assert view.in_flight_tokens == sum(t.tokens for t in here) + sum(t.request.prompt.tokens for t in half)
        assert {v.replica_id for v in self.router.views} == self.in_pool
        kept = {t.replica_id for t in tries} | {t.decision.prefill_id for t in tries if t.prefilling}
        assert set(self.router._by_id) == self.in_pool | kept, "what has left is known as long as something runs there"
        assert self.router.open_requests == len(self.arrived - set(self.driver.answers) - self.hung_up)


@settings(max_examples=200, deadline=None)
@given(story=steps, policy=st.sampled_from(POLICIES), guards=st.sampled_from(GUARD_SETS), together=st.booleans())
def test_a_pool_that_changes_loses_nothing(
    story: list[tuple[str, int, int]], policy: str, guards: list[tuple[str, dict[str, object]]], together: bool
) -> None:
    played = PoolStory(policy, guards, together)
    played.play(story)
    played.finish()
