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
        self.cached = self.refs = 0


class Lease:
    """What one sequence holds of a path: pinned nodes, `node_blocks` of its blocks inside them, `blocks` in all.

    As `PrefixCache.find` returns it, it is an offer: nothing is pinned yet, and `evictable` blocks would be no more.
    """

    __slots__ = ("blocks", "ends", "evictable", "keys", "node_blocks", "pinned", "segment")

    def __init__(self, keys: Seq[int], ends: Seq[int]) -> None:
        self.keys = keys
        self.ends = ends
        self.pinned: list[Node] = []
        self.segment = self.node_blocks = self.blocks = self.evictable = 0


class PrefixCache:
    """A pool of `kv_blocks` blocks of `block_tokens` tokens. A block is free, cached but evictable, or in use.

    Which blocks are evicted is settled when somebody looks for a prefix: until then they are `_owed`.
    """

    def __init__(self, kv_blocks: int, block_tokens: int) -> None:
        self.kv_blocks = kv_blocks
        self.block_tokens = block_tokens
        self.free = kv_blocks
        self.evictable = 0
        self._owed = 0  # evictable blocks that were taken and are still in `_idle`
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
        return self.find(keys, ends).blocks

    def find(self, keys: Seq[int], ends: Seq[int]) -> Lease:
        """What is cached of this path (see `match`), not held yet: `hold` it before anything else changes."""
        if self._owed:
            self._evict()
        lease = Lease(keys, ends)
        size, nodes, hit, segment = self.block_tokens, self._nodes, 0, 0
        most = (ends[-1] - 1) // size
        for key, end in zip(keys, ends):  # noqa: B905 (they are as long as each other; checking it costs)
            last = end // size
            if last > hit:
                node = nodes.get(key)
                if node is None or hit >= most:
                    break
                lease.pinned.append(node)
                cached = node.cached
                if not node.refs:
                    lease.evictable += cached
                if cached < last - hit:
                    hit += cached
                    break
                hit = last  # a longer segment of the same content may begin alike
            segment += 1
        lease.segment = segment if segment < len(ends) else segment - 1
        lease.node_blocks = lease.blocks = hit if hit < most else most
        return lease

    def hold(self, lease: Lease) -> None:
        """Pin what `find` found."""
        for node in lease.pinned:
            if not node.refs:
                del self._idle[node.key]
                self.evictable -= node.cached
            node.refs += 1

    def take(self, blocks: int) -> None:
        """Remove `blocks` from the free pool, evicting the least recently released first. The caller checked `available`."""
        free = self.free - blocks
        if free < 0:
            self.evictable += free
            self._owed -= free
            free = 0
        self.free = free

    def give_back(self, blocks: int) -> None:
        """Return `blocks` blocks that were taken and hold nothing yet."""
        self.free += blocks

    def fill(self, lease: Lease, computed_tokens: int) -> None:
        """Blocks of the lease up to `computed_tokens` hold their KV now: others may hit them from here on."""
        size, ends, i = self.block_tokens, lease.ends, lease.segment
        while True:
            end = ends[i]
            blocks = (end if end < computed_tokens else computed_tokens) // size
            if i:
                blocks -= ends[i - 1] // size
            if blocks > 0:
                self.put(lease, lease.keys[i], blocks)
            if end > computed_tokens or i + 1 == len(ends):
                break
            i += 1
        lease.segment = i

    def put(self, lease: Lease, key: int, blocks: int) -> None:
        """The first `blocks` blocks of the lease's segment `key` hold their KV now. A lease walks its path in order."""
        pinned = lease.pinned
        if pinned and pinned[-1].key == key:
            node = pinned[-1]
        else:
            node = self._enter(key)
            pinned.append(node)
        gained = blocks - node.cached
        if gained > 0:
            node.cached = blocks
            lease.node_blocks += gained

    def release(self, lease: Lease) -> None:
        """Give all blocks back: full ones stay cached and evictable (tails are evicted first), the rest is free."""
        self.free += lease.blocks - lease.node_blocks
        for node in reversed(lease.pinned):
            refs = node.refs = node.refs - 1
            if not refs:
                self._idle[node.key] = node
                self.evictable += node.cached

    def flush(self) -> int:
        """Forget everything that no running sequence holds; returns how many blocks that was."""
        self._evict()
        flushed = self.evictable
        for key in self._idle:
            del self._nodes[key]
        self._idle.clear()
        self.free += flushed
        self.evictable = 0
        return flushed

    def _enter(self, key: int) -> Node:
        """The node of `key`, with one more that uses it."""
        node = self._nodes.get(key)
        if node is not None and not node.refs:
            self._evict()  # it may be among what goes
            node = self._nodes.get(key)
            if node is not None:
                del self._idle[key]
                self.evictable -= node.cached
        if node is None:
            node = self._nodes[key] = Node(key)
        node.refs += 1
        return node

    def _evict(self) -> None:
        """What is owed goes: the least recently released first, tails before heads, the last one in part."""
        owed, idle = self._owed, self._idle
        while owed > 0:
            node = next(iter(idle.values()))
            if node.cached <= owed:
                owed -= node.cached
                del idle[node.key], self._nodes[node.key]
            else:
                node.cached -= owed
                owed = 0
        self._owed = 0
