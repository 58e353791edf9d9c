"""`pd_conditional`: a pair, unless there is so little to prefill that the decode replica may do it. It guesses that cache."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.parameters import within
from routers.policies.pd_pair import PdPair, PdPairSettings, pd_settings
from routers.policy import Decision, NoReplica, PolicyContext, RoutedRequest
from routers.prefixes.block_index import ApproximateIndex, engine_block_tokens


@dataclass(frozen=True, slots=True)
class PdConditionalSettings(PdPairSettings):
    """`local_below_tokens` and `local_below_share` (null: no such test) are Dynamo's effective-ISL thresholds. `index_blocks` a
    decode replica are remembered (null: as many as its KV memory has, or 31,250)."""

    local_below_tokens: int = 2048
    local_below_share: float | None = 0.7
    index_blocks: int | None = None

    def __post_init__(self) -> None:
        within("local_below_tokens", self.local_below_tokens, 0)
        within("local_below_share", self.local_below_share, 0.0, 1.0)
        within("index_blocks", self.index_blocks, 1)


class PdConditional(PdPair):
    """`pd_pair`, but a request stays on its decode replica, prefill and all, where uncached tokens < `local_below_tokens` and
    uncached / prompt < `local_below_share`; and while no prefill replica is eligible.

    Dynamo's conditional disaggregation (`lib/kv-router/src/conditional_disagg.rs`, policy `isl_bounding`, 2048 and 0.7); with
    `local_below_share: null` it is that of its early releases (`max_local_prefill_length`, 1000 there), where short prompts
    stay too. Cached = the longest prefix that this router sent to that replica before. Weakness: local prefills stall the
    decodes beside them, and nothing here looks at how loaded either side is (Dynamo's `isl_or_load` does). It takes decode
    replicas that can prefill: vLLM's (`kv_both`) can, SGLang's in `--disaggregation-mode decode` cannot.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = pd_settings(PdConditionalSettings, context.parameters, "pd_conditional")
        self._build(self._settings, context, "pd_conditional")
        profile = context.profile
        blocks = self._settings.index_blocks or (31_250 if profile is None else profile.kv_blocks)
        self._index = ApproximateIndex(context.replica_ids, engine_block_tokens(profile), blocks, None)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        prefill, decode = self.by_role(replicas, now_s)
        if not decode:
            raise NoReplica
        chosen = self._decode.choose(request, decode, now_s)
        if not prefill:
            return self._local(chosen, "no prefill replica")
        tokens = request.prompt.tokens
        new = tokens - self._index.matched(request.prompt, now_s).get(chosen.replica_id, 0)
        share = self._settings.local_below_share
        if new < self._settings.local_below_tokens and (share is None or new < share * tokens):
            return self._local(chosen, "little to prefill")
        return self.pair(request, prefill, chosen, now_s)

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        super().on_sent(request, decision, now_s)
        self._index.sent(request.prompt, decision.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        super().on_pool(replica_ids, now_s)
        self._index.set_replicas(replica_ids)

    @staticmethod
    def _local(chosen: Decision, why: str) -> Decision:
        return Decision(chosen.replica_id, f"stays on decode, {why}: {chosen.reason}", None, chosen.probes, chosen.scores)
