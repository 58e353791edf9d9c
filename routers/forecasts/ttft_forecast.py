"""When a request's first token would come from a replica, by the engine's measured profile. It does not know the queue itself.

It knows what the router counts: the prompts that wait for their first token there, and all that is in flight.
"""

from math import ceil

from replicas.profile import EngineProfile

_LEARNS = 0.02  # the weight of one answer in the means below


class TtftForecast:
    """Own, after the idea of llm-d's latency scorer: steps of the profile, over the prompts in front and the own one.

    seconds = front end + ⌈tokens / batched tokens⌉ · step + the wait for a place where the batch is full. `tokens` are the
    backlog's and the prompt's, less the share that the replicas said was cached of late; how long an answer is, is the mean of
    late too (`output_tokens` before any). Known weaknesses: one share of cached tokens for all; no KV limit, no preemption, no
    priorities; what other routers send is not seen.
    """

    def __init__(self, profile: EngineProfile, output_tokens: float) -> None:
        self._profile = profile
        self._output_tokens = output_tokens
        self._cached_share = 0.0

    def learn(self, prompt_tokens: int, output_tokens: int, cached_tokens: int | None) -> None:
        """An answer has ended well."""
        self._output_tokens += _LEARNS * (output_tokens - self._output_tokens)
        if cached_tokens is not None and prompt_tokens > 0:
            self._cached_share += _LEARNS * (cached_tokens / prompt_tokens - self._cached_share)

    def seconds(self, prompt_tokens: int, backlog_tokens: int, in_flight: int, in_flight_tokens: int) -> float:
        """Seconds to the first token, of a prompt sent now to a replica with that much in flight."""
        profile = self._profile
        tokens = max(1, round((prompt_tokens + backlog_tokens) * (1 - self._cached_share)))
        steps = ceil(tokens / profile.max_batched_tokens)
        batch = min(in_flight, profile.max_running)
        kv_tokens = min(in_flight_tokens, profile.kv_blocks * profile.block_tokens)
        step_s = profile.step.seconds(ceil(tokens / steps), prompt_tokens / 2, batch, kv_tokens)
        wait_s = self._wait_for_place_s(in_flight + 1 - profile.max_running, kv_tokens)
        return profile.frontend_s + profile.frontend_s_per_token * prompt_tokens + steps * step_s + wait_s

    def _wait_for_place_s(self, places: int, kv_tokens: int) -> float:
        """Until so many of a full batch have ended: each takes its answer's length, and they end one after another."""
        if places <= 0:
            return 0.0
        most = self._profile.max_running
        return places / most * self._output_tokens * self._profile.step.seconds(0, 0.0, most, kv_tokens)
