"""The client population: sessions, patience and retries as a sans-IO state machine. It does not know routers or replicas.

Both drivers run it: inputs are `on_…`, outputs are calls of `ClientEffects`. Sessions are partly closed loop: a later turn is
due `think_s` after the previous answer ended, successful or not.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol

from replay.cell import SessionRule
from replay.retry import RetryRule
from workloads.request import Prompt, Request, Segment
from workloads.workload import Workload

INF = float("inf")
_DUE, _TTFT, _TOTAL = 0, 1, 2


class Root:
    """One request of the workload, over all its client attempts. `outcome` is set once: ok, a failure, or censored."""

    __slots__ = ("attempts", "deadline_s", "outcome", "prompt", "request", "scheduled_s", "segments")

    def __init__(self, request: Request, scheduled_s: float, segments: tuple[Segment, ...]) -> None:
        self.request = request
        self.scheduled_s = scheduled_s
        self.segments = segments  # the prompt as the client wrote it
        self.prompt = Prompt.of(segments)
        self.deadline_s = INF if request.deadline_s is None else scheduled_s + request.deadline_s
        self.attempts = 0
        self.outcome = ""


class ClientAttempt:
    """One try of the client, from when it was due until it is answered or given up."""

    __slots__ = ("due_s", "first_token", "number", "rid", "root")

    def __init__(self, rid: int, root: Root, number: int, due_s: float) -> None:
        self.rid = rid
        self.root = root
        self.number = number
        self.due_s = due_s
        self.first_token = False


class ClientEffects(Protocol):
    """What the driver does for the client."""

    def start(self, attempt: ClientAttempt, now_s: float) -> None: ...

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None: ...


class Client:
    """All sessions of one workload under one retry rule.

    Counts of `roots` after `close`: every request of the workload is in exactly one of ok, failed, censored (its answer was
    still open at the end), abandoned (its session quit before it was due) or not_due (due after the last phase).
    """

    def __init__(self, workload: Workload, rule: RetryRule, session: SessionRule, seed: int, effects: ClientEffects) -> None:
        if rule.idle_timeout_s is not None:
            raise ValueError("client.idle_timeout_s: no driver watches single chunks yet; it must be null")
        self._requests = workload.requests
        self._waiting = _turns_waiting(self._requests)
        self._horizon_s = workload.horizon_s
        self._rule, self._session, self._seed, self._effects = rule, session, seed, effects
        self._timers: list[tuple[float, int, int, int]] = []  # (at_s, kind, request_id or rid, number)
        self._open: dict[int, ClientAttempt] = {}
        self._roots: dict[int, Root] = {}
        self._lost: dict[int, set[int]] = {}  # session → reply ids that the client never received
        self._next_rid = 0
        self._tokens = rule.budget_burst
        self.counts = {"planned": len(self._requests), "ok": 0, "failed": 0, "censored": 0, "abandoned": 0, "not_due": 0}
        self.abandoned: list[Request] = []
        for request in self._requests:
            if request.arrival_s is None:
                continue
            if request.arrival_s < self._horizon_s:
                heappush(self._timers, (request.arrival_s, _DUE, request.request_id, 1))
            else:
                self.counts["not_due"] += 1 + self._waiting[request.request_id]

    @property
    def open_attempts(self) -> int:
        return len(self._open)

    def next_wake_s(self) -> float:
        """When the next timer is due (inf: nothing will happen any more without an answer)."""
        timers = self._timers
        while timers and timers[0][1] != _DUE and not self._is_waiting(timers[0]):
            heappop(timers)
        return timers[0][0] if timers else INF

    def on_wake(self, now_s: float) -> None:
        """Start what is due, give up what is too late."""
        timers = self._timers
        while timers and timers[0][0] <= now_s:
            timer = heappop(timers)
            at_s, kind, key, number = timer
            if kind == _DUE:
                self._start(self._requests[key], number, at_s, now_s)
            elif self._is_waiting(timer):
                self._give_up(self._open[key], now_s)

    def on_first_token(self, rid: int, now_s: float) -> None:
        attempt = self._open.get(rid)
        if attempt is not None:
            attempt.first_token = True

    def on_answer(self, rid: int, ok: bool, now_s: float) -> None:
        """The final answer of a client attempt; answers to attempts that were given up are ignored."""
        attempt = self._open.pop(rid, None)
        if attempt is not None:
            self._settle(attempt, ok, now_s)

    def close(self) -> tuple[list[ClientAttempt], list[ClientAttempt]]:
        """The run is over; what is not answered is censored. Returns the open attempts, and those that were not due yet."""
        for root in self._roots.values():
            if not root.outcome:
                root.outcome = "censored"
                self.counts["censored"] += 1
                self.counts["not_due"] += self._waiting[root.request.request_id]
        self.counts["scheduled"] = len(self._roots) + len(self.abandoned)
        started = list(self._open.values())
        open_ids = {attempt.root.request.request_id for attempt in started}
        waiting = [
            ClientAttempt(0, self._roots[key], 0, at_s)
            for at_s, kind, key, _ in sorted(self._timers)
            if kind == _DUE and key in self._roots and key not in open_ids
        ]
        return started, waiting

    # Inside ------------------------------------------------------------------------------------------------------------

    def _is_waiting(self, timer: tuple[float, int, int, int]) -> bool:
        attempt = self._open.get(timer[2])
        return attempt is not None and (timer[1] == _TOTAL or not attempt.first_token)

    def _start(self, request: Request, number: int, due_s: float, now_s: float) -> None:
        root = self._roots.get(request.request_id)
        if root is None:
            root = Root(request, due_s, self._segments(request))
            self._roots[request.request_id] = root
            if self._rule.budget is not None:
                self._tokens = min(self._rule.budget_burst, self._tokens + self._rule.budget)
        root.attempts = number
        self._next_rid = rid = self._next_rid + 1
        attempt = self._open[rid] = ClientAttempt(rid, root, number, due_s)
        self._arm(attempt, now_s)
        self._effects.start(attempt, now_s)

    def _arm(self, attempt: ClientAttempt, now_s: float) -> None:
        """Timeouts run from when the attempt was due; the request's deadline bounds them all."""
        rule, timers = self._rule, self._timers
        if rule.ttft_timeout_s is not None:
            heappush(timers, (attempt.due_s + rule.ttft_timeout_s, _TTFT, attempt.rid, attempt.number))
        total_s = attempt.root.deadline_s
        if rule.total_timeout_s is not None:
            total_s = min(total_s, attempt.due_s + rule.total_timeout_s)
        if total_s < INF:
            heappush(timers, (total_s, _TOTAL, attempt.rid, attempt.number))

    def _give_up(self, attempt: ClientAttempt, now_s: float) -> None:
        del self._open[attempt.rid]
        self._effects.give_up(attempt, self._rule.cancel, now_s)
        self._settle(attempt, False, now_s)

    def _settle(self, attempt: ClientAttempt, ok: bool, now_s: float) -> None:
        root = attempt.root
        number = root.attempts + 1
        if not ok and (self._rule.max_attempts is None or number <= self._rule.max_attempts):
            at_s = now_s + self._rule.backoff_before(number, self._seed, root.request.request_id)
            if at_s < root.deadline_s and self._pay_for_retry():
                heappush(self._timers, (at_s, _DUE, root.request.request_id, number))
                return
        root.outcome = "ok" if ok else "failed"
        self.counts[root.outcome] += 1
        self._next_turn(root, ok, now_s)

    def _pay_for_retry(self) -> bool:
        """Take a token from the retry budget, where there is one; False when it is spent."""
        if self._rule.budget is None:
            return True
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _next_turn(self, root: Root, ok: bool, now_s: float) -> None:
        following = root.request.request_id + 1
        session_id = root.request.session_id
        if not ok:
            self._lost.setdefault(session_id, set()).add(root.request.reply_id)
        waiting = self._waiting[root.request.request_id]
        if not waiting:
            if following >= len(self._requests) or self._requests[following].session_id != session_id:
                self._lost.pop(session_id, None)
            return
        request = self._requests[following]
        if not ok and self._session.after_failure == "quit":
            self._abandon(session_id, following, waiting)
            return
        at_s = now_s + (request.think_s or 0.0)
        if at_s < self._horizon_s:
            heappush(self._timers, (at_s, _DUE, following, 1))
        else:
            self.counts["not_due"] += waiting

    def _abandon(self, session_id: int, first: int, turns: int) -> None:
        self._lost.pop(session_id, None)
        self.abandoned += self._requests[first : first + turns]
        self.counts["abandoned"] += turns

    def _segments(self, request: Request) -> tuple[Segment, ...]:
        """The prompt as this client can write it: a reply it never received (or, with `history: trace`, any reply) is the
        trace's own text, which no engine has generated: another content id of the same length."""
        if self._session.history == "trace":
            replies = {r.reply_id for r in self._turns_before(request)}
        else:
            replies = self._lost.get(request.session_id, set())
        if not replies:
            return request.segments
        return tuple(Segment(~s.content_id, s.tokens) if s.content_id in replies else s for s in request.segments)

    def _turns_before(self, request: Request) -> list[Request]:
        first = request.request_id
        while first > 0 and self._requests[first - 1].session_id == request.session_id:
            first -= 1
        return list(self._requests[first : request.request_id])


def _turns_waiting(requests: Sequence[Request]) -> list[int]:
    """For each request, how many later turns of its session come only after it has ended: those without a time of their own."""
    waiting = [0] * len(requests)
    for i in range(len(requests) - 2, -1, -1):
        following = requests[i + 1]
        if following.session_id == requests[i].session_id and following.arrival_s is None:
            waiting[i] = 1 + waiting[i + 1]
    return waiting
