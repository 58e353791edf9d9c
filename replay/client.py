"""The client population: sessions, patience and retries as a sans-IO state machine. It does not know routers or replicas.

Both drivers run it: inputs are `on_…`, outputs are calls of `ClientEffects`. Sessions are partly closed loop: a later turn is
due `think_s` after the previous answer ended, successful or not.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Protocol

import numpy as np

from replay.arrivals import INF as INF
from replay.arrivals import NO_ARRIVAL, Facts, planned_arrivals
from replay.cell import SessionRule
from replay.prompts import NOTHING, PromptWriter
from replay.retry import RetryRule
from replay.rows import OpenAttempt
from workloads.request import Prompt, Request, Segment
from workloads.request_table import RequestRows
from workloads.workload import Workload

_DUE, _TOTAL = 0, 2  # kinds of timers: what comes first at one instant; patience for a first token comes between them


class Root:
    """One request of the workload, over all its client attempts.

    `recorded` counts its rows. `lost` names the replies that its prompt carries as the trace's own text.
    """

    __slots__ = (
        "_rows",
        "attempts",
        "deadline_s",
        "lost",
        "output_tokens",
        "prompt",
        "recorded",
        "reply_id",
        "request_id",
        "session_id",
        "tenant",
        "turns_waiting",
    )

    def __init__(self, rows: RequestRows, facts: Facts, scheduled_s: float, prompt: Prompt, lost: frozenset[int]) -> None:
        self._rows = rows
        self.request_id, self.session_id, self.tenant, self.reply_id, self.output_tokens, deadline_us, self.turns_waiting = facts
        self.prompt, self.lost = prompt, lost
        self.deadline_s = INF if deadline_us < 0 else scheduled_s + deadline_us / 1e6
        self.attempts = self.recorded = 0

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
    at the end), abandoned (its session quit before it was due) or not_due (due after the last phase). Nothing is due before
    `due_s`, which costs nothing to read; `next_wake_s` is exact. `watches_chunks`: the driver calls `on_silence`.
    """

    def __init__(
        self,
        workload: Workload,
        rule: RetryRule,
        session: SessionRule,
        seed: int,
        effects: ClientEffects,
        watches_chunks: bool = False,
    ) -> None:
        if rule.idle_timeout_s is not None and not watches_chunks:
            raise ValueError("client.idle_timeout_s: this driver watches no single chunks; it must be null")
        self._rows = rows = workload.table.rows()
        self._prompts = PromptWriter(rows, session.history)
        self._horizon_s = workload.horizon_s
        self._rule, self._session, self._seed, self._effects = rule, session, seed, effects
        # (at_s, kind, request_id or rid, number of the attempt, the request where it has begun)
        self._timers: list[tuple[float, int, int, int, Root | None]] = []
        self._patience: deque[ClientAttempt] = deque()  # whose first token must come; one timeout for all, so in order of time
        self._ttft_s = INF if rule.ttft_timeout_s is None else rule.ttft_timeout_s
        self._limits_total = rule.total_timeout_s is not None
        self._open: dict[int, ClientAttempt] = {}
        self._started = 0
        self._next_rid = 0
        self._tokens = rule.budget_burst
        self.counts = {"planned": len(rows), "ok": 0, "failed": 0, "censored": 0, "abandoned": 0, "not_due": 0}
        self.abandoned: list[int] = []  # request ids
        self._planned_us = workload.table.arrival_us
        self._arrivals, too_late = planned_arrivals(workload.table, np.asarray(rows.turns_waiting), self._horizon_s)
        self._traces_own = session.history == "trace"
        self.counts["not_due"] = sum(1 + rows.turns_waiting[i] for i in too_late.tolist())
        self._arrival = next(self._arrivals, NO_ARRIVAL)
        self._arrival_s = self._arrival[0]
        self.due_s = 0.0

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
        self.due_s = at_s
        return at_s

    def on_wake(self, now_s: float) -> None:
        """Start what is due, give up what is too late."""
        timers = self._timers
        at_s = self._arrival_s if self._arrival_s == self.due_s else self.next_wake_s()
        while at_s <= now_s:
            if self._arrival_s == at_s and not (timers and timers[0] < (at_s, _DUE, self._arrival[1][0])):
                _, facts, prompt, stands_alone = self._arrival
                lost = NOTHING
                if not stands_alone or self._prompts.lost or self._traces_own:
                    prompt, lost = self._prompts.write_alone(facts[0], facts[1], prompt)
                self._arrival = arrival = next(self._arrivals, NO_ARRIVAL)
                self._arrival_s = arrival[0]
                self._start(self._root(facts, at_s, prompt, lost), 1, at_s, now_s)
            elif timers and timers[0][0] == at_s and timers[0][1] == _DUE:
                _, _, request_id, number, root = heappop(timers)
                self._start(root or self._later_turn(request_id, at_s), number, at_s, now_s)
            elif self._patience and self._patience[0].due_s + self._ttft_s == at_s:
                self._give_up(self._patience.popleft(), now_s)
            else:
                self._give_up(self._open[heappop(timers)[2]], now_s)
            at_s = self.next_wake_s()

    def on_first_token(self, rid: int, now_s: float) -> None:
        attempt = self._open.get(rid)
        if attempt is not None:
            attempt.waits = False

    def on_silence(self, rid: int, now_s: float) -> None:
        """A driver that `watches_chunks` has seen none for `idle_timeout_s`."""
        attempt = self._open.get(rid)
        if attempt is not None:
            self._give_up(attempt, now_s)

    def on_answer(self, rid: int, ok: bool, now_s: float) -> None:
        """The final answer of a client attempt; answers to attempts that were given up are ignored."""
        attempt = self._open.pop(rid, None)
        if attempt is not None:
            attempt.waits = False
            self._settle(attempt.root, ok, now_s)

    def admit_no_more(self, now_s: float) -> None:
        """Nobody comes any more: what was not due yet will not be. What has begun goes on, its retries too."""
        next_s, (next_id, *_) = self._arrival[:2]
        due_s, waiting = self._planned_us / 1e6, np.asarray(self._rows.turns_waiting)
        to_come = (due_s > next_s) | ((due_s == next_s) & (np.arange(len(due_s)) >= next_id))
        self.counts["not_due"] += int((1 + waiting)[to_come & (due_s < self._horizon_s)].sum())
        self._horizon_s = min(self._horizon_s, now_s)
        self._arrival, self._arrivals = NO_ARRIVAL, iter(())
        self._arrival_s = NO_ARRIVAL[0]
        later = [timer for timer in self._timers if timer[1] == _DUE and timer[4] is None]
        self.counts["not_due"] += sum(1 + self._rows.turns_waiting[timer[2]] for timer in later)
        self._timers = [timer for timer in self._timers if timer[1] != _DUE or timer[4] is not None]
        heapify(self._timers)
        self.next_wake_s()

    def close(self) -> tuple[list[ClientAttempt], list[ClientAttempt]]:
        """The run is over; what is not answered is censored. Returns the open attempts, and those that were not due yet."""
        started = list(self._open.values())
        waiting = [ClientAttempt(0, root, 0, at_s) for at_s, *_, root in sorted(self._timers) if root is not None]
        self.counts["censored"] += len(started) + len(waiting)
        self.counts["not_due"] += sum(attempt.root.turns_waiting for attempt in (*started, *waiting))
        self.counts["scheduled"] = self._started + len(self.abandoned)
        return started, waiting

    # Inside ------------------------------------------------------------------------------------------------------------

    def _later_turn(self, request_id: int, due_s: float) -> Root:
        """A turn begins that had to wait for the one before."""
        _, session_id, tenant, reply_id, output_tokens, deadline_us, _, waiting, ids, tokens = self._rows.row(request_id)
        facts = request_id, session_id, tenant, reply_id, output_tokens, deadline_us, waiting
        return self._root(facts, due_s, *self._prompts.write(request_id, session_id, ids, tokens))

    def _root(self, facts: Facts, due_s: float, prompt: Prompt, lost: frozenset[int]) -> Root:
        """A request begins."""
        self._started += 1
        if self._rule.budget is not None:
            self._tokens = min(self._rule.budget_burst, self._tokens + self._rule.budget)
        return Root(self._rows, facts, due_s, prompt, lost)

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
            heappush(self._timers, (total_s, _TOTAL, attempt.rid, attempt.number, None))

    def _give_up(self, attempt: ClientAttempt, now_s: float) -> None:
        del self._open[attempt.rid]
        attempt.waits = False
        self._effects.give_up(attempt, self._rule.cancel, now_s)
        self._settle(attempt.root, False, now_s)

    def _settle(self, root: Root, ok: bool, now_s: float) -> None:
        if not ok and self._will_retry(root, now_s):
            return
        self.counts["ok" if ok else "failed"] += 1
        if root.turns_waiting or not ok or self._prompts.lost:
            self._next_turn(root, ok, now_s)

    def _will_retry(self, root: Root, now_s: float) -> bool:
        number = root.attempts + 1
        if self._rule.max_attempts is not None and number > self._rule.max_attempts:
            return False
        at_s = now_s + self._rule.backoff_before(number, self._seed, root.request_id)
        if at_s >= root.deadline_s or not self._pay_for_retry():
            return False
        self._set_timer(at_s, root.request_id, number, root)
        return True

    def _set_timer(self, at_s: float, request_id: int, number: int, root: Root | None) -> None:
        """When an attempt of this request is due."""
        heappush(self._timers, (at_s, _DUE, request_id, number, root))
        if at_s < self.due_s:
            self.due_s = at_s

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
            self._set_timer(at_s, following, 1, None)
        else:
            self.counts["not_due"] += waiting
