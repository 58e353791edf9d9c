"""What each replica was sent, as a bounded prefix tree over prompts: a guess at its cache. It does not know the real one."""

from collections import OrderedDict
from collections.abc import Sequence

from workloads.request import Prompt


class _Node:
    """One prefix. `owners`: replica → how many longer prefixes of that replica hang below; `last` owner to be sent it."""

    __slots__ = ("last", "owners", "parent", "tokens")

    def __init__(self, parent: int | None, tokens: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.owners: dict[int, int] = {}
        self.last = -1


class PrefixIndex:
    """Prefixes by replica; at most `capacity_tokens` a replica, the least recently sent leaf goes first.

    A prompt's `keys` name whole prefixes, so one dict is the tree: a walk costs one look-up a segment. An inner prefix is as
    recent as its latest continuation.
    """

    def __init__(self, replica_ids: Sequence[int], capacity_tokens: int) -> None:
        self._nodes: dict[int, _Node] = {}
        self._leaves: dict[int, OrderedDict[int, None]] = {i: OrderedDict() for i in replica_ids}  # oldest first
        self._tokens = dict.fromkeys(replica_ids, 0)
        self._capacity = capacity_tokens

    def __len__(self) -> int:
        return len(self._nodes)

    def tokens_of(self, replica_id: int) -> int:
        """Tokens of all prefixes kept for a replica, a shared one counted once."""
        return self._tokens[replica_id]

    def longest_match(self, prompt: Prompt) -> tuple[int, int | None]:
        """(tokens of the longest known prefix, the replica that was sent it last); (0, None) where nothing is known."""
        nodes, depth, deepest = self._nodes, 0, None
        for key in prompt.keys:
            node = nodes.get(key)
            if node is None:
                break
            deepest = node
            depth += 1
        if deepest is None:
            return 0, None
        owner = deepest.last if deepest.last in deepest.owners else next(iter(deepest.owners))
        return prompt.ends[depth - 1], owner

    def insert(self, prompt: Prompt, replica_id: int) -> None:
        """Remembers that the replica was sent this prompt, and evicts what no longer fits."""
        if not prompt.keys:
            return
        nodes, leaves = self._nodes, self._leaves[replica_id]
        parent_key: int | None = None
        parent: _Node | None = None
        start = 0
        for key, end in zip(prompt.keys, prompt.ends, strict=True):
            node = nodes.get(key)
            if node is None:
                node = nodes[key] = _Node(parent_key, end - start)
            if replica_id not in node.owners:
                node.owners[replica_id] = 0
                self._tokens[replica_id] += node.tokens
                if parent is not None and parent_key is not None:
                    parent.owners[replica_id] += 1
                    leaves.pop(parent_key, None)
            node.last = replica_id
            parent_key, parent, start = key, node, end
        if parent is not None and parent_key is not None and parent.owners[replica_id] == 0:
            leaves[parent_key] = None
            leaves.move_to_end(parent_key)
        while self._tokens[replica_id] > self._capacity:
            self._evict_oldest(replica_id)

    def set_replicas(self, replica_ids: Sequence[int]) -> None:
        """These are in the pool from now on; what was sent to others is forgotten. Costs a walk over all of it if one left."""
        gone = self._tokens.keys() - set(replica_ids)
        if gone:
            for key, node in list(self._nodes.items()):
                for replica_id in gone & node.owners.keys():
                    del node.owners[replica_id]
                if not node.owners:
                    del self._nodes[key]
        self._leaves = {i: self._leaves.get(i, OrderedDict()) for i in replica_ids}
        self._tokens = {i: self._tokens.get(i, 0) for i in replica_ids}

    def _evict_oldest(self, replica_id: int) -> None:
        leaves = self._leaves[replica_id]
        key, _ = leaves.popitem(last=False)
        node = self._nodes[key]
        del node.owners[replica_id]
        self._tokens[replica_id] -= node.tokens
        if node.parent is not None:
            parent = self._nodes[node.parent]
            parent.owners[replica_id] -= 1
            if parent.owners[replica_id] == 0:
                leaves[node.parent] = None
                leaves.move_to_end(node.parent, last=False)
        if not node.owners:
            del self._nodes[key]
