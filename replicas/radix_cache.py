"""SGLang's radix tree over cached prefixes, whole pages at a time, with LRU eviction of leaves. It knows no batches and no clock.

After `mem_cache/radix_cache.py`: a node is a run of pages that always goes whole; a match or an insertion that ends inside
one splits it, and refreshes the access times on its way; a lock on a node holds its path to the root. A prompt is its prefix
path, so a node holds the path keys of its pages instead of tokens: cost grows with segments, not with tokens.
"""

import heapq
from collections.abc import Sequence as Seq

from replicas.prefix_cache import Lease

Runs = list[tuple[int, int]]  # (path key, page where its pages end), from some page on


class Node:
    """Pages `start` … `end`−1 of a path. `locks` sequences use them; `accessed` orders evictions."""

    __slots__ = ("accessed", "children", "end", "locks", "parent", "runs", "start")

    def __init__(self, parent: "Node | None", start: int, runs: Runs, accessed: int) -> None:
        self.parent = parent
        self.start = start
        self.end = runs[-1][1] if runs else start
        self.runs = runs
        self.children: dict[int, Node] = {}
        self.locks = 0
        self.accessed = accessed

    @property
    def pages(self) -> int:
        return self.end - self.start


class RadixLease(Lease):
    """What a sequence holds: the path to `node` (locked), and `blocks` − `node_blocks` pages of its own."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        super().__init__((), ())
        self.node = node
        self.node_blocks = self.blocks = node.end


class RadixCache:
    """A pool of `kv_blocks` pages of `block_tokens` tokens. A page is free, cached but evictable, or in use."""

    def __init__(self, kv_blocks: int, block_tokens: int) -> None:
        self.kv_blocks = kv_blocks
        self.block_tokens = block_tokens
        self.free = kv_blocks
        self.evictable = 0
        self.root = Node(None, 0, [], 0)
        self._tick = 0
        self._leaves: list[tuple[int, int, Node]] = []  # heap of (accessed, tie, node); stale entries are skipped
        self._n_nodes = 0

    @property
    def available(self) -> int:
        """Pages that a sequence can get now, evicting if need be."""
        return self.free + self.evictable

    @property
    def used(self) -> float:
        """Share of pages that running sequences hold."""
        return 1.0 - self.available / self.kv_blocks

    def match(self, keys: Seq[int], ends: Seq[int]) -> int:
        """Pages of this path that are cached; the last token is never taken from cache. Changes nothing."""
        node, matched, _ = self._walk(self.runs(keys, ends), (ends[-1] - 1) // self.block_tokens)
        return node.end + matched

    def find(self, keys: Seq[int], ends: Seq[int], tokens: int) -> Node:
        """The node where the cached part of the path's first `tokens` tokens ends; touched, and split there if need be."""
        return self._find(self.runs(keys, ends), tokens // self.block_tokens)

    def insert(self, lease: RadixLease, keys: Seq[int], ends: Seq[int], tokens: int) -> Node:
        """Put the lease's whole pages up to `tokens` into the tree; pages that are there already are freed. Returns the end."""
        upto, runs = tokens // self.block_tokens, self.runs(keys, ends)
        node = self._find(runs, upto)
        self.free += node.end - lease.node_blocks  # computed twice
        if node.end < upto:
            runs = _cut(runs, node.end, upto)
            self._tick += 1
            new = Node(node, node.end, runs, self._tick)
            node.children[runs[0][0]] = new
            self._n_nodes += 1
            self.evictable += new.pages
            self._note_leaf(new)
            node = new
        return node

    def move(self, lease: RadixLease, node: Node) -> None:
        """The lease holds the path to `node` now instead of the one it held."""
        self.lock(node)
        self.unlock(lease.node)
        lease.node = node
        lease.node_blocks = node.end

    def lock(self, node: Node) -> None:
        while node.parent is not None:
            if node.locks == 0:
                self.evictable -= node.pages
            node.locks += 1
            node = node.parent

    def unlock(self, node: Node) -> None:
        while node.parent is not None:
            node.locks -= 1
            if node.locks == 0:
                self.evictable += node.pages
                self._note_leaf(node)
            node = node.parent

    def unlocked_pages(self, node: Node) -> int:
        """Evictable pages on the path to `node`."""
        pages = 0
        while node.parent is not None and node.locks == 0:
            pages += node.pages
            node = node.parent
        return pages

    def take(self, pages: int) -> None:
        """Remove `pages` from the free pool; if there are too few, evict as many first, whole leaves at a time."""
        if self.free < pages:
            self.evict(pages)
        self.free -= pages

    def evict(self, pages: int) -> None:
        """Evict least recently accessed leaves until at least `pages` pages are gone or nothing is left."""
        while pages > 0 and self._leaves:
            accessed, _, node = heapq.heappop(self._leaves)
            if node.accessed != accessed or node.locks or node.children or node.end == node.start:
                continue
            pages -= node.pages
            self._remove(node)

    def flush(self) -> int:
        """Forget everything that no running sequence holds; returns how many pages that was."""
        flushed = self.evictable
        self.evict(flushed)
        return flushed

    def runs(self, keys: Seq[int], ends: Seq[int]) -> Runs:
        """A path in pages: a page belongs to the segment that holds its last token."""
        size, start, runs = self.block_tokens, 0, []
        for key, end in zip(keys, ends, strict=True):
            page = end // size
            if page > start:
                runs.append((key, page))
                start = page
        return runs

    # Inside

    def _find(self, runs: Runs, upto: int) -> Node:
        """As `find`, of the path's first `upto` pages."""
        self._tick += 1
        tick = self._tick
        node, matched, child = self._walk(runs, upto, tick)
        if child is not None:
            self._touch(child, tick)
            node = self._split(child, matched)
        return node

    def _walk(self, runs: Runs, upto: int, tick: int = 0) -> tuple[Node, int, Node | None]:
        """(last node that matches whole, pages that match beyond it, the node they lie in); with a `tick`, nodes are touched."""
        node, i = self.root, 0
        while node.end < upto:
            while runs[i][1] <= node.end:
                i += 1
            child = node.children.get(runs[i][0])
            if child is None:
                break
            if child.end > upto or child.runs != runs[i : i + len(child.runs)]:  # not alike at a glance
                matched = _shared(child, runs, i, upto)
                if matched < child.pages:
                    return node, matched, child
            node = child
            if tick:
                self._touch(node, tick)
        return node, 0, None

    def _touch(self, node: Node, tick: int) -> None:
        node.accessed = tick
        self._note_leaf(node)

    def _note_leaf(self, node: Node) -> None:
        if node.locks or node.children:
            return
        if len(self._leaves) > 64 + 4 * self._n_nodes:
            self._leaves = [entry for entry in self._leaves if entry[0] == entry[2].accessed and entry[2].end > entry[2].start]
            heapq.heapify(self._leaves)
        heapq.heappush(self._leaves, (node.accessed, id(node), node))

    def _split(self, child: Node, pages: int) -> Node:
        """A node of the first `pages` pages of `child`, put in above it."""
        parent, border = child.parent, child.start + pages
        assert parent is not None
        upper_runs = _cut(child.runs, child.start, border)
        first = child.runs[0][0]
        self._tick += 1
        upper = Node(parent, child.start, upper_runs, self._tick)
        upper.locks = child.locks
        parent.children[first] = upper
        child.runs = [run for run in child.runs if run[1] > border]
        child.start = border
        child.parent = upper
        upper.children[child.runs[0][0]] = child
        self._n_nodes += 1
        return upper

    def _remove(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        del parent.children[node.runs[0][0]]
        self.free += node.pages
        self.evictable -= node.pages
        self._n_nodes -= 1
        node.start = node.end
        if parent.parent is not None:
            self._note_leaf(parent)


def _cut(runs: Runs, start: int, border: int) -> Runs:
    """The pages `start` … `border`−1 of runs that reach so far."""
    cut = []
    for key, end in runs:
        if end >= border:
            cut.append((key, border))
            break
        if end > start:
            cut.append((key, end))
    return cut


def _shared(child: Node, runs: Runs, i: int, upto: int) -> int:
    """Pages of `child`, from its start, that a path has too; run `i` is the path's at that place."""
    at, j = child.start, 0
    while at < upto and j < len(child.runs) and i < len(runs) and child.runs[j][0] == runs[i][0]:
        at = min(child.runs[j][1], runs[i][1], upto)
        mine, theirs = child.runs[j][1] <= at, runs[i][1] <= at
        j += mine
        i += theirs
        if not (mine and theirs):  # one of them goes on with this segment where the other has another
            break
    return at - child.start
