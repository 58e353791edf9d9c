"""A number a replica, kept by a policy: added to, compared, dropped when the replica leaves. It does not know what it counts."""

from collections.abc import Sequence

from replicas.view import ReplicaView


class Tally:
    """`values` is in ascending id, as `ids`; what is added for a replica that is not in the pool is dropped."""

    __slots__ = ("ids", "place", "values")

    def __init__(self, replica_ids: Sequence[int], start: float = 0) -> None:
        self.ids: tuple[int, ...] = ()
        self.values: list[float] = []
        self.keep(replica_ids, start)

    def __getitem__(self, replica_id: int) -> float:
        return self.values[self.place[replica_id]]

    def add(self, replica_id: int, amount: float) -> None:
        place = self.place.get(replica_id)
        if place is not None:
            self.values[place] += amount

    def put(self, replica_id: int, amount: float) -> None:
        place = self.place.get(replica_id)
        if place is not None:
            self.values[place] = amount

    def of(self, replicas: Sequence[ReplicaView]) -> list[float]:
        """The numbers of these replicas of the pool, in their order; not to be changed."""
        values = self.values
        if len(replicas) == len(values):
            return values
        place = self.place
        return [values[place[v.replica_id]] for v in replicas]

    def least(self, replicas: Sequence[ReplicaView]) -> int:
        """The replica with the least number, the first of them on a tie."""
        values = self.of(replicas)
        return replicas[values.index(min(values))].replica_id

    def keep(self, replica_ids: Sequence[int], start: float = 0) -> None:
        """The pool is these from now on; who is new begins at `start`."""
        old = dict(zip(self.ids, self.values, strict=True))
        self.ids = tuple(replica_ids)
        self.values = [old.get(i, start) for i in self.ids]
        self.place = {replica_id: place for place, replica_id in enumerate(self.ids)}
