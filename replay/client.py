"""The client population: sessions, patience and retries as a sans-IO state machine. It does not know routers or replicas.

Both drivers run it: inputs are `on_…`, outputs are calls of `ClientEffects`. Sessions are partly closed loop: a later turn is
due `think_s` after the previous answer ended, successful or not.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Protocol

import numpy as np

from replay.cell import SessionRule
from replay.prompts import PromptWriter
from replay.retry import RetryRule
from replay.rows import OpenAttempt
from workloads.request import Request, Segment
from workloads.request_table import RequestRows, Row
from workloads.workload import Workload

INF = float("inf")
_DUE, _TOTAL = 0, 2  # kinds of timers: what comes first at one instant; patience for a first token comes between them


class Root:
    """One request of the workload, over all its client attempts. `outcome` is set once: ok, a failure, or censored.

    `recorded` counts its rows. `lost` names the replies that its prompt carries as the trace's own text.
    """

    __slots__ = (
        "_rows",
        "attempts",
        "deadline_s",
        "lost",
        "outcome",
        "output_tokens",
        "prompt",
        "recorded",
        "reply_id",
        "request_id",
        "scheduled_s",
        "session_id",
        "tenant",
        "turns_waiting",
    )

    def __init__(self, rows: RequestRows, row: Row, scheduled_s: float, prompts: PromptWriter) -> None:
        self._rows = rows
        self.request_id, self.session_id, self.tenant, self.reply_id, self.output_tokens = row[:5]
        deadline_us, _, self.turns_waiting, ids, tokens = row[5:]
        self.scheduled_s = scheduled_s
        self.prompt, self.lost = prompts.write(self.request_id, self.session_id, ids, tokens)
        self.deadline_s = INF if deadline_us < 0 else scheduled_s + deadline_us / 1e6
        self.attempts = self.recorded = 0
        self.outcome = ""

    @property
    def request(self) -> Request:
        """The workload's own row, made when asked for."""
        return self._rows.request(self.request_id)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The prompt as the client wrote it, made when asked for."""
        ids, tokens = self._rows.prompt(self.request_id)
        return tuple(Segment(~i if i in self.lost else i, n) for i, n in zip(ids, tokens, strict=True))


class ClientAttempt:
    """One try of the client, from when it was due until it is answered or given up. `row` is that of its latest router try.

    `waits`: its first token has not come, and it has not ended.
    """

    __slots__ = ("due_s", "given_up", "number", "rid", "root", "row", "waits")

    def __init__(self, rid: int, root: Root, number: int, due_s: float) -> None:
        self.rid = rid
        self.root = root
        self.number = number
        self.due_s = due_s
        self.row: OpenAttempt | None = None
        self.given_up = False
        self.waits = True


class ClientEffects(Protocol):
    """What the driver does for the client."""

    def start(self, attempt: ClientAttempt, now_s: float) -> None: ...

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None: ...


class Client:
    """All sessions of one workload under one retry rule.

    `counts` after `close`: every request of the workload is in exactly one of ok, failed, censored (its answer was still open
    at the end), abandoned (its session quit before it was due) or not_due (due after the last phase).
    """

    def __init__(self, workload: Workload, rule: RetryRule, session: SessionRule, seed: int, effects: ClientEffects) -> None:
        if rule.idle_timeout_s is not None:
            raise ValueError("client.idle_timeout_s: no driver watches single chunks yet; it must be null")
        self._rows = rows = workload.table.rows()
        self._prompts = PromptWriter(rows, session.history)
        self._horizon_s = workload.horizon_s
        self._rule, self._session, self._seed, self._effects = rule, session, seed, effects
        self._timers: list[tuple[float, int, int, int]] = []  # (at_s, kind, request_id or rid, number)
        self._patience: deque[ClientAttempt] = deque()  # whose first token must come; one timeout for all, so in order of time
        self._ttft_s = INF if rule.ttft_timeout_s is None else rule.ttft_timeout_s
        self._limits_total = rule.total_timeout_s is not None
        self._open: dict[int, ClientAttempt] = {}
        self._roots: dict[int, Root] = {}  # without an outcome so far
        self._started = 0
        self._next_rid = 0
        self._tokens = rule.budget_burst
        self.counts = {"planned": len(rows), "ok": 0, "failed": 0, "censored": 0, "abandoned": 0, "not_due": 0}
        self.abandoned: list[int] = []  # request ids
        self._arrival: Row = (-1,) * 8 + ([], [])
        self._plan_arrivals(workload)

    @property
    def open_attempts(self) -> int:
        return len(self._open)

    def next_wake_s(self) -> float:
        """When the next timer is due (inf: nothing will happen any more without an answer)."""
        timers, patience = self._timers, self._patience
        at_s = self._arrival_s
        while timers and timers[0][1] == _TOTAL and timers[0][2] not in self._open:
            heappop(timers)
        if timers and timers[0][0] < at_s:
            at_s = timers[0][0]
        while patience and not patience[0].waits:
            patience.popleft()
        if patience and patience[0].due_s + self._ttft_s < at_s:
            at_s = patience[0].due_s + self._ttft_s
        return at_s

    def on_wake(self, now_s: float) -> None:
        """Start what is due, give up what is too late."""
        while (at_s := self.next_wake_s()) <= now_s:
            timer = self._timers[0] if self._timers and self._timers[0][0] == at_s else None
            if self._arrival_s == at_s and not (timer and timer[:3] < (at_s, _DUE, self._arrival[0])):
                self._start(self._root(self._next_arrival(), at_s), 1, at_s, now_s)
            elif timer and timer[1] == _DUE:
                _, _, key, number = heappop(self._timers)
                root = self._roots[key] if number > 1 else self._root(self._rows.row(key), at_s)
                self._start(root, number, at_s, now_s)
            elif self._patience and self._patience[0].due_s + self._ttft_s == at_s:
                self._give_up(self._patience.popleft(), now_s)
            else:
                self._give_up(self._open[heappop(self._timers)[2]], now_s)

    def on_first_token(self, rid: int, now_s: float) -> None:
        attempt = self._open.get(rid)
        if attempt is not None:
            attempt.waits = False

    def on_answer(self, rid: int, ok: bool, now_s: float) -> None:
        """The final answer of a client attempt; answers to attempts that were given up are ignored."""
        attempt = self._open.pop(rid, None)
        if attempt is not None:
            attempt.waits = False
            self._settle(attempt.root, ok, now_s)

    def close(self) -> tuple[list[ClientAttempt], list[ClientAttempt]]:
        """The run is over; what is not answered is censored. Returns the open attempts, and those that were not due yet."""
        for root in self._roots.values():
            root.outcome = "censored"
            self.counts["not_due"] += root.turns_waiting
        self.counts["censored"] += len(self._roots)
        self.counts["scheduled"] = self._started + len(self.abandoned)
        started = list(self._open.values())
        open_ids = {attempt.root.request_id for attempt in started}
        waiting = [
            ClientAttempt(0, self._roots[key], 0, at_s)
            for at_s, kind, key, _ in sorted(self._timers)
            if kind == _DUE and key in self._roots and key not in open_ids
        ]
        return started, waiting

    # Inside ------------------------------------------------------------------------------------------------------------

    def _plan_arrivals(self, workload: Workload) -> None:
        """The requests with a time of their own, by time and then by id; what comes after the last phase is not due."""
        due_s = workload.table.arrival_us / 1e6
        in_time = np.flatnonzero((due_s >= 0) & (due_s < self._horizon_s))
        in_time = in_time[np.argsort(due_s[in_time], kind="stable")]
        self._arrivals_s = iter(due_s[in_time].data)
        self._arrivals = self._rows.rows(in_time)
        self._next_arrival()
        for request_id in np.flatnonzero(due_s >= self._horizon_s).tolist():
            self.counts["not_due"] += 1 + self._rows.turns_waiting[request_id]

    def _next_arrival(self) -> Row:
        """The row that was next, and go on to the one after it."""
        row = self._arrival
        self._arrival_s = next(self._arrivals_s, INF)
        if self._arrival_s < INF:
            self._arrival = next(self._arrivals)
        return row

    def _root(self, row: Row, due_s: float) -> Root:
        """A request begins."""
        root = self._roots[row[0]] = Root(self._rows, row, due_s, self._prompts)
        self._started += 1
        if self._rule.budget is not None:
            self._tokens = min(self._rule.budget_burst, self._tokens + self._rule.budget)
        return root

    def _start(self, root: Root, number: int, due_s: float, now_s: float) -> None:
        root.attempts = number
        self._next_rid = rid = self._next_rid + 1
        attempt = self._open[rid] = ClientAttempt(rid, root, number, due_s)
        if self._ttft_s < INF:
            self._patience.append(attempt)
        if self._limits_total or root.deadline_s < INF:
            self._limit_total(attempt)
        self._effects.start(attempt, now_s)

    def _limit_total(self, attempt: ClientAttempt) -> None:
        """Timeouts run from when the attempt was due; the request's deadline bounds them all."""
        total_s, timeout_s = attempt.root.deadline_s, self._rule.total_timeout_s
        if timeout_s is not None:
            total_s = min(total_s, attempt.due_s + timeout_s)
        if total_s < INF:
            heappush(self._timers, (total_s, _TOTAL, attempt.rid, attempt.number))

    def _give_up(self, attempt: ClientAttempt, now_s: float) -> None:
        del self._open[attempt.rid]
        attempt.waits = False
        self._effects.give_up(attempt, self._rule.cancel, now_s)
        self._settle(attempt.root, False, now_s)

    def _settle(self, root: Root, ok: bool, now_s: float) -> None:
        number = root.attempts + 1
        if not ok and (self._rule.max_attempts is None or number <= self._rule.max_attempts):
            at_s = now_s + self._rule.backoff_before(number, self._seed, root.request_id)
            if at_s < root.deadline_s and self._pay_for_retry():
                heappush(self._timers, (at_s, _DUE, root.request_id, number))
                return
        root.outcome = "ok" if ok else "failed"
        self.counts[root.outcome] += 1
        del self._roots[root.request_id]
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
        prompts, following, waiting = self._prompts, root.request_id + 1, root.turns_waiting
        if not ok:
            prompts.lose(root.session_id, root.reply_id)
        if not waiting:
            prompts.forget_after(root.request_id, root.session_id)
            return
        if not ok and self._session.after_failure == "quit":
            prompts.forget(root.session_id)
            self.abandoned += range(following, following + waiting)
            self.counts["abandoned"] += waiting
            return
        at_s = now_s + max(0, self._rows.think_us[following]) / 1e6
        if at_s < self._horizon_s:
            heappush(self._timers, (at_s, _DUE, following, 1))
        else:
            self.counts["not_due"] += waiting
