"""Prefix caches that keep a log of what they cache, as KV events tell it. It does not know who reads the log, or when.

An engine that tells nothing has the plain caches and pays nothing: `telling` puts one of these in their place.
"""

from collections.abc import Sequence as Seq
from typing import NamedTuple

from replicas.prefix_cache import Lease, PrefixCache
from replicas.radix_cache import Node, RadixCache, RadixLease


class CacheChange(NamedTuple):
    """What changed since the last one: of the segment that each key ends with, so many tokens are cached now (0: none).

    `number` counts up by one, from 1. `cleared`: all that was told before is void.
    """

    number: int
    now_cached: tuple[tuple[int, int], ...] = ()
    cleared: bool = False


class CacheLog:
    """Collects changes until somebody takes them. It knows at any time what a reader of all of them knows."""

    def __init__(self, block_tokens: int) -> None:
        self.number = 0
        self._size = block_tokens
        self._cached: dict[int, int] = {}  # key → blocks
        self._changed: dict[int, int] = {}
        self._cleared = False

    def note(self, key: int, blocks: int) -> None:
        """So many blocks of the segment are cached now."""
        if self._cached.get(key, 0) == blocks:
            return
        self._changed[key] = blocks
        if blocks:
            self._cached[key] = blocks
        else:
            del self._cached[key]

    def clear(self) -> None:
        """All is gone: the engine was started anew, say."""
        self._cached.clear()
        self._changed.clear()
        self._cleared = True

    def take(self) -> CacheChange | None:
        """What changed since the last time (the latest word on each segment), or None."""
        if not self._changed and not self._cleared:
            return None
        return self._next(self._changed, self._cleared)

    def everything(self) -> CacheChange:
        """All that is cached now, for a reader who missed something."""
        return self._next(self._cached, True)

    def _next(self, blocks: dict[int, int], cleared: bool) -> CacheChange:
        self.number += 1
        change = CacheChange(self.number, tuple((key, n * self._size) for key, n in blocks.items()), cleared)
        self._changed.clear()
        self._cleared = False
        return change


class TellingPrefixCache(PrefixCache):
    """Every change of a node's count is noted, evictions as soon as the blocks are taken."""

    def __init__(self, kv_blocks: int, block_tokens: int, log: CacheLog) -> None:
        super().__init__(kv_blocks, block_tokens)
        self.log = log

    def take(self, blocks: int) -> None:
        surplus, victims = blocks - self.free, []
        for node in self._idle.values():
            if surplus <= 0:
                break
            victims.append(node)
            surplus -= node.cached
        super().take(blocks)
        if victims:
            self.match((0,), (1,))  # whoever looks settles what is evicted, where that waits until then
        for node in victims:
            self.log.note(node.key, node.cached if self._nodes.get(node.key) is node else 0)

    def fill(self, lease: Lease, computed_tokens: int) -> None:
        first = max(0, len(lease.pinned) - 1)
        super().fill(lease, computed_tokens)
        for node in lease.pinned[first:]:
            self.log.note(node.key, node.cached)

    def release(self, lease: Lease) -> None:
        for node in lease.pinned:
            self.log.note(node.key, node.cached)
        super().release(lease)

    def flush(self) -> int:
        keys = list(self._idle)
        flushed = super().flush()
        for key in keys:
            self.log.note(key, 0)
        return flushed


class TellingRadixCache(RadixCache):
    """Pages that enter the tree and leave it are noted, by the segments that they belong to."""

    def __init__(self, kv_blocks: int, block_tokens: int, log: CacheLog) -> None:
        super().__init__(kv_blocks, block_tokens)
        self.log = log

    def insert(self, lease: RadixLease, keys: Seq[int], ends: Seq[int], tokens: int) -> Node:
        node, matched, _ = self._walk(self.runs(keys, ends), tokens // self.block_tokens)
        before = node.end + matched
        inserted = super().insert(lease, keys, ends, tokens)
        first = 0
        for key, end in self.runs(keys, ends):
            last = min(end, inserted.end)
            if last > max(before, first):
                self.log.note(key, last - first)
            first = end
        return inserted

    def _remove(self, node: Node) -> None:
        first = _begin(node)
        for key, end in node.runs:
            self.log.note(key, max(0, node.start - first))
            first = end
        super()._remove(node)


def telling(cache: PrefixCache | RadixCache, log: CacheLog) -> PrefixCache | RadixCache:
    """An empty cache like this one, that keeps the log."""
    kind = TellingRadixCache if isinstance(cache, RadixCache) else TellingPrefixCache
    return kind(cache.kv_blocks, cache.block_tokens, log)


def _begin(node: Node) -> int:
    """The page where the segment that the node begins in begins: at the node, or in one above it."""
    key, begin, above = node.runs[0][0], node.start, node.parent
    while above is not None and above.runs and above.runs[-1][0] == key:
        begin = above.runs[-2][1] if len(above.runs) > 1 else above.start
        above = above.parent if len(above.runs) == 1 else None
    return begin
