"""Where each replica stands among those that a policy is shown. It does not know who is eligible, or why."""

from collections.abc import Mapping, Sequence

from replicas.view import ReplicaView


class PoolOrder:
    """The places of the whole pool, made once a change: most choices are among all of it."""

    def __init__(self, replica_ids: Sequence[int]) -> None:
        self._whole = {replica_id: place for place, replica_id in enumerate(replica_ids)}

    def places(self, replicas: Sequence[ReplicaView]) -> Mapping[int, int]:
        """Replica → its place in `replicas`, which are some of the pool, in its order."""
        if len(replicas) == len(self._whole):
            return self._whole
        return {view.replica_id: place for place, view in enumerate(replicas)}
