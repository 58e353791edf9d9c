"""Who holds how much of a prompt, in blocks: guessed from what was sent, or told by the replicas. It does not choose."""

from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf

from replicas.profile import EngineProfile
from routers.policy import KvEvent
from routers.prefixes.held_blocks import HeldBlocks
from workloads.request import Prompt

KINDS = ("approximate", "exact")


class BlockIndex:
    """What both kinds share; all are asked alike. `block_tokens` should be the engine's."""

    def __init__(self, replica_ids: Sequence[int], block_tokens: int, max_blocks: int) -> None:
        self.block_tokens = block_tokens
        self._held = HeldBlocks(replica_ids, block_tokens, max_blocks)

    def __len__(self) -> int:
        """Entries: (replica, segment) pairs."""
        return len(self._held)

    def blocks_of(self, replica_id: int) -> int:
        return self._held.blocks_of(replica_id)

    def oldest_s(self, replica_id: int) -> float:
        """When what would be forgotten first was touched last; inf where nothing is held."""
        oldest = self._held.oldest(replica_id)
        return oldest[1] if oldest is not None else inf

    def matched(self, prompt: Prompt, now_s: float) -> dict[int, int]:
        """Replica → leading tokens of the prompt that it holds, in whole blocks; those that hold none are left out."""
        return self._held.matched(prompt)

    def sent(self, prompt: Prompt, replica_id: int, now_s: float) -> None:
        """A replica was sent this prompt."""

    def heard(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        """A replica told of its cache."""

    def set_replicas(self, replica_ids: Sequence[int]) -> None:
        """These are in the pool from now on; whoever left is forgotten."""
        self._held.set_replicas(replica_ids)


class ApproximateIndex(BlockIndex):
    """What was sent, for `ttl_s` after it was sent last (None: for ever), at most `max_blocks` a replica (oldest go first).

    Known weakness: it knows nothing of what the engine evicted, never cached, or generated itself.
    """

    def __init__(self, replica_ids: Sequence[int], block_tokens: int, max_blocks: int, ttl_s: float | None) -> None:
        super().__init__(replica_ids, block_tokens, max_blocks)
        self._ttl_s = ttl_s
        self._due: list[tuple[float, int]] = []  # heap of (its oldest entry was touched then or later, replica): one each
        self._queued: set[int] = set()

    def matched(self, prompt: Prompt, now_s: float) -> dict[int, int]:
        if self._ttl_s is not None:
            self._expire(now_s - self._ttl_s)
        return self._held.matched(prompt)

    def sent(self, prompt: Prompt, replica_id: int, now_s: float) -> None:
        path, first, size = [], 0, self.block_tokens
        for key, end in zip(prompt.keys, prompt.ends):  # noqa: B905 (as long as each other; checking costs)
            last = end // size
            if last > first:
                path.append((key, last - first))
                first = last
        path.reverse()  # the head is touched last: it must outlive its continuations
        self._held.touch(replica_id, path, now_s)
        if self._ttl_s is not None and replica_id not in self._queued:
            self._queued.add(replica_id)
            heappush(self._due, (now_s, replica_id))

    def set_replicas(self, replica_ids: Sequence[int]) -> None:
        super().set_replicas(replica_ids)
        stay = set(replica_ids)
        self._due = sorted(entry for entry in self._due if entry[1] in stay)
        self._queued &= stay

    def _expire(self, until_s: float) -> None:
        due, held = self._due, self._held
        while due and due[0][0] <= until_s:
            _, replica_id = heappop(due)
            held.forget_until(replica_id, until_s)
            oldest = held.oldest(replica_id)
            if oldest is None:
                self._queued.discard(replica_id)
            else:
                heappush(due, (oldest[1], replica_id))


class ExactIndex(BlockIndex):
    """What the replicas tell by their KV events, which must come in order.

    An event that got lost shows as a gap in `number`: nothing of that replica is believed any more, and nothing new, until it
    tells all (`cleared`). The first event of a replica has number 1. Known weakness: events lag behind the cache, a flood of
    requests for the same new prefix is not seen.
    """

    def __init__(self, replica_ids: Sequence[int], block_tokens: int, max_blocks: int) -> None:
        super().__init__(replica_ids, block_tokens, max_blocks)
        self._last = dict.fromkeys(replica_ids, 0)
        self._lost: set[int] = set()
        self.gaps = 0

    @property
    def lost(self) -> frozenset[int]:
        """Replicas that are not believed now."""
        return frozenset(self._lost)

    def heard(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        last = self._last.get(replica_id)
        if last is None or (event.number <= last and not (event.cleared and event.number == 1)):
            return  # left the pool, or told twice; number 1 again is a replica that was started anew
        self._last[replica_id] = event.number
        held = self._held
        if event.number != last + 1 and not event.cleared:
            if replica_id not in self._lost:
                self.gaps += 1
                self._lost.add(replica_id)
                held.drop(replica_id)
            return
        if event.cleared:
            self._lost.discard(replica_id)
            held.drop(replica_id)
        if replica_id not in self._lost:
            for key, tokens in event.now_cached:
                held.hold(replica_id, key, tokens // self.block_tokens, now_s)

    def set_replicas(self, replica_ids: Sequence[int]) -> None:
        super().set_replicas(replica_ids)
        self._last = {i: self._last.get(i, 0) for i in replica_ids}
        self._lost &= set(replica_ids)


def build_index(
    kind: str, replica_ids: Sequence[int], block_tokens: int, max_blocks: int, ttl_s: float | None = None
) -> BlockIndex:
    """An index of one of `KINDS`; `ttl_s` is for the approximate one."""
    if kind == "exact":
        return ExactIndex(replica_ids, block_tokens, max_blocks)
    return ApproximateIndex(replica_ids, block_tokens, max_blocks, ttl_s)


def engine_block_tokens(profile: EngineProfile | None) -> int:
    """The engine's block size where it is known, else vLLM's default, 16."""
    return 16 if profile is None else profile.block_tokens
