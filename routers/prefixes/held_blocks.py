"""How many leading blocks of each segment each replica is thought to hold. It does not know how one gets to think so."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from workloads.request import Prompt

_SHIFT = 24  # a node is one integer: the replicas' bits, and below them a number of blocks
_MOST = (1 << _SHIFT) - 1
_REMEMBERED_MASKS = 4096


class HeldBlocks:
    """Blocks by prefix and replica; at most `max_blocks` a replica, the least recently touched go first, tails before heads.

    Counts as the engines do: a block belongs to the segment that holds its last token, so segment i of a prompt has
    `ends[i] // block_tokens − ends[i−1] // block_tokens` of them. A key names its whole prefix, so a node stands for one
    segment, not for one block: a look-up and a change cost one dict look-up a segment. Most replicas that hold a segment hold
    all of it, so a node keeps their bits and the number that they hold; who holds fewer stands in a small dict beside it.
    """

    def __init__(self, replica_ids: Sequence[int], block_tokens: int, max_blocks: int) -> None:
        self.block_tokens = block_tokens
        self.max_blocks = max_blocks
        self._nodes: dict[int, int] = {}
        self._fewer: dict[int, dict[int, int]] = {}  # key → replica → blocks, fewer than the node says
        self._touched: dict[int, OrderedDict[int, float]] = {}  # replica → key → when, least recent first
        self._blocks: dict[int, int] = {}
        self._bits: dict[int, int] = {}
        self._ids: dict[int, list[int]] = {}  # bits → replicas, remembered
        self._by_eight: list[list[list[int]]] = []
        self.set_replicas(replica_ids)

    def __len__(self) -> int:
        """Entries: (replica, segment) pairs."""
        return sum(map(len, self._touched.values()))

    def blocks_of(self, replica_id: int) -> int:
        """Blocks of all prefixes held by a replica, a shared one counted once."""
        return self._blocks[replica_id]

    def set_replicas(self, replica_ids: Sequence[int]) -> None:
        """These are in the pool from now on; whoever left is forgotten."""
        for gone in self._bits.keys() - set(replica_ids):
            self.drop(gone)
            del self._bits[gone], self._touched[gone], self._blocks[gone]
        taken = set(self._bits.values())
        free = (bit for bit in (1 << slot for slot in range(_SHIFT, _SHIFT + len(replica_ids))) if bit not in taken)
        for new in replica_ids:
            if new not in self._bits:
                self._bits[new] = next(free)
                self._touched[new] = OrderedDict()
                self._blocks[new] = 0
        self._name_bits()

    def drop(self, replica_id: int) -> None:
        """Forget all that a replica holds."""
        for key in self._touched[replica_id]:
            self._set(replica_id, key, 0)
        self._touched[replica_id].clear()

    def matched(self, prompt: Prompt) -> dict[int, int]:
        """Replica → leading tokens of the prompt that it holds, in whole blocks; those that hold none are left out."""
        nodes, fewer, size = self._nodes, self._fewer, self.block_tokens
        found: dict[int, int] = {}
        live, first = -1, 0  # bits of those that hold all of the `first` blocks before this segment
        for key, end in zip(prompt.keys, prompt.ends):  # noqa: B905 (as long as each other; checking costs)
            last = end // size
            if last == first:
                continue
            node = nodes.get(key)
            if node is None:
                break
            holders = live & (node >> _SHIFT)
            if last - first > (node & _MOST) or key in fewer:
                if live > 0:
                    found.update(dict.fromkeys(self._replicas(live), first * size))
                holders = self._found_apart(found, key, live, first, last)
            elif holders != live and live > 0:
                found.update(dict.fromkeys(self._replicas(live), first * size))
            live = holders
            if not live:
                return found
            first = last
        if live > 0:
            found.update(dict.fromkeys(self._replicas(live), first * size))
        return found

    def touch(self, replica_id: int, keys_and_blocks: Iterable[tuple[int, int]], now_s: float) -> None:
        """It holds at least so many blocks of each, the last one named the most recently used; then what is too much goes."""
        nodes, touched, bit = self._nodes, self._touched[replica_id], self._bits[replica_id]
        for key, blocks in keys_and_blocks:
            node = nodes.get(key, 0)
            if not (node & bit and node & _MOST >= blocks) and self.held(replica_id, key) < blocks:
                self._set(replica_id, key, blocks)
            touched[key] = now_s
            touched.move_to_end(key)
        self._evict_surplus(replica_id)

    def hold(self, replica_id: int, key: int, blocks: int, now_s: float) -> None:
        """It holds exactly so many blocks of a segment from now on."""
        touched = self._touched[replica_id]
        self._set(replica_id, key, blocks)
        if blocks:
            touched[key] = now_s
            touched.move_to_end(key)
            self._evict_surplus(replica_id)
        else:
            touched.pop(key, None)

    def held(self, replica_id: int, key: int) -> int:
        """Blocks of a segment that a replica holds."""
        node = self._nodes.get(key, 0)
        if node & self._bits[replica_id]:
            return node & _MOST
        return self._fewer[key].get(replica_id, 0) if key in self._fewer else 0

    def oldest(self, replica_id: int) -> tuple[int, float] | None:
        """(key, when it was touched) of what would go first."""
        return next(iter(self._touched[replica_id].items()), None)

    def forget_until(self, replica_id: int, until_s: float) -> None:
        """Forget what was last touched at `until_s` or before."""
        touched = self._touched[replica_id]
        while touched:
            key, when_s = next(iter(touched.items()))
            if when_s > until_s:
                break
            del touched[key]
            self._set(replica_id, key, 0)

    # Inside

    def _found_apart(self, found: dict[int, int], key: int, live: int, first: int, last: int) -> int:
        """Writes down those of `live` that hold a part of the segment only; returns the bits of those that hold all of it."""
        node, bits, size, span = self._nodes[key], self._bits, self.block_tokens, last - first
        most, holders = node & _MOST, live & (node >> _SHIFT)
        if span > most:
            found.update(dict.fromkeys(self._replicas(holders), (first + most) * size))
            holders = 0
        for replica_id, blocks in self._fewer.get(key, {}).items():
            bit = bits[replica_id] >> _SHIFT
            if live & bit and blocks >= span:
                holders |= bit
            elif live & bit:
                found[replica_id] = (first + blocks) * size
        return holders

    def _set(self, replica_id: int, key: int, blocks: int) -> None:
        had = self.held(replica_id, key)
        if had == blocks:
            return
        self._blocks[replica_id] += blocks - had
        node, bit = self._nodes.get(key, 0), self._bits[replica_id]
        most = node & _MOST
        if node & bit:
            node ^= bit
        elif had:
            self._leave_fewer(key, replica_id)
        if blocks > most:
            if node > most:
                self._fewer.setdefault(key, {}).update(dict.fromkeys(self._replicas(node >> _SHIFT), most))
            node = bit | blocks
        elif blocks == most:
            node |= bit
        elif blocks:
            self._fewer.setdefault(key, {})[replica_id] = blocks
        if node <= _MOST:
            node = self._next_most(key)
        if node:
            self._nodes[key] = node
        else:
            del self._nodes[key]

    def _next_most(self, key: int) -> int:
        """The node when the last of those that held most is gone: who holds most now? 0: nobody holds any."""
        rest = self._fewer.get(key)
        if not rest:
            return 0
        most = max(rest.values())
        node = most
        for replica_id in [i for i, blocks in rest.items() if blocks == most]:
            node |= self._bits[replica_id]
            self._leave_fewer(key, replica_id)
        return node

    def _leave_fewer(self, key: int, replica_id: int) -> None:
        rest = self._fewer[key]
        del rest[replica_id]
        if not rest:
            del self._fewer[key]

    def _evict_surplus(self, replica_id: int) -> None:
        touched = self._touched[replica_id]
        while (surplus := self._blocks[replica_id] - self.max_blocks) > 0:
            key = next(iter(touched))
            left = self.held(replica_id, key) - surplus
            if left <= 0:
                del touched[key]
            self._set(replica_id, key, max(0, left))

    def _replicas(self, bits: int) -> Sequence[int]:
        ids = self._ids.get(bits)
        if ids is None:
            if len(self._ids) >= _REMEMBERED_MASKS:
                self._ids.clear()
            ids = self._ids[bits] = []
            for eight, table in zip(bits.to_bytes(len(self._by_eight), "little"), self._by_eight, strict=True):
                if eight:
                    ids += table[eight]
        return ids

    def _name_bits(self) -> None:
        """Tables from eight bits to the replicas that they stand for."""
        self._ids.clear()
        owner = {bit >> _SHIFT: replica_id for replica_id, bit in self._bits.items()}
        eights = (max(owner, default=0).bit_length() + 7) // 8
        self._by_eight = []
        for place in range(0, 8 * eights, 8):
            ids = [owner.get(1 << (place + n)) for n in range(8)]
            self._by_eight.append([[i for n, i in enumerate(ids) if eight >> n & 1 and i is not None] for eight in range(256)])
