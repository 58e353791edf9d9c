"""The wall-clock sender: plays one share of a cell's sessions against real targets on an absolute schedule. It decides nothing.

The client's state machine says what is due; nothing here ever waits for an answer before it sends.
"""

import errno
import time
from collections import Counter
from heapq import heappop, heappush

from replay.client import INF, Client, ClientAttempt
from replay.memory import uncollected
from replay.send.bodies import Bodies, BodyForm
from replay.send.books import Books
from replay.send.connection import Connection
from replay.send.exchange import Exchange
from replay.send.pool import Pool
from replay.send.share import rule_of, share_of
from replay.send.spec import DIRECT, FREE, IDS, SendSpec
from replay.send.target import Target, read_target, whole_head
from replay.send.verdict import Verdict, broken
from replay.send.wire import Wire
from replay.send.writing import Pieces, writing_of
from workloads.request import Segment
from workloads.workload import Workload

_SWEEP_S = 1.0
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN)  # of sockets or ports


class Sender:
    """`facts` counts what concerns the sender itself: requests sent again, bodies made late, sockets that the system refused.

    Raises ValueError for what cannot be sent, before anything is.
    """

    def __init__(self, spec: SendSpec, workload: Workload) -> None:
        if workload.events and not spec.events_elsewhere:
            raise ValueError(
                f"events_elsewhere: False, but the workload has {len(workload.events)} events and a sender plays none"
            )
        if spec.target == DIRECT and spec.cell.pool.roles:
            raise ValueError(f"target: {DIRECT}; prefill and decode replicas need a router that pairs them")
        cell, key = spec.cell, spec.api_key()
        self._targets = [read_target(url, spec.endpoint, key, spec.session_header) for url in spec.urls]
        self._sends = spec.sender  # several senders begin at different replicas
        self._direct, self._exact = spec.target == DIRECT, spec.length != FREE
        share, own = share_of(workload, spec.sender, spec.senders)
        rule = rule_of(cell.client, spec.senders)
        self.client = Client(share, rule, cell.session, cell.seed, self, watches_chunks=True)
        self.client.counts["planned"] = own
        self._ttft_s, self._idle_s = rule.ttft_timeout_s, rule.idle_timeout_s
        self._keeps = spec.prompt if cell.session.history == "engine" else ""
        self._form = BodyForm(spec.model, spec.length, self._keeps == IDS, cell.max_tokens, {"temperature": 0} | spec.body)
        self._pieces = Pieces(writing_of(spec.prompt, spec.vocabulary_size, spec.tokenizer))
        self._bodies = Bodies(share.table, self._form, self._pieces, spec.ahead_s, spec.ahead_bytes)
        self._prompt_tokens = workload.table.prompt_tokens
        self.books = Books(key)
        self._wire = Wire()
        self._pool = Pool(self._wire, spec.keep_alive_s)
        self._streams: dict[int, Exchange] = {}  # by rid: what is on its way, for a client that waits or has given up
        self._watched: list[tuple[float, int]] = []  # (when to look for a chunk, rid)
        self._idle: set[int] = set()  # rids that are given up for want of chunks
        self._sweep_s = 0.0
        self._epoch_s = INF
        self._end_s = workload.horizon_s + cell.drain_s
        self.facts: Counter[str] = Counter()

    def prepare(self) -> None:
        """Make the first bodies, so that the first requests find theirs."""
        while self._bodies.work_ahead(0.0):
            pass

    def run(self, epoch_s: float) -> float:
        """Play; `epoch_s` is time 0 on CLOCK_MONOTONIC. Returns when it ended, in seconds from there.

        It ends when every answer is in and nothing is due any more, or when the drain is over.
        """
        self._epoch_s = epoch_s
        with uncollected():
            while not self._is_over():
                self._turn()
        self._close()
        return time.monotonic() - epoch_s

    def at_s(self) -> float:
        """When the present events were there."""
        return self._wire.now_s - self._epoch_s

    # The loop ----------------------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        now_s = time.monotonic() - self._epoch_s
        if now_s >= self._end_s:
            return True
        client = self.client
        return not (client.open_attempts or self._streams) and client.due_s > now_s and client.next_wake_s() == INF

    def _turn(self) -> None:
        client, wire = self.client, self._wire
        now_s = time.monotonic() - self._epoch_s
        if client.due_s <= now_s:
            client.on_wake(now_s)
        if self._watched and self._watched[0][0] <= now_s:
            self._look_for_chunks(now_s)
        if now_s >= self._sweep_s:
            self._sweep_s = now_s + _SWEEP_S
            self._pool.sweep()
        due_s = min(client.due_s, self._watched[0][0] if self._watched else INF, self._sweep_s, self._end_s)
        now_s = time.monotonic() - self._epoch_s
        if self._bodies.work_ahead(now_s, due_s - now_s):
            due_s = now_s
        wire.serve(due_s + self._epoch_s)

    def _look_for_chunks(self, now_s: float) -> None:
        """Streams that were silent for too long are given up; the others are looked at again when they could be."""
        watched, idle_s = self._watched, self._idle_s
        while watched and watched[0][0] <= now_s:
            _, rid = heappop(watched)
            exchange = self._streams.get(rid)
            if exchange is None or exchange.given_up or exchange.last_s is None or idle_s is None:
                continue
            if exchange.last_s + idle_s > now_s:
                heappush(watched, (exchange.last_s + idle_s, rid))
            else:
                self._idle.add(rid)
                self.client.on_silence(rid, now_s)

    # What the client asks for ------------------------------------------------------------------------------------------

    def start(self, attempt: ClientAttempt, now_s: float) -> None:
        root = attempt.root
        body = self._bodies.take(root)
        target, replica_id = self._next_target()
        request = whole_head(target, len(body), root.request_id, attempt.number, root.session_id, root.tenant) + body
        asked_tokens = self._form.asked_tokens(root.output_tokens) if self._exact else None
        keeps = self._keeps if self._bodies.goes_on(root.request_id) else ""
        self._wire.now_s = time.monotonic()
        sent_s = self.at_s()
        row = self.books.begin(attempt, sent_s, replica_id)
        exchange = self._streams[attempt.rid] = Exchange(self, attempt, row, target, request, asked_tokens, keeps)
        try:
            connection = self._pool.take(target)
        except OSError as error:
            self._refuse(exchange, error)
            return
        exchange.begin(connection)

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None:
        exchange = self._streams[attempt.rid]
        exchange.given_up = True
        self.books.close_client(exchange.row, now_s, ("timeout", 0, f"client gave up: {self._why(exchange, now_s)}"))
        if cancel:
            del self._streams[attempt.rid]
            exchange.cancel()
            self.books.close(exchange, None)

    def _why(self, exchange: Exchange, now_s: float) -> str:
        attempt = exchange.attempt
        if attempt.rid in self._idle:
            self._idle.discard(attempt.rid)
            return "no chunk in time"
        if exchange.last_s is None and self._ttft_s is not None and now_s >= attempt.due_s + self._ttft_s:
            return "no first token in time"
        return "the deadline was over" if now_s >= attempt.root.deadline_s else "no whole answer in time"

    def _next_target(self) -> tuple[Target, int | None]:
        """The target and, where it is a replica, its number: send by send in turn, as our round robin does."""
        if not self._direct:
            return self._targets[0], None
        number = self._sends % len(self._targets)
        self._sends += 1
        return self._targets[number], number

    # What an exchange tells --------------------------------------------------------------------------------------------

    def on_first_token(self, exchange: Exchange, now_s: float) -> None:
        if exchange.given_up:
            return
        exchange.row.first_token_us = round(now_s * 1e6)
        self.books.read_lags_s.append(self._wire.read_lag_s)
        self.client.on_first_token(exchange.attempt.rid, now_s)
        if self._idle_s is not None:
            heappush(self._watched, (now_s + self._idle_s, exchange.attempt.rid))
            self._wire.call_off()

    def on_end(self, exchange: Exchange, verdict: Verdict, now_s: float) -> None:
        attempt, ok = exchange.attempt, verdict[0] == "ok"
        del self._streams[attempt.rid]
        if not exchange.given_up:
            self.books.close_client(exchange.row, now_s, verdict)
            if ok:
                self._hear_out(exchange, now_s)
            self.client.on_answer(attempt.rid, ok, now_s)
            self._wire.call_off()  # another attempt or turn may be due sooner than anything else
        self.books.close(exchange, now_s)

    def on_reusable(self, connection: Connection) -> None:
        self._pool.give_back(connection)

    def on_unfinished(self, connection: Connection) -> None:
        self._pool.await_end(connection)

    def resend(self, exchange: Exchange) -> None:
        self.facts["resent"] += 1
        try:
            connection = self._pool.fresh(exchange.target)
        except OSError as error:
            self._refuse(exchange, error)
            return
        exchange.begin(connection)

    # Inside ------------------------------------------------------------------------------------------------------------

    def _refuse(self, exchange: Exchange, error: OSError) -> None:
        """No connection: this machine has none left, or the target refused it at once."""
        if error.errno in _NONE_LEFT:
            self.facts["no_socket"] += 1
        exchange.ended = True
        self.on_end(exchange, broken("connect", error), self.at_s())

    def _hear_out(self, exchange: Exchange, now_s: float) -> None:
        """An answer is whole and well: keep what later turns repeat, and expect the next one."""
        root, events = exchange.attempt.root, exchange.events
        if events.usage.get("prompt_tokens") != root.prompt.tokens:
            self.facts["other_prompt_length"] += 1
        if not self._bodies.goes_on(root.request_id):
            self._pieces.forget_replies(self._bodies.replies_before(root.request_id))
            return
        lost = root.lost
        if not self._keeps:
            lost |= {root.reply_id}
        elif not self._pieces.keep_reply(Segment(root.reply_id, root.output_tokens), events.token_ids(), events.text()):
            self.facts["unknown_replies"] += 1
        self._bodies.expect(root.request_id + 1, now_s, lost)

    def _close(self) -> None:
        """The run is over: what is still open is censored, what was never sent is said."""
        _, waiting = self.client.close()
        for exchange in list(self._streams.values()):
            exchange.cancel()
            self.books.close(exchange, None)
        self._streams.clear()
        self.books.wait(waiting)
        self.books.abandon(self.client.abandoned, self._prompt_tokens)
        self.facts.update(opened=self._pool.opened, late_bodies=self._bodies.late)
        self._pool.close()
        self._wire.close()
