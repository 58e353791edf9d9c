"""A naive engine written from vLLM v1's scheduling rules: one step at a time, real block lists. It knows nothing of `Engine`.

It is slow on purpose and takes no short cut: what `replicas/engine.py` jumps over in closed form happens here step by step.
"""

from collections import Counter
from dataclasses import dataclass, field

from replicas.profile import EngineProfile
from replicas.scheduler_settings import VllmSettings
from replicas.sequence import Stage
from workloads.request import Segment

Token = tuple[tuple[int, ...], int, int]  # path of segments up to its own, content id, offset inside the content


@dataclass(frozen=True)
class Rules:
    """Where `Engine` simplifies vLLM on purpose. The defaults are vLLM's own behaviour; `AS_BUILT` is the engine's.

    `whole_segments_pinned`: a running sequence holds every cached block of the segments that it uses, not only its own.
    `duplicates_cached`: when two sequences compute the same block at once, both copies are hashed (else the second is not).
    `uncached_first`: free blocks without content are used before any cached one (else strictly by time of release).
    `replies_hittable_while_decoding`: a decoded block can be hit as soon as it is full (else when the sequence leaves).
    """

    whole_segments_pinned: bool = False
    duplicates_cached: bool = True
    uncached_first: bool = False
    replies_hittable_while_decoding: bool = True


AS_BUILT = Rules(True, False, True, False)


@dataclass(eq=False)
class Block:
    """One block of the pool. While `hashed` is set, others can hit it; `segment` is where its last token lies."""

    hashed: int | None = None
    segment: tuple[int, ...] = ()
    refs: int = 0


@dataclass(eq=False, repr=False)
class Job:
    """A request and what became of it. `cancel_s` is when the client hangs up, `delay_s` what comes on top of the front end."""

    try_id: int
    segments: tuple[Segment, ...]
    reply_id: int
    output_tokens: int
    submit_s: float
    cancel_s: float | None = None
    stage: Stage = "serve"
    delay_s: float = 0.0
    max_tokens: int | None = None
    priority: int = 0
    status: int = 0
    state: str = "new"
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    generated: int = 0
    first_token_s: float | None = None
    ended_s: float | None = None
    max_gap_s: float = 0.0
    last_token_s: float = 0.0
    seen_by_scheduler: bool = False
    decoding: bool = False
    computed: int = 0
    blocks: list[Block] = field(default_factory=list)
    segments_used: list[tuple[int, ...]] = field(default_factory=list)
    content: list[Token] = field(default_factory=list)
    node: object = None
    allocated: int = 0
    hashes: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        prompt = " + ".join(f"{s.content_id}x{s.tokens}" for s in self.segments)
        return f"Job({self.try_id}: {prompt} -> {self.reply_id}x{self.output_tokens}, {self.submit_s}, {self.cancel_s})"

    @property
    def prompt_tokens(self) -> int:
        return sum(s.tokens for s in self.segments)

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and what was generated."""
        return self.prompt_tokens + self.generated

    def write_content(self) -> None:
        """Name each token that exists or will: the prompt's, then the reply's."""
        path: tuple[int, ...] = ()
        for content_id, count in (*((s.content_id, s.tokens) for s in self.segments), (self.reply_id, self.output_tokens)):
            path = (*path, content_id)
            self.content += [(path, content_id, offset) for offset in range(count)]


class Pool:
    """All blocks, the list of free ones (least recently released first) and the table of hashes."""

    def __init__(self, blocks: int, block_tokens: int, rules: Rules) -> None:
        self.size, self.rules = block_tokens, rules
        self.blocks = [Block() for _ in range(blocks)]
        self.free = list(self.blocks)
        self.table: dict[int, list[Block]] = {}
        self.pins: Counter[tuple[int, ...]] = Counter()
        self._hashes: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}

    def hash_of(self, job: Job, index: int) -> int:
        """The hash of the job's block `index`: of the hash before it and of its own tokens (interned, so it never collides)."""
        while len(job.hashes) <= index:
            start = len(job.hashes) * self.size
            own = tuple((content_id, offset) for _, content_id, offset in job.content[start : start + self.size])
            before = job.hashes[-1] if job.hashes else 0
            job.hashes.append(self._hashes.setdefault((before, own), len(self._hashes) + 1))
        return job.hashes[index]

    def segment_of(self, job: Job, index: int) -> tuple[int, ...]:
        """The segment that holds the block's last token."""
        return job.content[(index + 1) * self.size - 1][0]

    def hits(self, job: Job) -> list[Block]:
        """Cached blocks from the start of the job's tokens without a gap; the last token is always computed."""
        found: list[Block] = []
        for index in range((job.known - 1) // self.size):
            copies = self.table.get(self.hash_of(job, index))
            if not copies:
                break
            found.append(copies[0])
        return found

    def admit(self, job: Job, hits: list[Block], tokens: int, must_fit: int, spare: int) -> bool:
        """Give a waiting job its hits and new blocks for `tokens` tokens in all; nothing changes when `must_fit` do not fit and
        leave `spare` blocks."""
        segments = {b.segment for b in hits}
        leaving = [b for b in self.free if b in hits or (self.rules.whole_segments_pinned and b.segment in segments and b.hashed)]
        if -(-must_fit // self.size) - len(hits) + spare > len(self.free) - len(leaving):
            return False
        for block in hits:
            block.refs += 1
            job.blocks.append(block)
            self._use_segment(job, block.segment)
        self.free = [b for b in self.free if b not in leaving]
        return self.grow(job, tokens)

    def grow(self, job: Job, tokens: int) -> bool:
        """Let the job hold `tokens` tokens; False, and nothing changes, when the free blocks do not suffice."""
        missing = -(-tokens // self.size) - len(job.blocks)
        if missing > len(self.free):
            return False
        for _ in range(missing):
            block = self.free.pop(0)
            if block.hashed is not None:
                self._forget(block)
            block.refs = 1
            job.blocks.append(block)
        return True

    def publish(self, job: Job, tokens: int) -> None:
        """The job's full blocks up to `tokens` can be hit from now on."""
        for index in range(tokens // self.size):
            block = job.blocks[index]
            if block.hashed is not None:
                continue
            key, segment = self.hash_of(job, index), self.segment_of(job, index)
            self._use_segment(job, segment)
            if key in self.table and not self.rules.duplicates_cached:
                continue
            block.hashed, block.segment = key, segment
            self.table.setdefault(key, []).append(block)

    def release(self, job: Job) -> None:
        """Free the job's blocks, the last one first."""
        mine = list(job.blocks)
        if self.rules.whole_segments_pinned:
            others = [b for b in self.blocks if b.hashed is not None and b.segment in job.segments_used and b not in mine]
            mine = self._in_path_order(job, mine + others)
        for block in job.blocks:
            block.refs -= 1
        self.pins.subtract(job.segments_used)
        for block in reversed(mine):
            if block.refs == 0 and not self._pinned(block):
                if block.hashed is None and self.rules.uncached_first:
                    self.free.insert(0, block)
                else:
                    self.free.append(block)
        job.blocks, job.segments_used = [], []

    def _in_path_order(self, job: Job, blocks: list[Block]) -> list[Block]:
        hashes = {self.hash_of(job, i): i for i in range(len(job.content) // self.size)}
        return sorted(blocks, key=lambda b: len(hashes) if b.hashed is None else hashes[b.hashed])

    def _pinned(self, block: Block) -> bool:
        return self.rules.whole_segments_pinned and block.hashed is not None and self.pins[block.segment] > 0

    def _use_segment(self, job: Job, segment: tuple[int, ...]) -> None:
        if not self.rules.whole_segments_pinned or segment in job.segments_used:
            return
        job.segments_used.append(segment)
        self.pins[segment] += 1
        self.free = [b for b in self.free if b.hashed is None or b.segment != segment]

    def _forget(self, block: Block) -> None:
        assert block.hashed is not None
        copies = self.table[block.hashed]
        copies.remove(block)
        if not copies:
            del self.table[block.hashed]
        block.hashed, block.segment = None, ()

    def check(self, running: list[Job]) -> None:
        """Every block is free or in use, never both, and counted once by each holder."""
        held = Counter(id(b) for job in running for b in job.blocks)
        assert all(held[id(b)] == b.refs for b in self.blocks)
        free = {id(b) for b in self.free}
        assert len(free) == len(self.free)
        for block in self.blocks:
            assert (id(block) in free) != (block.refs > 0 or self._pinned(block))


@dataclass(frozen=True)
class Gauges:
    """What the engine shows right after it scheduled a step."""

    now_s: float
    running: int
    waiting: int
    free_blocks: int
    uncached_free_blocks: int


class ReferenceEngine:
    """Serves all `jobs`, whose fields then tell what happened; `gauges[n]` is the state after step n was scheduled."""

    def __init__(self, profile: EngineProfile, rules: Rules = AS_BUILT) -> None:
        self.profile, self.rules = profile, rules
        self.pool = Pool(profile.kv_blocks, profile.block_tokens, rules)
        self.frontend: list[tuple[float, Job]] = []
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.cancels: list[tuple[float, Job]] = []
        self.steps = self.preemptions = self.hit_tokens = self.query_tokens = 0
        self.gauges: dict[int, Gauges] = {}
        settings = profile.settings()
        self.by_priority = isinstance(settings, VllmSettings) and settings.policy == "priority"
        self.threshold = settings.long_prefill_token_threshold if isinstance(settings, VllmSettings) else 0
        self.longest_chunk = profile.max_batched_tokens
        self.whole_prompt = isinstance(settings, VllmSettings) and settings.whole_prompt_must_fit
        self.watermark = int(settings.watermark * profile.kv_blocks) if isinstance(settings, VllmSettings) else 0

    def serve(self, jobs: list[Job]) -> None:
        events = [(job.submit_s, 0, job) for job in jobs] + [(job.cancel_s, 1, job) for job in jobs if job.cancel_s is not None]
        events.sort(key=lambda e: (e[0], e[1], e[2].try_id))
        now_s = 0.0
        while True:
            self._boundary(now_s)
            if self.running or self.waiting:
                plan = self._schedule(now_s)
                self.check()
                self._note_gauges(now_s)
                now_s += self._seconds(plan)
                self._accept(events, now_s)
                self._compute(plan, now_s)
                self.steps += 1
            else:
                self.idle()
                times = [events[0][0]] if events else []
                times += [t for t, _ in self.frontend] + [t for t, _ in self.cancels]
                if not times:
                    break
                now_s = max(now_s, min(times))
                self._accept(events, now_s)
        self.check()
        assert self.free_blocks() == (self.profile.kv_blocks, self.profile.kv_blocks - self.cached_blocks())

    # What another flavour does otherwise

    def check(self) -> None:
        self.pool.check(self.running)

    def idle(self) -> None:
        """Nothing runs and nothing waits."""

    def free_blocks(self) -> tuple[int, int]:
        """Blocks that nobody uses, and those of them that hold nothing."""
        free = self.pool.free
        return len(free), sum(1 for b in free if b.hashed is None)

    def cached_blocks(self) -> int:
        return sum(1 for b in self.pool.blocks if b.hashed is not None)

    def refusal(self, job: Job) -> int:
        """400 or 503, or 0."""
        limit = self.profile.max_queued
        if job.prompt_tokens >= self.profile.context_tokens:
            return 400
        if limit is not None and len(self.waiting) + len(self.frontend) + len(self.running) >= limit:
            return 503
        return 0

    def room(self, job: Job) -> int:
        """Tokens that a job may put out at most."""
        return self.profile.context_tokens - job.prompt_tokens

    # Inputs

    def _accept(self, events: list[tuple[float, int, Job]], until_s: float) -> None:
        while events and events[0][0] <= until_s:
            at_s, kind, job = events.pop(0)
            if kind == 0:
                self._submit(job, at_s)
            elif job.status == 200:
                self.cancels.append((at_s + self.profile.cancel_lag_s, job))

    def _submit(self, job: Job, now_s: float) -> None:
        job.output_tokens = 1 if job.stage == "prefill" else job.output_tokens
        job.max_tokens = job.output_tokens if job.max_tokens is None or job.stage == "prefill" else job.max_tokens
        job.output_tokens = min(job.output_tokens, job.max_tokens)
        if refused := self.refusal(job):
            job.status, job.state = refused, "refused"
        else:
            job.status, job.state = 200, "queued"
            job.max_tokens = min(job.max_tokens, self.room(job))
            job.output_tokens = min(job.output_tokens, job.max_tokens)
            job.write_content()
            self.frontend.append((now_s + self.profile.frontend_delay_s(job.prompt_tokens) + job.delay_s, job))

    def _boundary(self, now_s: float) -> None:
        for at_s, job in [c for c in self.cancels if c[0] <= now_s]:
            self.cancels.remove((at_s, job))
            if job.state in ("queued", "running"):
                self._leave(job, "cancelled", now_s)
        for ready_s, job in sorted((f for f in self.frontend if f[0] <= now_s), key=lambda f: f[0]):
            self.frontend.remove((ready_s, job))
            self.waiting.append(job)

    def _leave(self, job: Job, state: str, now_s: float) -> None:
        if job in self.running:
            self.running.remove(job)
            self._free(job)
        elif job in self.waiting:
            self.waiting.remove(job)
        else:
            self.frontend = [(t, j) for t, j in self.frontend if j is not job]
        job.state, job.ended_s = state, now_s

    # One step

    def _schedule(self, now_s: float) -> dict[Job, int]:
        """Tokens that each sequence computes in this step."""
        budget = self.profile.max_batched_tokens
        plan: dict[Job, int] = {}
        preempted = False
        if self.threshold:
            alone = len(self.running) + len(self.waiting) == 1
            self.longest_chunk = budget if alone else self.threshold
        for job in sorted(self.running, key=lambda j: not j.decoding):  # oldest first, but the decodes before the prefills
            if job not in self.running:
                continue
            if budget == 0:
                break
            decoding = job.decoding
            tokens = min(job.known - job.computed, budget, self.longest_chunk)
            while job in self.running and not self.pool.grow(job, job.computed + tokens):
                victim = max(self.running, key=_urgency) if self.by_priority else self.running[-1]
                budget += plan.pop(victim, 0)
                self._preempt(victim)
                preempted = True
            if job not in self.running:
                if decoding and not self.by_priority:
                    continue
                break  # by priority, this may leave decodes behind it standing
            plan[job] = tokens
            budget -= tokens
            self._publish_scheduled(job, tokens)
        if preempted and not plan:
            return self._schedule(now_s)  # a step of nothing takes no time
        while self.waiting and not preempted and budget > 0 and len(self.running) < self.profile.max_running:
            job = min(self.waiting, key=_urgency) if self.by_priority else self.waiting[0]
            brought = job.stage == "decode" and job.generated == 0  # its KV comes from the replica that prefilled it
            hits = [] if brought else self.pool.hits(job)
            cached = job.known - 1 if brought else len(hits) * self.profile.block_tokens
            tokens = min(job.known - cached, budget, self.longest_chunk)
            must_fit = job.known if self.whole_prompt else cached + tokens
            if not self.pool.admit(job, hits, cached + tokens, must_fit, self.watermark if self.running else 0):
                break
            self.waiting.remove(job)
            self._admitted(job, cached)
            plan[job] = tokens
            budget -= tokens
            self._publish_scheduled(job, tokens)
        return plan

    def _admitted(self, job: Job, cached: int) -> None:
        job.state, job.computed = "running", cached
        self.running.append(job)
        if not job.seen_by_scheduler:
            job.seen_by_scheduler, job.cached_tokens = True, cached
            if job.stage != "decode":
                self.query_tokens += job.prompt_tokens
                self.hit_tokens += cached

    def _publish_scheduled(self, job: Job, tokens: int) -> None:
        if not job.decoding or self.rules.replies_hittable_while_decoding:
            self.pool.publish(job, job.computed + tokens)

    def _preempt(self, job: Job) -> None:
        self.preemptions += 1
        self.running.remove(job)
        self._free(job)
        job.state, job.computed, job.decoding = "queued", 0, False
        self.waiting.insert(0, job)

    def _free(self, job: Job) -> None:
        self.pool.publish(job, job.computed)
        self.pool.release(job)

    def _seconds(self, plan: dict[Job, int]) -> float:
        step = self.profile.step
        decodes = [job for job in plan if job.decoding]
        seconds = step.base_s + step.sequence_s * len(decodes) + step.kv_s * sum(job.computed for job in decodes)
        prefills = [(job.computed, tokens) for job, tokens in plan.items() if not job.decoding]
        if prefills:
            seconds += step.prefill_base_s
        for computed, tokens in prefills:
            seconds += step.prefill_s * tokens + step.attention_s * tokens * (computed + tokens / 2)
        return max(seconds, step.prefill_floor_s) if prefills else seconds

    def _compute(self, plan: dict[Job, int], now_s: float) -> None:
        for job, tokens in plan.items():
            job.computed += tokens
            if not job.decoding:
                job.prefilled_tokens += tokens
            if job.computed < job.known:
                continue
            job.generated += 1
            job.decoding = True
            if job.first_token_s is None:
                job.first_token_s = now_s
            else:
                job.max_gap_s = max(job.max_gap_s, now_s - job.last_token_s)
            job.last_token_s = now_s
            if job.generated == job.output_tokens:
                self._leave(job, "finished", now_s)

    def _note_gauges(self, now_s: float) -> None:
        queued = len(self.waiting) + len(self.frontend)
        self.gauges[self.steps] = Gauges(now_s, len(self.running), queued, *self.free_blocks())


def _urgency(job: Job) -> tuple[int, float, int]:
    return job.priority, job.submit_s, job.try_id
