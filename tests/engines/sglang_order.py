"""Sorts queues by SGLang's own `SchedulePolicy` over its own `RadixCache`, without a model: JSON lines in, orders out.

Started by the Python of an environment that holds SGLang (`python sglang_order.py < queues`), so it imports nothing of ours. A
queue is {"cached": [prompt, …], "waiting": [prompt, …], "page": tokens}, prompts being token ids. An order is a list of places in
"waiting", the longest prefix first.
"""

# mypy: disable-error-code="import-not-found,no-any-return"

import json
import os
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.update(SGLANG_USE_CPU_ENGINE="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
sys.path.insert(0, str(Path(__file__).parents[2] / "replicas" / "launch" / "engine_side"))
import sglang_on_cpu  # noqa: F401  # declares what has no CPU build
import torch
from sglang.srt.managers import schedule_policy
from sglang.srt.mem_cache.base_prefix_cache import InsertParams
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey


class Waiting(SimpleNamespace):
    """What the policy and the cache read of a `Req`."""

    @staticmethod
    def _compute_max_prefix_len(input_len: int) -> int:
        return max(input_len - 1, 0)


def order(queue: dict[str, Any]) -> list[int]:
    cache = RadixCache.create_simulated(page_size=queue["page"])
    for prompt in queue["cached"]:
        key = RadixKey(token_ids=array("q", prompt), extra_key=None)
        cache.insert(InsertParams(key=key, value=torch.arange(len(prompt))))
    policy = schedule_policy.SchedulePolicy("lpm", cache, False, False, True)
    waiting = [
        Waiting(
            rid=str(i),
            origin_input_ids=array("q", prompt),
            output_ids=array("q"),
            extra_key=None,
            cache_salt=None,
            kv=SimpleNamespace(cache_protected_len=0),
        )
        for i, prompt in enumerate(queue["waiting"])
    ]
    policy.calc_priority(waiting)
    return [int(request.rid) for request in waiting]


if __name__ == "__main__":
    schedule_policy.get_disagg = lambda: SimpleNamespace(disaggregation_mode="null")  # what a server sets when it starts
    schedule_policy.get_memory = lambda: SimpleNamespace(radix_eviction_policy="lru")
    for line in sys.stdin:
        print(json.dumps(order(json.loads(line))), flush=True)
