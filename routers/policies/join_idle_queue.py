"""`join_idle_queue`: the next of the replicas that are idle, else any. It does not compare those that are busy."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.tally import Tally
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd


@dataclass(frozen=True, slots=True)
class JoinIdleQueueSettings:
    """A replica is idle while fewer than `idle_below` run and none waits (1: truly idle, as in the paper; engines batch, so
    8 to 64 is more to the point)."""

    idle_below: int = 1

    def __post_init__(self) -> None:
        within("idle_below", self.idle_below, 1)


class JoinIdleQueue(Policy):
    """The replica that has been in the list of idle ones longest, else a random one.

    JIQ: Lu, Xie, Kliot, Geller, Larus, Greenberg, "Join-Idle-Queue", 2011. There the replicas report themselves; here the list
    is fed by the router's own tries (an end that leaves fewer than `idle_below` in flight joins, a send goes to the back or
    leaves) and by observations: a busy one leaves, an idle one joins unless its own tries say otherwise; the latest word counts.
    Weakness: at high load nobody is idle and it is `random`; an old observation puts a busy replica on the list.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._below = settings_of(JoinIdleQueueSettings, context.parameters, "join_idle_queue").idle_below
        self._draw = RequestDraw(context.seed, "policy-join-idle-queue")
        self._in_flight = Tally(context.replica_ids)
        self._at: dict[int, int] = {}  # rid → its replica
        self._idle: OrderedDict[int, None] = OrderedDict.fromkeys(context.replica_ids)
        self._first, self._drawn = Prebuilt("longest idle"), Prebuilt("none idle: drawn")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        if self._idle:
            if len(replicas) == len(self._in_flight.ids):
                return self._first[next(iter(self._idle))]
            eligible = {v.replica_id for v in replicas}
            for replica_id in self._idle:
                if replica_id in eligible:
                    return self._first[replica_id]
        return self._drawn[replicas[int(self._draw(request) * len(replicas))].replica_id]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        replica_id = decision.replica_id
        self._at[request.rid] = replica_id
        self._in_flight.add(replica_id, 1)
        if self._in_flight[replica_id] >= self._below:
            self._idle.pop(replica_id, None)
        elif replica_id in self._idle:
            self._idle.move_to_end(replica_id)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        replica_id = self._at.pop(request.rid, None)
        if replica_id is not None:
            self._in_flight.add(replica_id, -1)
            self._join(replica_id)

    def on_observation(self, replica: ReplicaView, now_s: float) -> None:
        if replica.waiting or replica.running >= self._below:
            self._idle.pop(replica.replica_id, None)
        else:
            self._join(replica.replica_id)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        new = [i for i in replica_ids if i not in self._in_flight.place]
        self._in_flight.keep(replica_ids)
        self._at = {rid: i for rid, i in self._at.items() if i in self._in_flight.place}
        self._idle = OrderedDict.fromkeys([i for i in self._idle if i in self._in_flight.place] + new)
        self._first.keep(replica_ids)
        self._drawn.keep(replica_ids)

    def _join(self, replica_id: int) -> None:
        if replica_id in self._in_flight.place and self._in_flight[replica_id] < self._below:
            self._idle.setdefault(replica_id)
