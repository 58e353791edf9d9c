"""Paged KV blocks with prefix caching and LRU eviction, as vLLM v1 keeps them. It knows sequences' paths, not time or batches.

Blocks of one segment of one prefix path are always used together, so a path's node holds a *count* of cached blocks instead
of a list: cost grows with segments, not with blocks, and the order of eviction is still vLLM's (least recently released
first, tails before heads).
"""

from collections import OrderedDict
from collections.abc import Sequence as Seq


class Node:
    """The cached blocks of one segment at one place: `cached` leading blocks of it, held by `refs` running sequences."""

    __slots__ = ("cached", "key", "refs")

    def __init__(self, key: int) -> None:
        self.key = key
        self.cached = 0
        self.refs = 0


class Lease:
    """What one sequence holds: pinned nodes, `node_blocks` of its blocks inside them, `blocks` in all."""

    __slots__ = ("blocks", "ends", "keys", "node_blocks", "pinned", "segment")

    def __init__(self, keys: Seq[int], ends: Seq[int]) -> None:
        self.keys = keys
        self.ends = ends
        self.pinned: list[Node] = []
        self.segment = 0
        self.node_blocks = 0
        self.blocks = 0


class PrefixCache:
    """A pool of `kv_blocks` blocks of `block_tokens` tokens. A block is free, cached but evictable, or in use."""

    def __init__(self, kv_blocks: int, block_tokens: int) -> None:
        self.kv_blocks = kv_blocks
        self.block_tokens = block_tokens
        self.free = kv_blocks
        self.evictable = 0
        self._nodes: dict[int, Node] = {}
        self._idle: OrderedDict[int, Node] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that a sequence can get now, evicting if need be."""
        return self.free + self.evictable

    @property
    def used(self) -> float:
        """Share of blocks that running sequences hold (vLLM's kv_cache_usage)."""
        return 1.0 - self.available / self.kv_blocks

    def match(self, keys: Seq[int], ends: Seq[int]) -> int:
        """Blocks of this path that are cached, from its start without a gap; the last token is never taken from cache."""
        size, hit, start = self.block_tokens, 0, 0
        nodes = self._nodes
        for key, end in zip(keys, ends, strict=True):
            span = end // size - start // size
            if span:
                node = nodes.get(key)
                if node is None:
                    break
                if node.cached < span:
                    hit += node.cached
                    break
                hit += span  # a longer segment of the same content may begin alike
            start = end
        return min(hit, (ends[-1] - 1) // size)

    def acquire(self, keys: Seq[int], ends: Seq[int], hit_blocks: int) -> Lease:
        """Pin the first `hit_blocks` cached blocks of a path (as `match` found them)."""
        lease = Lease(keys, ends)
        if not hit_blocks:
            return lease
        size, start, left = self.block_tokens, 0, hit_blocks
        for i, (key, end) in enumerate(zip(keys, ends, strict=True)):
            if left <= 0:
                break
            lease.segment = i
            span = end // size - start // size
            if span:
                node = self._nodes[key]
                self._pin(node)
                lease.pinned.append(node)
                left -= min(node.cached, span)
            start = end
        lease.node_blocks = lease.blocks = hit_blocks
        return lease

    def evictable_among(self, keys: Seq[int], ends: Seq[int], hit_blocks: int) -> int:
        """Blocks that are evictable now and that `acquire` of the same arguments would pin."""
        size, start, left, blocks = self.block_tokens, 0, hit_blocks, 0
        for key, end in zip(keys, ends, strict=True):
            if left <= 0:
                break
            span = end // size - start // size
            if span:
                node = self._nodes[key]
                left -= min(node.cached, span)
                blocks += 0 if node.refs else node.cached
            start = end
        return blocks

    def take(self, blocks: int) -> None:
        """Remove `blocks` from the free pool, evicting the least recently released first. The caller checked `available`."""
        self.free -= blocks
        while self.free < 0:
            key, node = next(iter(self._idle.items()))
            n = min(node.cached, -self.free)
            node.cached -= n
            self.free += n
            self.evictable -= n
            if node.cached == 0:
                del self._idle[key], self._nodes[key]

    def give_back(self, blocks: int) -> None:
        """Return `blocks` blocks that were taken and hold nothing yet."""
        self.free += blocks

    def fill(self, lease: Lease, computed_tokens: int) -> None:
        """Blocks of the lease up to `computed_tokens` hold their KV now: others may hit them from here on."""
        size = self.block_tokens
        full = computed_tokens // size
        i, ends, keys = lease.segment, lease.ends, lease.keys
        while i < len(ends):
            first, last = (ends[i - 1] // size if i else 0), ends[i] // size
            upto = min(last, full)
            if upto > first:
                node = self._enter(keys[i], lease)
                gained = upto - first - node.cached
                if gained > 0:
                    node.cached += gained
                    lease.node_blocks += gained
            if ends[i] > computed_tokens:
                break
            i += 1
        lease.segment = min(i, len(ends) - 1)

    def release(self, lease: Lease) -> None:
        """Give all blocks back: full ones stay cached and evictable (tails are evicted first), the rest is free."""
        self.free += lease.blocks - lease.node_blocks
        for node in reversed(lease.pinned):
            node.refs -= 1
            if node.refs == 0:
                if node.cached:
                    self._idle[node.key] = node
                    self.evictable += node.cached
                else:
                    del self._nodes[node.key]
        lease.pinned = []
        lease.blocks = lease.node_blocks = 0

    def flush(self) -> int:
        """Forget everything that no running sequence holds; returns how many blocks that was."""
        flushed = self.evictable
        for key, node in self._idle.items():
            self.free += node.cached
            del self._nodes[key]
        self._idle.clear()
        self.evictable = 0
        return flushed

    def _enter(self, key: int, lease: Lease) -> Node:
        """The node of `key`, pinned by this lease (once: a lease walks its path in order)."""
        if lease.pinned and lease.pinned[-1].key == key:
            return lease.pinned[-1]
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(key)
        self._pin(node)
        lease.pinned.append(node)
        return node

    def _pin(self, node: Node) -> None:
        if node.refs == 0 and self._idle.pop(node.key, None) is not None:
            self.evictable -= node.cached
        node.refs += 1
