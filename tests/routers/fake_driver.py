"""A driver that only writes down what the router asks for, and makers of requests and views."""

from collections.abc import Sequence

from replicas.view import ReplicaView, Role
from routers.guard import GuardContext
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd
from routers.tries import RequestEnd, Try
from workloads.request import Prompt, Segment


class FakeDriver:
    """`refuse` names replicas that answer 503 inside `send`, as a full engine queue does; set `router` for it."""

    def __init__(self) -> None:
        self.sent: list[Try] = []
        self.aborted: list[int] = []
        self.probed: list[int] = []
        self.answers: dict[int, RequestEnd] = {}
        self.refuse: set[int] = set()
        self.router: object = None

    @property
    def last(self) -> Try:
        return self.sent[-1]

    @property
    def routes(self) -> list[int]:
        return [t.replica_id for t in self.sent]

    def send(self, attempt: Try, now_s: float) -> None:
        self.sent.append(attempt)
        if attempt.replica_id in self.refuse:
            self.router.on_try_end(attempt.try_id, False, 503, now_s, "queue full")  # type: ignore[attr-defined]

    def abort(self, try_id: int, now_s: float) -> None:
        self.aborted.append(try_id)

    def probe(self, replica_id: int, now_s: float) -> None:
        self.probed.append(replica_id)

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        assert rid not in self.answers, f"rid {rid} is answered twice"
        self.answers[rid] = end


def request(
    rid: int,
    *segments: tuple[int, int],
    session: int | None = None,
    attempt: int = 1,
    max_tokens: int = 256,
    deadline_s: float = 1e9,
) -> RoutedRequest:
    """Segments are (content_id, tokens); without any, 100 tokens of its own."""
    prompt = Prompt.of(tuple(Segment(c, n) for c, n in segments or ((10_000 + rid, 100),)))
    return RoutedRequest(rid, rid, attempt, rid if session is None else session, 0, prompt, max_tokens, deadline_s)


def views(n: int, roles: Sequence[Role] = ()) -> list[ReplicaView]:
    return [ReplicaView(i, role=roles[i] if roles else "both") for i in range(n)]


def loaded(*in_flight: int) -> list[ReplicaView]:
    """Views with these requests in flight."""
    return [ReplicaView(i, in_flight=n) for i, n in enumerate(in_flight)]


def context(n: int, seed: int = 1, **parameters: object) -> PolicyContext:
    return PolicyContext(seed, tuple(range(n)), parameters)


def guard_context(n: int = 4, seed: int = 1, **parameters: object) -> GuardContext:
    return GuardContext(seed, tuple(range(n)), parameters)


class Always(Policy):
    """Chooses one replica, or the first eligible one where that is away; writes down its hooks."""

    def __init__(self, replica_id: int = 0) -> None:
        self.replica_id = replica_id
        self.heard: list[tuple[str, int]] = []
        self.shown: list[list[int]] = []

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        ids = [v.replica_id for v in replicas]
        self.shown.append(ids)
        return Decision(self.replica_id if self.replica_id in ids else ids[0], "always")

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self.heard.append(("sent", decision.replica_id))

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self.heard.append(("first token", decision.replica_id))

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        self.heard.append(("ok" if end.ok else "failed", decision.replica_id))
