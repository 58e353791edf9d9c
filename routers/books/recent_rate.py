"""How much came lately, a replica: an average that forgets exponentially. It does not know what came."""

from collections.abc import Sequence
from math import exp

from routers.books.tally import Tally


class RecentRate:
    """Amount a second, each weighed by e^(−age / `memory_s`); a steady stream comes out as its rate after a few `memory_s`."""

    def __init__(self, replica_ids: Sequence[int], memory_s: float) -> None:
        self._memory_s = memory_s
        self._rate, self._at_s = Tally(replica_ids), Tally(replica_ids)

    def came(self, replica_id: int, amount: float, now_s: float) -> None:
        if replica_id in self._rate.place:
            self._rate.put(replica_id, self.per_s(replica_id, now_s) + amount / self._memory_s)
            self._at_s.put(replica_id, now_s)

    def per_s(self, replica_id: int, now_s: float) -> float:
        return self._rate[replica_id] * exp((self._at_s[replica_id] - now_s) / self._memory_s)

    def keep(self, replica_ids: Sequence[int]) -> None:
        self._rate.keep(replica_ids)
        self._at_s.keep(replica_ids)
