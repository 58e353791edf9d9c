"""What rules with a block index share: they tell it what they send, what replicas tell, and who is there. It does not choose."""

from routers.choices.pool_order import PoolOrder
from routers.policy import Decision, KvEvent, Policy, PolicyContext, RoutedRequest
from routers.prefixes.block_index import build_index, engine_block_tokens


class IndexedPolicy(Policy):
    """`index` exact or approximate; `index_blocks` null: as many as the engine's KV memory has, or 31,250 where it is unknown."""

    def __init__(self, context: PolicyContext, index: str, index_blocks: int | None, ttl_s: float | None = None) -> None:
        profile = context.profile
        blocks = index_blocks or (31_250 if profile is None else profile.kv_blocks)
        self.wants_kv_events = index == "exact"
        self._index = build_index(index, context.replica_ids, engine_block_tokens(profile), blocks, ttl_s)
        self._order = PoolOrder(context.replica_ids)

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._index.sent(request.prompt, decision.replica_id, now_s)

    def on_kv_event(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        self._index.heard(replica_id, event, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._index.set_replicas(replica_ids)
        self._order = PoolOrder(replica_ids)
