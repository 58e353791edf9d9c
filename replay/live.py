"""The wall-clock driver: the same client, router, policy and guards as in virtual time, against replicas on loopback HTTP.

First form: one process, the router inside it, no samples of the replicas' gauges, and no word on the work of an attempt that
was hung up. Replicas are spoken to as any OpenAI-compatible engine; prompts are token ids, and a later turn repeats those that
the engine returned. It decides nothing.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any

from replay.cell import Cell
from replay.client import INF
from replay.driver import Driver
from replay.recorder import Recorder, to_us
from replay.rows import OpenAttempt
from replay.stream import NoGauges, StreamEnd, fetch_gauges, stream_completion
from replicas.profile import EngineProfile
from replicas.view import Observation
from routers.kv_events import refuse_deaf
from routers.tries import RequestEnd, Try
from workloads.prompts.token_ids import Ids, prompt_ids, segment_ids
from workloads.prompts.vocabulary import Vocabulary
from workloads.request import Request, Segment
from workloads.workload import Workload

VOCABULARY_SIZE = 32_000  # no model of today has fewer ids
_GAUGES = {
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs"),
    "kv_used": ("vllm:kv_cache_usage_perc", "sglang:token_usage"),
}


class LiveRun(Driver):
    """One cell in wall time against replicas listening on `ports`; time 0 is `epoch_s` of the event loop's clock.

    `vocabulary`: the token ids that their model takes; `profile`: what the router is to believe of the replicas, if anything.
    """

    def __init__(
        self,
        cell: Cell,
        workload: Workload,
        ports: Sequence[int],
        recorder: Recorder,
        epoch_s: float,
        vocabulary: Vocabulary | None = None,
        profile: EngineProfile | None = None,
        record_inputs: bool = False,
    ) -> None:
        if workload.events:
            raise ValueError(f"events are executed in virtual time only so far; the workload has {len(workload.events)}")
        self._ports, self._epoch_s = ports, epoch_s
        self._vocabulary = vocabulary or Vocabulary.of_size(VOCABULARY_SIZE)
        self._replies: dict[int, Ids] = {}  # content id → what an engine said
        self._streams: dict[int, asyncio.Task[None]] = {}
        self._rows: dict[int, OpenAttempt] = {}  # by try, until its stream is over
        self._background: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        self._changed = asyncio.Event()
        super().__init__(cell, workload, recorder, profile, record_inputs)
        refuse_deaf(cell.router.name, self.routers[0].policy)

    def now_s(self) -> float:
        return asyncio.get_running_loop().time() - self._epoch_s

    async def run(self) -> None:
        """Returns when every answer is in and nothing is due any more, or when the drain is over.

        Raises what one of its own tasks raised: a fault of ours, never of a replica.
        """
        for router in range(len(self.routers)):
            for replica_id in range(len(self._ports)):
                self._spawn(self._poll(router, replica_id))
        try:
            while self._fault is None:
                now_s = self.now_s()
                if self.router.next_wake_s() <= now_s:
                    self.router.on_wake(now_s)
                if self.client.next_wake_s() <= now_s:
                    self.client.on_wake(now_s)
                due_s = min(self.router.next_wake_s(), self.client.next_wake_s())
                if (due_s == INF and not self.client.open_attempts and not self._streams) or now_s >= self._end_s:
                    break
                await self._wait_until(min(due_s, self._end_s))
        finally:
            tasks = list(self._background)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._close_books()
        if self._fault is not None:
            raise self._fault

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure ends the run instead of vanishing."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = self._fault or task.exception()
            self._changed.set()

    async def _wait_until(self, at_s: float) -> None:
        self._changed.clear()
        handle = asyncio.get_running_loop().call_at(self._epoch_s + at_s, self._changed.set)
        await self._changed.wait()
        handle.cancel()

    # What the router asks for ------------------------------------------------------------------------------------------

    def send(self, attempt: Try, now_s: float) -> None:
        row = self._ledger.open_try(attempt, now_s)
        row.held += 1
        self._rows[attempt.try_id] = row
        task = self._streams[attempt.try_id] = self._spawn(self._stream(attempt, row, self._body(attempt)))
        task.add_done_callback(lambda _: _let_go(self._rows.pop(attempt.try_id)))

    def orphan(self, try_id: int, now_s: float) -> None:
        """The router gave the try up: its row ends, unless its client has ended it."""
        row = self._rows.get(try_id)
        if row is not None:
            self._ledger.end_row(row, now_s, "timeout", 504, "router gave up")

    def abort(self, try_id: int, now_s: float) -> None:
        self.orphan(try_id, now_s)
        task = self._streams.pop(try_id, None)
        if task is not None:
            task.cancel()

    def probe_by(self, router: int, replica_id: int, now_s: float) -> None:
        self._spawn(self._probe(router, replica_id))

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        super().answer(rid, end, now_s)
        self._changed.set()

    # One try -----------------------------------------------------------------------------------------------------------

    def _body(self, attempt: Try) -> dict[str, object]:
        root, stage = self._ledger.attempt(attempt.request.rid).root, attempt.stage
        body: dict[str, object] = {
            "prompt": prompt_ids(root.segments, self._vocabulary, self._replies).tolist(),
            "max_tokens": 1 if stage == "prefill" else self._ledger.output_tokens(attempt.request.rid),
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }
        if stage != "serve":
            body["kv_transfer_params"] = {"do_remote_decode": stage == "prefill", "do_remote_prefill": stage == "decode"}
        return body

    def _keep_reply(self, request: Request, made: list[int]) -> None:
        """What the session's later turns will repeat; beyond the tokens that were made, the trace's reply is made up."""
        if len(made) > request.output_tokens:
            return
        reply = segment_ids(Segment(request.reply_id, request.output_tokens), self._vocabulary)
        reply[: len(made)] = made
        self._replies[request.reply_id] = reply

    async def _stream(self, attempt: Try, row: OpenAttempt, body: dict[str, object]) -> None:
        rid, try_id = attempt.request.rid, attempt.try_id
        request = self._ledger.attempt(rid).root.request

        def on_first_chunk() -> None:
            if attempt.stage == "prefill":
                return
            now_s = self.now_s()
            self.router.on_first_token(try_id, now_s)
            if self._ledger.first_token(row, now_s):
                self.client.on_first_token(rid, now_s)

        end = await stream_completion(self._ports[attempt.replica_id], body, on_first_chunk)
        now_s = self.now_s()
        self._streams.pop(try_id, None)
        if end.ok and attempt.stage != "prefill":
            self._keep_reply(request, end.token_ids)
        self._settle_row(row, attempt, end, now_s)
        usage = end.usage
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens")
        self.router.on_try_end(try_id, end.ok, end.status, now_s, end.error, usage.get("completion_tokens", 0), cached)
        self._changed.set()

    def _settle_row(self, row: OpenAttempt, attempt: Try, end: StreamEnd, now_s: float) -> None:
        usage, ok = end.usage, end.ok
        row.engine_ended_us = to_us(now_s)
        if ok:
            cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
            row.decoded_tokens += usage["completion_tokens"]
            if attempt.stage != "decode":
                row.cached_tokens = cached
                row.prefilled_tokens += usage["prompt_tokens"] - cached
        if attempt.stage == "prefill" and ok:
            return
        if row.ended_us is None:
            row.output_tokens = usage.get("completion_tokens", 0)
            row.max_gap_us = to_us(end.max_gap_s)
        refused = end.status not in (0, 200)
        self._ledger.end_row(row, now_s, "ok" if ok else "refused" if refused else "error", end.status, end.error)

    # Observation -------------------------------------------------------------------------------------------------------

    async def _observe(self, replica_id: int) -> Observation:
        began_s = self.now_s()
        gauges = await fetch_gauges(self._ports[replica_id])
        seen = {}
        for what, names in _GAUGES.items():
            name = next((n for n in names if n in gauges), None)
            if name is None:
                raise NoGauges(f"replica {replica_id}: no gauge {' or '.join(names)}")
            seen[what] = gauges[name]
        latency_s = gauges.get("stampede:latency_seconds", self.now_s() - began_s)
        return Observation(int(seen["waiting"]), int(seen["running"]), seen["kv_used"], latency_s)

    async def _probe(self, router: int, replica_id: int) -> None:
        try:
            seen = await self._observe(replica_id)
        except NoGauges:
            return  # no answer is no news: the probe expires
        self.routers[router].on_probe(replica_id, seen, self.now_s())

    async def _poll(self, router: int, replica_id: int) -> None:
        rule, seed = self._cell.observation, self._cell.seed
        await asyncio.sleep(rule.first_poll_s(router))
        for number in count():
            with contextlib.suppress(NoGauges):  # no answer: the view keeps its old news, which grows older
                seen = await self._observe(replica_id)
                if not rule.is_lost(seed, router, replica_id, number):
                    self.routers[router].on_observation(replica_id, seen, self.now_s())
            await asyncio.sleep(rule.poll_after_s(seed, router, replica_id, number))


def _let_go(row: OpenAttempt) -> None:
    row.held -= 1
