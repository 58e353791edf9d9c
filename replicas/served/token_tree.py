"""From real token ids to the engine's prompts: equal beginnings are equal keys. It knows what was sent and made here, no text.

An engine knows a prompt as a path of segments. Here a path is found in a radix tree of all that was seen, whose nodes are never
split: a prompt that parts from a node after half of its tokens names that node up to there (the engine's cache counts the
leading part of what it holds), so hits are exact at the granularity of the engine, a block or a single token.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from workloads.request import Prompt, extend_key

Ids = npt.NDArray[np.int32]

_WIDTH = 4  # bytes a token
_COARSE_TOKENS = 64
_MASK = (1 << 63) - 1


class _Node:
    """Some tokens at one place: they follow `offset` tokens of the parent. Children by (offset here, first token)."""

    __slots__ = ("children", "data", "key", "offset", "parent")

    def __init__(self, key: int, data: bytes, parent: "_Node | None", offset: int) -> None:
        self.key = key
        self.data = data
        self.parent = parent
        self.offset = offset
        self.children: dict[tuple[int, bytes], _Node] = {}


class TokenTree:
    """Prompts and replies; forgets the oldest beyond `most_tokens`.

    What is new of a prompt becomes nodes of `chunk_tokens` at most (a multiple of the engine's block). Where a sequence uses a
    part of one, the engine's cache holds the whole for it, and cost grows with nodes: see `chunk_tokens`.
    Known limit: where a prompt brings a reply before it was made here (a conversation that began elsewhere), the cache of the
    same reply, made later, is not found.
    """

    def __init__(self, chunk_tokens: int, most_tokens: int) -> None:
        self._chunk = chunk_tokens
        self._most_bytes = most_tokens * _WIDTH
        self._root = _Node(0, b"", None, 0)
        self._recent: OrderedDict[_Node, None] = OrderedDict()  # a parent is always younger than its children
        self._bytes = 0

    @property
    def tokens(self) -> int:
        """Tokens that are remembered."""
        return self._bytes // _WIDTH

    def enter(self, prompt: Ids, reply: Ids, reply_id: int) -> Prompt:
        """The path of a prompt of at least one token. What is new of it is remembered, and so is the reply that an engine is
        about to make, under the key that the engine gives it."""
        data = prompt.tobytes()
        path, ends = self._walk(data)
        done = ends[-1] if ends else 0
        while done < len(data):
            stop = min(len(data), (done // (self._chunk * _WIDTH) + 1) * self._chunk * _WIDTH)
            path.append(self._add(path, ends, data[done:stop], None))
            ends.append(stop)
            done = stop
        made = Prompt(tuple(node.key for node in path), tuple(end // _WIDTH for end in ends))
        self._enter_reply(path, ends, reply.tobytes(), extend_key(path[-1].key, reply_id))
        self._touch(path)
        return made

    # Inside -----------------------------------------------------------------------------------------------------------

    def _enter_reply(self, path: list[_Node], ends: list[int], data: bytes, key: int) -> None:
        known = self._next(path, ends, data)
        if known is None:
            path.append(self._add(path, ends, data, key))
        elif known.key == key:
            if len(known.data) < len(data):
                self._bytes += len(data) - len(known.data)
                known.data = data
            path.append(known)

    def _walk(self, data: bytes) -> tuple[list[_Node], list[int]]:
        """The nodes that a prompt goes through, and where (in bytes of it) each is left."""
        path: list[_Node] = []
        ends: list[int] = []
        node, offset, done = self._root, 0, 0
        while done < len(data):
            child = node.children.get((offset, data[done : done + _WIDTH]))
            if child is None:
                break
            offset = _common(child.data, data, done)
            done += offset
            path.append(child)
            ends.append(done)
            node = child
        return path, ends

    def _next(self, path: list[_Node], ends: list[int], data: bytes) -> _Node | None:
        """The node that goes on after a walk with the first token of `data`: a child, or what is left of the last node."""
        node, used = path[-1], _used(ends)
        if node.data[used : used + _WIDTH] == data[:_WIDTH]:
            return node
        return node.children.get((used, data[:_WIDTH]))

    def _add(self, path: list[_Node], ends: list[int], data: bytes, key: int | None) -> _Node:
        parent = path[-1] if path else self._root
        offset = _used(ends)
        if key is None:
            key = extend_key(parent.key, xxhash.xxh3_64_intdigest(data, seed=offset) & _MASK)
        node = parent.children[offset, data[:_WIDTH]] = _Node(key, data, parent, offset)
        self._bytes += len(data)
        return node

    def _touch(self, path: Sequence[_Node]) -> None:
        recent = self._recent
        for node in reversed(path):
            recent[node] = None
            recent.move_to_end(node)
        while self._bytes > self._most_bytes and len(recent) > len(path):
            node, _ = recent.popitem(last=False)
            assert node.parent is not None
            assert not node.children
            del node.parent.children[node.offset, node.data[:_WIDTH]]
            self._bytes -= len(node.data)


def chunk_tokens(block_tokens: int, kv_blocks: int) -> int:
    """64 tokens where that is more than a block, and a small part of the memory; else a block."""
    blocks = max(1, _COARSE_TOKENS // block_tokens)
    return block_tokens * (blocks if kv_blocks >= 1000 * blocks else 1)


def _used(ends: list[int]) -> int:
    """Bytes of its last node that a walk went through."""
    return ends[-1] - (ends[-2] if len(ends) > 1 else 0) if ends else 0


def _common(known: bytes, data: bytes, start: int) -> int:
    """Bytes of whole tokens that `known` and data[start:] have in common at their beginning."""
    other = data[start : start + len(known)]
    if known == other:
        return len(known)
    n = min(len(known), len(other)) // _WIDTH
    differ = np.frombuffer(known, np.int32, n) != np.frombuffer(other, np.int32, n)
    first = int(differ.argmax())
    return (first if differ[first] else n) * _WIDTH
