"""A router with some guards in front of a fake driver, played by hand: what arrives, what ends, what was answered."""

from replicas.profile import EngineProfile
from routers.factory import build_router
from tests.routers.fake_driver import FakeDriver, request, views

Guards = list[tuple[str, dict[str, object]]]


class Stage:
    """`status` of every answer so far by rid; `sent` the rids in the order in which they were sent."""

    def __init__(
        self, guards: Guards, n: int = 1, policy: str = "least_outstanding", seed: int = 1, profile: EngineProfile | None = None
    ) -> None:
        self.driver = FakeDriver()
        self.router = build_router(policy, {}, guards, views(n), self.driver, seed, profile=profile)
        self.driver.router = self.router
        self._ended: set[int] = set()
        self._latest: dict[int, int] = {}  # rid → its last try, of those looked at so far
        self._looked_at = 0

    @property
    def sent(self) -> list[int]:
        return [t.request.rid for t in self.driver.sent]

    @property
    def status(self) -> dict[int, int]:
        return {rid: end.status for rid, end in self.driver.answers.items()}

    @property
    def held(self) -> int:
        return self.router.held_requests

    def arrive(self, *rids: int, at_s: float = 0.0, tokens: int = 100, deadline_s: float = 1e9) -> None:
        for rid in rids:
            self.router.on_request(request(rid, (10_000 + rid, tokens), deadline_s=deadline_s), at_s)

    def try_of(self, rid: int) -> int:
        """The last try of a request."""
        for attempt in self.driver.sent[self._looked_at :]:
            self._latest[attempt.request.rid] = attempt.try_id
        self._looked_at = len(self.driver.sent)
        return self._latest[rid]

    def first_token(self, rid: int, at_s: float = 0.0) -> None:
        self.router.on_first_token(self.try_of(rid), at_s)

    def end(self, rid: int, status: int = 200, at_s: float = 0.0, output_tokens: int = 0, cached: int | None = None) -> None:
        self.router.on_try_end(self.try_of(rid), status == 200, status, at_s, "", output_tokens, cached)

    def end_all(self, status: int = 200, at_s: float = 0.0) -> None:
        """Every try under way ends, until none is left (a queue may send more)."""
        while live := [t for t in self.driver.sent if t.try_id not in self._ended and t.try_id not in self.driver.aborted]:
            for attempt in live:
                self._ended.add(attempt.try_id)
                self.router.on_try_end(attempt.try_id, status == 200, status, at_s)

    def wake_until(self, until_s: float) -> None:
        while (wake_s := self.router.next_wake_s()) <= until_s:
            self.router.on_wake(wake_s)
