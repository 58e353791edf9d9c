"""Measures a live engine: lone prefills, prefix hits, decode batches, Poisson traffic. It fits nothing and makes no tokens."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np

from replicas.calibration.client import CannotMeasure, EngineClient, Timed
from replicas.fitting.measurements import DecodeRows, PrefillRows, Run

MakePrompt = Callable[[int, int], list[int]]  # (content id, tokens) → token ids; equal contents begin alike
Say = Callable[[str], None]

_STEADY_STEPS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. Lengths in tokens; `poisson`: (share of capacity, seconds, prompt, output) a run, the last held out."""

    prefill: tuple[int, ...] = (16, 128, 256, 512, 1024, 2048, 4096, 8192)
    prefix: tuple[int, ...] = (1024, 4096, 8192)
    repeats: int = 15
    decode_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    decode_contexts: tuple[int, ...] = (512, 2048)
    poisson: tuple[tuple[float, float, int, int], ...] = ((0.35, 40.0, 512, 128), (0.5, 20.0, 512, 128))

    def within(self, context_tokens: int, kv_tokens: int | None, max_running: int | None) -> "Plan":
        """Only what fits into the engine's context, KV pool and batch."""
        longest = context_tokens - 1
        most = min(kv_tokens or longest * 1024, 10**9)
        fitting = tuple(length for length in self.prefill if length <= longest)
        batches = tuple(b for b in self.decode_batches if max_running is None or b <= max_running)
        contexts = tuple(c for c in self.decode_contexts if c + 4 * _STEADY_STEPS < context_tokens)
        batches = tuple(b for b in batches if contexts and b * (contexts[0] + 2 * _STEADY_STEPS) < 0.9 * most)
        if len(fitting) < 3 or len(batches) < 3 or not contexts:
            raise CannotMeasure(f"a context of {context_tokens} tokens and {kv_tokens} KV tokens are too few for the sweeps")
        prefix = tuple(length for length in self.prefix if length <= longest)
        poisson = tuple((r, s, min(p, longest // 2), min(o, longest // 4)) for r, s, p, o in self.poisson)
        return Plan(fitting, prefix, self.repeats, batches, contexts, poisson)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the sweeps saw, as the fit reads it; the last of `runs` is held out."""

    prefill: PrefillRows
    decode: DecodeRows
    runs: tuple[Run, ...]


class Sweeps:
    """Sends to one engine; every prompt has a content of its own unless it is meant to hit the prefix cache."""

    def __init__(self, client: EngineClient, prompt: MakePrompt, seed: int, say: Say) -> None:
        self._client, self._prompt, self._say = client, prompt, say
        self._next_content = seed << 32
        self._seed = seed

    async def measure(self, plan: Plan, kv_tokens: int | None) -> Measured:
        """All of `plan`, one after the other."""
        await self._warm_up(plan)
        lone = [row for length in plan.prefill for row in await self._alone(length, plan.repeats)]
        hits = [row for length in plan.prefix for row in await self._hits(length, plan.repeats)]
        self._say(f"prefill: {len(lone)} lone prompts, {len(hits)} with prefix hits")
        decode = await self._decode_sweep(plan, kv_tokens)
        runs = []
        for share, seconds, prompt, output in plan.poisson:
            rate_rps = share * _capacity_rps(lone, decode, prompt, output)
            runs.append(await self._poisson(round(rate_rps, 2), seconds, prompt, output))
        return Measured(_prefill_rows(fastest(lone + hits)), decode, tuple(runs))

    def fresh(self, tokens: int) -> list[int]:
        """A prompt nobody has seen."""
        self._next_content += 1
        return self._prompt(self._next_content, tokens)

    async def _warm_up(self, plan: Plan) -> None:
        """What an engine does only the first time: compiling, allocating; not measured."""
        for length in (plan.prefill[-1], plan.prefill[0], *plan.prefill):
            await self._client.complete("warm-up", self.fresh(length), 2)
        await _together([self._client.complete("warm-up", self.fresh(64), 32) for _ in range(plan.decode_batches[-1])])

    async def _alone(self, tokens: int, repeats: int) -> list[Timed]:
        return [await self._client.complete(f"prefill_{tokens}", self.fresh(tokens), 1) for _ in range(repeats)]

    async def _hits(self, tokens: int, repeats: int) -> list[Timed]:
        """A prompt, the same again, and one that shares its first half."""
        rows: list[Timed] = []
        for _ in range(repeats):
            first = self.fresh(tokens)
            half = first[: tokens // 2] + self.fresh(tokens - tokens // 2)
            for kind, prompt in (("first", first), ("repeat", first), ("half", half)):
                rows.append(await self._client.complete(f"prefix_{kind}_{tokens}", prompt, 1))
        return rows

    async def _decode_sweep(self, plan: Plan, kv_tokens: int | None) -> DecodeRows:
        batch, context, step_s, dropped = [], [], [], []
        for tokens in plan.decode_contexts:
            for size in plan.decode_batches:
                if kv_tokens is not None and size * (tokens + 4 * _STEADY_STEPS) > 0.9 * kv_tokens:
                    dropped.append(f"batch {size} at context {tokens}: does not fit the KV pool")
                    continue
                found = await self._steady_step(size, tokens)
                if found is None:
                    dropped.append(f"batch {size} at context {tokens}: the sequences never all decoded together")
                    continue
                batch.append(float(size))
                step_s.append(found[0])
                context.append(found[1])
        self._say(f"decode: {len(step_s)} of {len(step_s) + len(dropped)} batch sizes and contexts")
        if len(step_s) < 3:
            raise CannotMeasure(f"only {len(step_s)} decode batches could be measured; at least 3 are needed ({dropped[0]})")
        return DecodeRows(np.array(batch), np.array(context), np.array(step_s), tuple(dropped))

    async def _steady_step(self, size: int, tokens: int) -> tuple[float, float] | None:
        """Seconds of a step and mean cached tokens while `size` sequences decode together; None where they never did.

        The batch enters prompt by prompt, so the first ones must still decode when the last one starts.
        """
        output = _STEADY_STEPS + 8 + size * max(1, tokens // 512)
        sends = [self._client.complete(f"decode_{tokens}_{size}", self.fresh(tokens), output) for _ in range(size)]
        rows = await _together(sends)
        began_s, ended_s = max(row.first_s for row in rows), min(row.last_s for row in rows)
        steps = [_tokens_by(row, ended_s) - _tokens_by(row, began_s) for row in rows]
        if ended_s <= began_s or min(steps) < _STEADY_STEPS // 4:
            return None
        reached = [(_tokens_by(row, began_s) + _tokens_by(row, ended_s)) / 2 for row in rows]
        return (ended_s - began_s) / float(np.median(steps)), tokens + float(np.mean(reached))

    async def _poisson(self, rate_rps: float, seconds: float, prompt_tokens: int, output_tokens: int) -> Run:
        """Open loop: each request leaves when it is due, whatever the engine does."""
        loop, draw = asyncio.get_running_loop(), random.Random(self._seed)
        due_s: list[float] = []
        at_s = draw.expovariate(rate_rps)
        while at_s < seconds:
            due_s.append(at_s)
            at_s += draw.expovariate(rate_rps)
        prompts = [self.fresh(prompt_tokens) for _ in due_s]
        began_s = loop.time() + 0.2

        async def send(wait_until_s: float, prompt: list[int]) -> Timed:
            await asyncio.sleep(began_s + wait_until_s - loop.time())
            return await self._client.complete(f"poisson_{rate_rps:g}", prompt, output_tokens)

        rows = await _together([send(due, prompt) for due, prompt in zip(due_s, prompts, strict=True)])
        self._say(f"poisson: {len(rows)} requests at {rate_rps:g} a second")
        return _run(f"poisson_{rate_rps:g}", rows, began_s, due_s)


async def _together(requests: Seq[Coroutine[None, None, Timed]]) -> list[Timed]:
    """All of them; the first failure cancels the rest and is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(request) for request in requests]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def fastest(rows: Seq[Timed]) -> list[Timed]:
    """The fastest third of each configuration (tag): what delays a lone request, on the host or in the front end, only adds."""
    kept: list[Timed] = []
    for tag in dict.fromkeys(row.tag for row in rows):
        alike = sorted((row for row in rows if row.tag == tag), key=lambda row: row.first_s - row.sent_s)
        kept += alike[: -(-len(alike) // 3)]
    return kept


def _capacity_rps(lone: Seq[Timed], decode: DecodeRows, prompt_tokens: int, output_tokens: int) -> float:
    """A cautious estimate: one prefill alone, then its share of the largest batch's decode steps."""
    near = min(lone, key=lambda row: abs(row.prompt_tokens - prompt_tokens)).prompt_tokens
    prefill_s = np.median([row.first_s - row.sent_s for row in lone if row.prompt_tokens == near]) * prompt_tokens / near
    largest = int(np.argmax(decode.batch))
    return float(1.0 / (prefill_s + output_tokens * decode.step_s[largest] / decode.batch[largest]))


def _tokens_by(row: Timed, now_s: float) -> int:
    """Tokens that had come by `now_s` (inclusive)."""
    done = int(np.searchsorted(row.times_s, now_s, side="right"))
    return row.tokens[done - 1] if done else 0


def _prefill_rows(rows: list[Timed]) -> PrefillRows:
    return PrefillRows(
        tags=tuple(row.tag for row in rows),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.float64),
        cached_tokens=np.array([row.cached_tokens for row in rows], dtype=np.float64),
        ttft_s=np.array([row.first_s - row.sent_s for row in rows]),
    )


def _run(name: str, rows: list[Timed], began_s: float, due_s: list[float]) -> Run:
    """In order of sending, on a clock that starts with the run."""
    order = np.argsort([row.sent_s for row in rows], kind="stable")
    rows, due = [rows[i] for i in order], np.array(due_s)[order]
    return Run(
        name=name,
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.int64),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int64),
        scheduled_s=due,
        sent_s=np.array([row.sent_s for row in rows]) - began_s,
        first_token_s=np.array([row.first_s for row in rows]) - began_s,
        last_token_s=np.array([row.last_s for row in rows]) - began_s,
    )
