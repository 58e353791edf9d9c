"""Who holds a place where: tries under way at each replica, and requests let go but not sent yet. It does not know what for."""


class Places:
    """Counts by weight (1 a request, or its tokens). A request may have several tries at once, as a pair of replicas has.

    `sent` and `granted` are the sums over all, `full` the replicas that hold `limit` or more. Ending what is not there changes
    nothing: an end may be told twice.
    """

    __slots__ = ("_at", "_granted", "_held", "full", "granted", "limit", "sent")

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.full: set[int] = set()
        self._at: dict[int, int] = {}
        self._held: dict[int, list[tuple[int, int]]] = {}  # rid → (replica, weight) of its tries
        self._granted: dict[int, int] = {}
        self.sent = self.granted = 0

    def __bool__(self) -> bool:
        return bool(self._held or self._granted or self._at)

    def at(self, replica_id: int) -> int:
        """The weight under way at a replica."""
        return self._at.get(replica_id, 0)

    def grant(self, rid: int, weight: int = 1) -> None:
        """The request was let go; it will be sent, or leave."""
        self.granted += weight - self._granted.get(rid, 0)
        self._granted[rid] = weight

    def send(self, rid: int, replica_id: int, weight: int = 1) -> None:
        self.granted -= self._granted.pop(rid, 0)
        self._held.setdefault(rid, []).append((replica_id, weight))
        at = self._at[replica_id] = self._at.get(replica_id, 0) + weight
        self.sent += weight
        if at >= self.limit:
            self.full.add(replica_id)

    def end(self, rid: int, replica_id: int) -> None:
        """One try of the request holds its place no more: that at this replica, else (a pair's other half failed) its latest."""
        tries = self._held.get(rid)
        if not tries:
            return
        index = next((i for i, (at, _) in enumerate(tries) if at == replica_id), len(tries) - 1)
        self._free(*tries.pop(index))
        if not tries:
            del self._held[rid]

    def leave(self, rid: int) -> None:
        """The request is gone, with all that it held."""
        self.granted -= self._granted.pop(rid, 0)
        for replica_id, weight in self._held.pop(rid, ()):
            self._free(replica_id, weight)

    def _free(self, replica_id: int, weight: int) -> None:
        self.sent -= weight
        at = self._at[replica_id] = self._at[replica_id] - weight
        if at < self.limit:
            self.full.discard(replica_id)
        if not at:
            del self._at[replica_id]
