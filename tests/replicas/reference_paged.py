"""Naive Orca and Sarathi-Serve, written from their sources: a count of free blocks, every sequence in turn, step by step."""

from replicas.profile import EngineProfile
from replicas.scheduler_settings import SarathiSettings
from tests.replicas.reference_engine import Job, ReferenceEngine


class PagedReference(ReferenceEngine):
    """Both keep whole blocks and no prefixes; `held` is what each running job has."""

    def __init__(self, profile: EngineProfile) -> None:
        super().__init__(profile)
        self.held: dict[Job, int] = {}

    def free(self) -> int:
        return self.profile.kv_blocks - sum(self.held.values())

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_tokens)

    def check(self) -> None:
        assert self.free() >= 0
        assert set(self.held) == set(self.running)

    def free_blocks(self) -> tuple[int, int]:
        return self.free(), self.free()

    def cached_blocks(self) -> int:
        return 0

    def refusal(self, job: Job) -> int:
        limit = self.profile.max_queued
        if job.prompt_tokens >= self.profile.context_tokens:
            return 400
        return 503 if limit is not None and len(self.waiting) + len(self.frontend) >= limit else 0

    def start(self, job: Job, blocks: int) -> None:
        self.waiting.remove(job)
        self.held[job] = blocks
        self._admitted(job, job.known - 1 if job.stage == "decode" and job.generated == 0 else 0)

    def _free(self, job: Job) -> None:
        del self.held[job]


class OrcaReference(PagedReference):
    """Algorithm 1 of the paper: all that run, then new ones while a place and slots for prompt and max_tokens are left."""

    def _schedule(self, now_s: float) -> dict[Job, int]:
        plan = dict.fromkeys(self.running, 1)
        for job in list(self.waiting):
            assert job.max_tokens is not None
            slots = self.blocks(job.prompt_tokens + job.max_tokens)
            if len(self.running) == self.profile.max_running or slots > self.free():
                break
            self.start(job, slots)
            plan[job] = job.known - job.computed
        return plan


class SarathiReference(PagedReference):
    """`SarathiScheduler._schedule`, phase by phase."""

    def _schedule(self, now_s: float) -> dict[Job, int]:
        settings = self.profile.settings()
        assert isinstance(settings, SarathiSettings)
        plan: dict[Job, int] = {}
        queue = sorted(self.running, key=lambda j: j.submit_s)
        prefills: list[Job] = []
        while queue:
            job = queue.pop(0)
            if not job.decoding:
                prefills.append(job)
                continue
            while self.free() == 0:
                victim = queue.pop() if queue else job
                self._preempt(victim)
                if victim is job:
                    break
            else:
                self.held[job] = self.blocks(job.computed + 1)
                plan[job] = 1
        chunk = self.profile.max_batched_tokens - len(plan)
        for job in prefills:
            tokens = min(job.known - job.computed, chunk)
            if tokens > 0:
                plan[job] = tokens
                chunk -= tokens
        watermark = int(settings.watermark * self.profile.kv_blocks)
        for job in list(self.waiting):
            if self.free() - self.blocks(job.known) < watermark or len(self.running) >= self.profile.max_running or chunk <= 0:
                break
            self.start(job, self.blocks(job.known))
            plan[job] = min(job.known - job.computed, chunk)
            chunk -= plan[job]
        return plan
