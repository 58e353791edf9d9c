"""Blocks and prompt tokens under way at each replica, as a router knows them from its own requests. It does not choose."""

from collections.abc import Sequence

from routers.policy import RoutedRequest
from routers.prefixes.held_blocks import HeldBlocks
from workloads.request import Prompt


class ActiveBlocks:
    """A prompt's whole blocks are active from its send to its end, a prefix that several share once; its uncached tokens are
    to be prefilled until its first token (Dynamo's `ActiveSequences`). Output is not counted.
    """

    def __init__(self, replica_ids: Sequence[int], block_tokens: int) -> None:
        self._size = block_tokens
        self._held = HeldBlocks(replica_ids, block_tokens, 1 << 62)
        self._uses: dict[int, dict[int, int]] = {i: {} for i in replica_ids}  # replica → key → requests that use it
        self._under_way: dict[int, tuple[int, Prompt]] = {}  # rid → where, what
        self._prefilling: dict[int, int] = {}  # rid → tokens
        self.prefill_tokens = dict.fromkeys(replica_ids, 0)

    def blocks_of(self, replica_id: int) -> int:
        return self._held.blocks_of(replica_id)

    def shared(self, prompt: Prompt) -> dict[int, int]:
        """Replica → leading tokens of the prompt that are active there already."""
        return self._held.matched(prompt)

    def begin(self, request: RoutedRequest, replica_id: int, new_tokens: int) -> None:
        """It was sent there, and `new_tokens` of its prompt are to be prefilled."""
        self._under_way[request.rid] = replica_id, request.prompt
        self._prefilling[request.rid] = new_tokens
        self.prefill_tokens[replica_id] += new_tokens
        uses, first, size = self._uses[replica_id], 0, self._size
        for key, end in zip(request.prompt.keys, request.prompt.ends, strict=True):
            last = end // size
            if last > first:
                uses[key] = uses.get(key, 0) + 1
                if uses[key] == 1 or self._held.held(replica_id, key) < last - first:
                    self._held.hold(replica_id, key, last - first, 0.0)
                first = last

    def prefilled(self, rid: int) -> None:
        """Its first token came."""
        tokens = self._prefilling.pop(rid, 0)
        if tokens:
            self.prefill_tokens[self._under_way[rid][0]] -= tokens

    def end(self, rid: int) -> None:
        """It is no longer there (unknown: its replica had left the pool)."""
        self.prefilled(rid)
        replica_id, prompt = self._under_way.pop(rid, (0, None))
        if prompt is None:
            return
        uses, first, size = self._uses[replica_id], 0, self._size
        for key, end in zip(prompt.keys, prompt.ends, strict=True):
            last = end // size
            if last > first:
                uses[key] -= 1
                if not uses[key]:
                    del uses[key]
                    self._held.hold(replica_id, key, 0, 0.0)
                first = last

    def set_replicas(self, replica_ids: Sequence[int]) -> None:
        """These are in the pool from now on; what is under way at others is forgotten."""
        self._held.set_replicas(replica_ids)
        for rid in [rid for rid, (i, _) in self._under_way.items() if i not in replica_ids]:
            del self._under_way[rid]
            self._prefilling.pop(rid, None)
        self._uses = {i: self._uses.get(i, {}) for i in replica_ids}
        self.prefill_tokens = {i: self.prefill_tokens.get(i, 0) for i in replica_ids}
