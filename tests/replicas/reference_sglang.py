"""A naive SGLang, written from its source step by step and token by token: real trees of tokens, no sums kept, no jumps.

It follows `Scheduler.get_next_batch_to_run` in its own words and knows nothing of `replicas.schedulers`.
"""

from dataclasses import dataclass, field

from replicas.profile import EngineProfile
from replicas.scheduler_settings import SglangSettings
from tests.replicas.reference_engine import Job, ReferenceEngine, Token


@dataclass(eq=False)
class TreeNode:
    """A run of whole pages of tokens."""

    tokens: tuple[Token, ...]
    parent: "TreeNode | None"
    time: int
    children: list["TreeNode"] = field(default_factory=list)
    locks: int = 0

    @property
    def depth(self) -> int:
        """Tokens from the root to the end of this node."""
        return len(self.tokens) + (self.parent.depth if self.parent else 0)

    def below(self) -> list["TreeNode"]:
        """This node and all under it."""
        return [self, *(n for child in self.children for n in child.below())]


class Tree:
    """SGLang's radix cache over pages of `page` tokens; `time` ticks with every access and every new node."""

    def __init__(self, page: int) -> None:
        self.page = page
        self.time = 0
        self.root = TreeNode((), None, 0)

    def now(self) -> int:
        self.time += 1
        return self.time

    def match(self, tokens: list[Token]) -> TreeNode:
        now, node = self.now(), self.root
        left = tuple(tokens[: len(tokens) // self.page * self.page])
        while left:
            child = next((c for c in node.children if c.tokens[: self.page] == left[: self.page]), None)
            if child is None:
                break
            child.time = now
            same = 0
            while same < min(len(left), len(child.tokens)):
                if child.tokens[same : same + self.page] != left[same : same + self.page]:
                    break
                same += self.page
            if same < len(child.tokens):
                return self._split(child, same)
            node, left = child, left[same:]
        return node

    def insert(self, tokens: list[Token]) -> tuple[TreeNode, int]:
        """(the end of the path, how many of the tokens were there already)."""
        node = self.match(tokens)
        there = node.depth
        rest = tuple(tokens[there : len(tokens) // self.page * self.page])
        if rest:
            new = TreeNode(rest, node, self.now())
            node.children.append(new)
            node = new
        return node, there

    def lock(self, node: TreeNode | None, by: int) -> None:
        while node is not None:
            node.locks += by
            node = node.parent

    def evict(self, tokens: int) -> None:
        while tokens > 0:
            leaves = [n for n in self.root.below() if not n.children and not n.locks and n.parent]
            if not leaves:
                return
            leaf = min(leaves, key=lambda n: n.time)
            assert leaf.parent is not None
            leaf.parent.children.remove(leaf)
            tokens -= len(leaf.tokens)

    def size(self) -> int:
        return sum(len(n.tokens) for n in self.root.below())

    def evictable(self) -> int:
        return sum(len(n.tokens) for n in self.root.below() if not n.locks)

    def _split(self, child: TreeNode, at: int) -> TreeNode:
        assert child.parent is not None
        upper = TreeNode(child.tokens[:at], child.parent, self.now(), [child], child.locks)
        child.parent.children[child.parent.children.index(child)] = upper
        child.parent, child.tokens = upper, child.tokens[at:]
        return upper


class SglangReference(ReferenceEngine):
    """`running_batch` and `last_batch` keep finished requests as long as SGLang's do."""

    def __init__(self, profile: EngineProfile) -> None:
        super().__init__(profile)
        settings = profile.settings()
        assert isinstance(settings, SglangSettings)
        self.settings = settings
        self.page = profile.block_tokens
        self.tree = Tree(self.page)
        self.running_batch: list[Job] = []
        self.last_batch: list[Job] | None = None
        self.chunked: Job | None = None
        self.full = False
        self.init_ratio = min(settings.init_new_token_ratio * settings.schedule_conservativeness, 1.0)
        self.min_ratio = min(self.init_ratio * settings.min_new_token_ratio_factor, 1.0)
        self.ratio_start, self.good_steps = self.init_ratio, 0

    # Memory, counted from scratch

    def free_tokens(self) -> int:
        held = self.tree.size()
        for job in self.running:
            held += -(-job.allocated // self.page) * self.page - self.node(job).depth
        return self.profile.kv_blocks * self.page - held

    def free_blocks(self) -> tuple[int, int]:
        free = self.free_tokens()
        return (free + self.tree.evictable()) // self.page, free // self.page

    def cached_blocks(self) -> int:
        return self.tree.size() // self.page

    def check(self) -> None:
        assert self.free_tokens() >= 0
        for job in self.running:
            assert self.node(job).depth <= job.allocated
            assert self.node(job).locks > 0 or self.node(job) is self.tree.root

    @staticmethod
    def node(job: Job) -> TreeNode:
        assert isinstance(job.node, TreeNode)
        return job.node

    # At the door

    def refusal(self, job: Job) -> int:
        assert job.max_tokens is not None
        limit = self.profile.max_queued
        too_long = job.prompt_tokens + (0 if job.stage == "prefill" else job.max_tokens) > self.profile.context_tokens
        if too_long or self.room(job) < 1:
            return 400
        return 503 if limit is not None and len(self.waiting) + len(self.frontend) >= limit else 0

    def room(self, job: Job) -> int:
        return min(self.profile.context_tokens - 1, self.profile.kv_blocks * self.page - 1) - job.prompt_tokens - 1

    def idle(self) -> None:
        self.last_batch, self.running_batch, self.full = None, [], False
        self.ratio_start, self.good_steps = self.init_ratio, 0

    # One step

    def _schedule(self, now_s: float) -> dict[Job, int]:
        if self.chunked is not None and self.chunked.state != "running":
            self.chunked, self.full = None, False
        if self.last_batch is not None:
            # who is cancelled after its first token is still seen in the next decode step
            over = [job for job in self.last_batch if job.state == "finished" or (job.state == "cancelled" and not job.decoding)]
            merged = [job for job in self.last_batch if job not in over and job is not self.chunked]
            if len(merged) < len(self.last_batch):
                self.full = False
            self.running_batch += merged
            self.last_batch = None
        plan = self._new_prefill_batch()
        if plan is None:
            plan = self._update_running_batch()
            if plan is not None:
                return plan
            self.ratio_start, self.good_steps = self.init_ratio, 0  # the scheduler found itself idle
            plan = self._new_prefill_batch()
        assert plan
        self.last_batch = list(plan)
        return plan

    def ratio(self) -> float:
        decay = (self.init_ratio - self.min_ratio) / self.settings.new_token_ratio_decay_steps
        ratio = self.ratio_start
        return max(ratio - self.good_steps * decay, self.min_ratio) if self.good_steps else ratio

    def _new_prefill_batch(self) -> dict[Job, int] | None:
        if (self.full or not self.waiting) and self.chunked is None:
            return None
        places = self.profile.max_running - len(self.running_batch)
        if places <= 0 and self.chunked is None:
            self.full = True
            return None
        if self.settings.policy == "lpm" and len(self.waiting) <= 128:
            self._sort_by_longest_prefix()
        budget = Budget(self)
        if self.chunked is not None:
            self._continue_chunk(budget)
        for job in list(self.waiting):
            if len(budget.plan) >= places:
                self.full = True
            if self.full or not self._add(job, budget):
                break
        if not budget.plan:
            return None
        pages = sum(-(-(j.computed + n) // self.page) - -(-j.allocated // self.page) for j, n in budget.plan.items())
        self._make_free(pages * self.page)
        for job, tokens in budget.plan.items():
            job.allocated = job.computed + tokens
        return budget.plan

    def _continue_chunk(self, budget: "Budget") -> None:
        job = self.chunked
        assert job is not None
        left = job.known - job.computed
        room = min(budget.chunk_left, int(budget.memory() - budget.later))
        if room <= 0:
            room = min(budget.chunk_left, budget.memory())
        tokens = left if left <= room else room // self.page * self.page
        if not tokens:
            return
        budget.plan[job] = tokens
        if tokens == left:
            self.chunked = None
            budget.charge(tokens, min(self.wanted(job), budget.clip))
        else:
            budget.charge(tokens, 0)

    def _add(self, job: Job, budget: "Budget") -> bool:
        """Admit a waiting job if the budget allows; False when nobody else may be tried."""
        page, chunking = self.page, self.settings.chunked_prefill_size > 0
        brought = job.stage == "decode" and job.generated == 0
        node = self.tree.root if brought else self.tree.match(job.content[: job.known - 1])
        cached = job.known - 1 if brought else node.depth
        fetched = cached if brought else 0  # its KV comes from elsewhere, but needs memory here
        extend = job.known - cached
        self.tree.lock(node, +1)
        future = min(self.wanted(job), budget.clip)
        if fetched + extend + min(self.wanted(job) - job.generated, budget.clip) + page >= budget.memory() - budget.later:
            self.full = True
            extend = 0
        elif chunking and budget.ceil(extend) > budget.chunk_left:
            extend = max(0, (cached + budget.chunk_left // page * page) // page * page - cached)
            self.chunked, future = (job if extend else self.chunked), 0
        elif not chunking and budget.plan and budget.ceil(extend) >= budget.inputs:
            extend = 0
        if not extend:
            self.tree.lock(node, -1)
            return False
        budget.charge(extend, future, fetched)
        self.waiting.remove(job)
        job.node, job.allocated = node, node.depth
        self._admitted(job, cached)
        budget.plan[job] = extend
        if budget.memory() - budget.later <= 0 or budget.memory() - budget.now <= 0:
            self.full = True
        return not self.full and budget.inputs > 0 and budget.chunk_left > 0

    def _sort_by_longest_prefix(self) -> None:
        ranks: dict[Job, float] = {}
        seen: list[list[Token]] = []
        for job in self.waiting:
            tokens = job.content[: job.known]
            cached = self.tree.match(tokens).depth
            ranks[job] = -min(cached, job.known - 1)
            if cached <= 32:
                if max((_common(tokens, other) for other in seen), default=0) >= 32:
                    ranks[job] = float("inf")
                else:
                    seen.append(tokens)
        self.waiting.sort(key=lambda j: ranks[j])

    @staticmethod
    def wanted(job: Job) -> int:
        assert job.max_tokens is not None
        return job.max_tokens

    def _make_free(self, tokens: int) -> None:
        if self.free_tokens() < tokens:
            self.tree.evict(tokens)

    def _update_running_batch(self) -> dict[Job, int] | None:
        before = len(self.running_batch)
        self.running_batch = [job for job in self.running_batch if job.state == "running"]
        if not self.running_batch:
            self.full = False
            return None
        if not self._enough(self.running_batch):
            self._retract()
        else:
            self.good_steps += 1
        if len(self.running_batch) < before:
            self.full = False
        self._make_free(self._needed(self.running_batch))
        for job in self.running_batch:
            job.allocated = job.computed + 1
        return dict.fromkeys(self.running_batch, 1)

    def _needed(self, jobs: list[Job]) -> int:
        return sum(self.page for job in jobs if job.computed % self.page == 0)

    def _enough(self, jobs: list[Job]) -> bool:
        self._make_free(self._needed(jobs))
        return self.free_tokens() >= self._needed(jobs)

    def _retract(self) -> None:
        order = sorted(self.running_batch, key=lambda j: (j.generated, -j.prompt_tokens), reverse=True)
        first = True
        while len(order) > 1 and (first or not self._enough(order)):
            first = False
            job = order.pop()
            self.running_batch.remove(job)
            self.running.remove(job)
            self.tree.lock(self.node(job), -1)  # nothing of it goes into the tree
            job.state, job.computed, job.decoding, job.allocated, job.node = "queued", 0, False, 0, self.tree.root
            self.preemptions += 1
            self.waiting.append(job)
            headroom = -(-len(order) * self.settings.retract_decode_steps // self.page) * self.page
            self._make_free(headroom)
        assert self._enough(order)
        decoded, promised = sum(j.generated for j in order), sum(self.wanted(j) for j in order)
        steps = self.settings.retract_decode_steps
        self.ratio_start, self.good_steps = min(1.0, (decoded + steps * len(order)) / (promised + 1)), 0

    # What becomes of what was computed

    def _compute(self, plan: dict[Job, int], now_s: float) -> None:
        for job, tokens in plan.items():
            if not job.decoding:  # it can be hit when its step is over
                self._insert(job, job.computed + tokens)
            super()._compute({job: tokens}, now_s)

    def _insert(self, job: Job, tokens: int) -> None:
        node, _ = self.tree.insert(job.content[:tokens])
        self.tree.lock(node, +1)
        self.tree.lock(self.node(job), -1)
        job.node = node

    def _free(self, job: Job) -> None:
        self.tree.insert(job.content[: job.computed])
        self.tree.lock(self.node(job), -1)
        job.node, job.allocated = None, 0


class Budget:
    """What one prefill batch may still take (`PrefillAdder`); `plan` is what it has."""

    def __init__(self, engine: SglangReference) -> None:
        self.engine, self.page, settings = engine, engine.page, engine.settings
        self.clip = settings.clip_max_new_tokens
        decoding = [job for job in engine.running_batch if job.state == "running"]
        ratio = 1.0 if settings.ignore_eos else engine.ratio()
        self.later = ratio * sum(min(engine.wanted(job) - job.generated, self.clip) for job in decoding)
        self.now = 0
        self.inputs = settings.max_prefill_tokens
        self.chunk_left = settings.chunked_prefill_size or 10**9
        self.plan: dict[Job, int] = {}

    def memory(self) -> int:
        return self.engine.free_tokens() + self.engine.tree.evictable()

    def ceil(self, tokens: int) -> int:
        return -(-tokens // self.page) * self.page

    def charge(self, tokens: int, future: int, fetched: int = 0) -> None:
        tokens = self.ceil(tokens)
        self.later += tokens + future + self.page + self.ceil(fetched)
        self.now += tokens + self.page + self.ceil(fetched)
        self.inputs -= tokens
        self.chunk_left -= tokens


def _common(one: list[Token], other: list[Token]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
