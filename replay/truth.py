"""What `oracle` is told: the pool's true state in virtual time. A reference, not a proven bound."""

from collections.abc import Callable, Sequence

from replicas.engine import Engine
from routers.policy import RoutedRequest


class PoolTruth:
    """Predicts from an engine's true state and the true output length, which no real router has."""

    def __init__(self, engines: Sequence[Engine], output_tokens: Callable[[int], int]) -> None:
        self._engines = engines
        self._output_tokens = output_tokens

    def predicted_ttft_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        """Seconds to the first token: the prefills in front, the wait for a place in the batch, and the own prefill."""
        engine = self._engines[replica_id]
        return engine.backlog_s(now_s) + self._own_prefill_s(engine, request)

    def predicted_e2e_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        """Seconds to the last token, at the batch that the replica would run then."""
        engine = self._engines[replica_id]
        batch = min(engine.running + engine.waiting + 1, engine.profile.max_running)
        step_s = engine.step_s(batch, engine.kv_tokens(now_s) + request.prompt.tokens)
        return self.predicted_ttft_s(replica_id, request, now_s) + self._output_tokens(request.rid) * step_s

    def _own_prefill_s(self, engine: Engine, request: RoutedRequest) -> float:
        prompt, step = request.prompt, engine.profile.step
        cached = engine.cache.match(prompt.keys, prompt.ends) * engine.profile.block_tokens
        new = prompt.tokens - cached
        return step.prefill_base_s + step.prefill_s * new + step.attention_s * new * (cached + new / 2)
