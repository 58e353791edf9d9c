"""Which replica each session was last sent to, until it has been silent too long. It does not choose."""

from collections import OrderedDict
from collections.abc import Collection, Iterator

SWEEP_S = 60.0  # vllm-router looks for silent sessions no more often than this


class SessionTable:
    """At most `most` sessions, the longest silent ones go first; a silence of `ttl_s` ends one at the next sweep."""

    def __init__(self, ttl_s: float, most: int) -> None:
        self._ttl_s, self._most = ttl_s, most
        self._sessions: OrderedDict[int, tuple[int, float, int]] = OrderedDict()  # session → (replica, last used, tokens)
        self._swept_s = 0.0
        self.counts: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def replica_of(self, session: int) -> int | None:
        entry = self._sessions.get(session)
        return None if entry is None else entry[0]

    def tokens_of(self, session: int) -> int:
        """What it was put with (see `put`); 0 for an unknown session."""
        entry = self._sessions.get(session)
        return 0 if entry is None else entry[2]

    def put(self, session: int, replica_id: int, now_s: float, tokens: int = 0) -> None:
        """The session was sent there; `tokens` is a note of the caller's."""
        old = self._sessions.pop(session, None)
        if old is not None:
            self._uncount(old[0])
        self._sessions[session] = replica_id, now_s, tokens
        self.counts[replica_id] = self.counts.get(replica_id, 0) + 1
        if len(self._sessions) > self._most:
            self._uncount(self._sessions.popitem(last=False)[1][0])

    def sweep(self, now_s: float) -> None:
        """Ends silent sessions, if the last sweep was `SWEEP_S` ago."""
        if now_s - self._swept_s < SWEEP_S:
            return
        self._swept_s = now_s
        for session in list(self._silent(now_s - self._ttl_s)):
            self._uncount(self._sessions.pop(session)[0])

    def keep(self, replica_ids: Collection[int]) -> None:
        """Ends the sessions of all other replicas."""
        for session in [s for s, entry in self._sessions.items() if entry[0] not in replica_ids]:
            self._uncount(self._sessions.pop(session)[0])

    def _silent(self, until_s: float) -> Iterator[int]:
        for session, (_, used_s, _) in self._sessions.items():
            if used_s > until_s:
                return
            yield session

    def _uncount(self, replica_id: int) -> None:
        self.counts[replica_id] -= 1
        if not self.counts[replica_id]:
            del self.counts[replica_id]
