"""vLLM's engine loop with asynchronous scheduling, written out literally: a queue of two steps, synchronous launches. Prompts fit
into one step, places and KV never run out. After `EngineCore.step_with_batch_queue` (`vllm/v1/engine/core.py`)."""

from collections import deque
from dataclasses import dataclass, field

from replicas.profile import StepTime


@dataclass
class Asked:
    """A request: when the scheduler can see it, its lengths, and (filled in) when its first and last tokens were told."""

    ready_s: float
    prompt_tokens: int
    output_tokens: int
    scheduled: int = 0
    told: int = 0
    times_s: list[float] = field(default_factory=list)


def play(asked: list[Asked], step: StepTime) -> None:
    """Run all requests (in order of `ready_s`) to their ends."""
    now_s, gpu_s = 0.0, 0.0
    coming, running = deque(asked), list[Asked]()
    launched: deque[tuple[float, list[Asked]]] = deque()
    while coming or running:
        while coming and coming[0].ready_s <= now_s:
            running.append(coming.popleft())
        batch = [one for one in running if one.scheduled < one.output_tokens]
        if batch and len(launched) < 2:
            gpu_s, now_s = _launch(batch, step, now_s, gpu_s)
            launched.append((gpu_s, batch))
            if len(launched) < 2:
                continue
        if not launched:
            now_s = max(now_s, coming[0].ready_s)
            continue
        done_s, batch = launched.popleft()
        now_s = max(now_s, done_s)
        for one in batch:
            one.told += 1
            one.times_s.append(now_s)
        running = [one for one in running if one.told < one.output_tokens]


def _launch(batch: list[Asked], step: StepTime, now_s: float, gpu_s: float) -> tuple[float, float]:
    """When the GPU is done with this step, and when the host is done launching it."""
    new = [one for one in batch if not one.scheduled]
    decodes = [one for one in batch if one.scheduled]
    tokens = sum(one.prompt_tokens for one in new)
    seconds = step.base_s + step.sequence_s * len(decodes)
    seconds += step.kv_s * sum(one.prompt_tokens + one.scheduled - 1 for one in decodes)
    if new:
        extra_s = step.prefill_base_s + step.prefill_sequence_s * len(decodes) + step.prefill_s * tokens
        extra_s += step.attention_s * sum(one.prompt_tokens**2 / 2 for one in new)
        seconds += max(0.0, extra_s)
    ready_s = now_s + step.host_s + step.host_sequence_s * len(batch)
    launched_s = ready_s + step.launch_s(tokens, len(decodes))
    for one in batch:
        one.scheduled += 1
    return max(max(ready_s, gpu_s) + seconds, launched_s), launched_s
