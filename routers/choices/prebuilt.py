"""Decisions made once a replica and used again: a frozen one costs more to make than most rules to decide. It decides nothing."""

from collections.abc import Collection

from routers.policy import Decision


class Prebuilt(dict[int, Decision]):
    """Replica → Decision with one reason, made when first asked for."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    def __missing__(self, replica_id: int) -> Decision:
        decision = self[replica_id] = Decision(replica_id, self._reason)
        return decision

    def keep(self, replica_ids: Collection[int]) -> None:
        """Forgets all others."""
        for replica_id in [i for i in self if i not in replica_ids]:
            del self[replica_id]
