"""Runs scenarios through vLLM's own `Scheduler`, without a model: what it schedules step by step, as JSON lines.

Started by the Python of an environment that holds vLLM (`python vllm_steps.py MODEL_DIR < scenarios`), so it imports nothing of
ours; `tests.engines.scenario` says what a scenario and a timeline are.
"""

# mypy: disable-error-code="import-not-found,no-any-return"

import json
import os
import sys
from typing import Any

os.environ.update(VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import torch
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

SPREAD = 1 << 20  # content ids are spread so far that no two contents share a token


def tokens(content_id: int, n: int) -> list[int]:
    return [content_id * SPREAD + i for i in range(n)]


def build_scheduler(model: str, scenario: dict[str, Any]) -> Scheduler:
    size = scenario["block_tokens"]
    spare = int(scenario["watermark"] * scenario["kv_blocks"])
    config = VllmConfig(
        model_config=ModelConfig(model=model, dtype="float32", max_model_len=scenario["context_tokens"], seed=0),
        scheduler_config=SchedulerConfig(
            max_num_seqs=scenario["max_running"],
            max_num_batched_tokens=scenario["max_batched_tokens"],
            max_model_len=scenario["context_tokens"],
            is_encoder_decoder=False,
            policy=scenario["policy"],
            enable_chunked_prefill=True,
            long_prefill_token_threshold=scenario["long_prefill_token_threshold"],
            scheduler_reserve_full_isl=scenario["whole_prompt_must_fit"],
            watermark=(spare + 0.5) / (scenario["kv_blocks"] + 1) if spare else 0.0,  # so many blocks of those and the null block
            async_scheduling=False,
        ),
        cache_config=CacheConfig(block_size=size, enable_prefix_caching=True),
    )
    blocks = scenario["kv_blocks"] + 1  # vLLM keeps one block of the pool for itself, the null block
    config.cache_config.num_gpu_blocks = blocks
    spec = FullAttentionSpec(block_size=size, num_kv_heads=1, head_size=1, dtype=torch.float32)
    return Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
        ),
        log_stats=True,
        structured_output_manager=StructuredOutputManager(config),
        block_size=size,
    )


class Replay:
    """One scenario: requests join and leave between two steps, by the number of steps done."""

    def __init__(self, model: str, scenario: dict[str, Any]) -> None:
        self._scheduler = build_scheduler(model, scenario)
        self._hasher = get_request_block_hasher(scenario["block_tokens"], sha256)
        self._jobs = scenario["jobs"]
        self._due = set(range(len(self._jobs)))
        self._requests: dict[int, Request] = {}
        self._ended: dict[int, int] = {}
        self._prefilling: set[int] = set()
        self._timeline: dict[str, list[Any]] = {n: [] for n in ("generated", "used_blocks", "running", "waiting", "preemptions")}
        self._timeline |= {"cached": [None] * len(self._jobs), "prefilled": [0] * len(self._jobs)}

    def run(self) -> dict[str, Any]:
        done = 0
        while self._due or self._scheduler.has_unfinished_requests():
            if self._scheduler.has_unfinished_requests():
                self._join(done)
                self._hang_up(done)
                self._note_ended(done)
            else:
                self._join(max(done, min(self._due_after(i) for i in self._due)))
            if self._scheduler.has_unfinished_requests():
                self._step()
                done = len(self._timeline["generated"])
            self._note_ended(done)
        return self._timeline

    def _note_ended(self, done: int) -> None:
        for i, request in self._requests.items():
            if request.is_finished():
                self._ended.setdefault(i, done)

    def _due_after(self, i: int) -> int:
        job = self._jobs[i]
        return job["after_steps"] + (0 if job["after_job"] is None else self._ended.get(job["after_job"], 1 << 60))

    def _join(self, done: int) -> None:
        for i in sorted(self._due):
            if self._due_after(i) <= done:
                self._due.remove(i)
                self._add(i)

    def _hang_up(self, done: int) -> None:
        for i, request in self._requests.items():
            if self._jobs[i]["cancel_after_steps"] == done and not request.is_finished():
                self._scheduler.finish_requests(str(i), RequestStatus.FINISHED_ABORTED)

    def _add(self, i: int) -> None:
        job = self._jobs[i]
        prompt = [t for content_id, n in job["segments"] for t in tokens(content_id, n)]
        params = SamplingParams(max_tokens=job["output_tokens"], ignore_eos=True, temperature=0.0)
        self._requests[i] = Request(
            request_id=str(i),
            prompt_token_ids=prompt,
            sampling_params=params,
            pooling_params=None,
            arrival_time=float(len(self._requests)),
            priority=job["priority"],
            block_hasher=self._hasher,
        )
        self._scheduler.add_request(self._requests[i])

    def _step(self) -> None:
        scheduler, timeline = self._scheduler, self._timeline
        planned = scheduler.schedule()
        while not planned.num_scheduled_tokens:  # it preempted, and has nothing to run: that takes no time
            planned = scheduler.schedule()
        for new in planned.scheduled_new_reqs:
            timeline["cached"][int(new.req_id)] = new.num_computed_tokens
            self._prefilling.add(int(new.req_id))
        self._prefilling.update(int(i) for i in planned.scheduled_cached_reqs.resumed_req_ids)
        ids = list(planned.num_scheduled_tokens)
        for i in ids:
            if int(i) in self._prefilling:
                timeline["prefilled"][int(i)] += planned.num_scheduled_tokens[i]
        manager = scheduler.kv_cache_manager
        timeline["used_blocks"].append(round(manager.usage * (manager.block_pool.num_gpu_blocks - 1)))
        running, waiting = scheduler.get_request_counts()
        timeline["running"].append(running)
        timeline["waiting"].append(waiting)
        sampled = [self._sample(int(i)) for i in ids]
        scheduler.update_from_output(planned, ModelRunnerOutput(ids, {i: n for n, i in enumerate(ids)}, sampled))
        requests = [self._requests.get(i) for i in range(len(self._jobs))]
        timeline["generated"].append([r.num_output_tokens if r else 0 for r in requests])
        timeline["preemptions"].append(sum(r.num_preemptions for r in requests if r))

    def _sample(self, i: int) -> list[int]:
        """The next token of the reply, once the prompt (and after a preemption the reply so far) is computed."""
        request = self._requests[i]
        if request.num_computed_tokens < request.num_tokens:
            return []
        self._prefilling.discard(i)
        return [tokens(self._jobs[i]["reply_id"], request.num_output_tokens + 1)[-1]]


def main() -> None:
    init_none_hash(sha256)
    for line in sys.stdin:
        print(json.dumps(Replay(sys.argv[1], json.loads(line)).run()), flush=True)


if __name__ == "__main__":
    main()
