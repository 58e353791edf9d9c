"""What both drivers do alike: they put client and router together, hand attempts one way and answers the other, and keep the
books. It knows no clock and no transport: a driver adds `send`, `abort`, `probe` and the passing of time."""

from replay.cell import Cell
from replay.client import Client, ClientAttempt
from replay.ledger import Ledger
from replay.recorder import Recorder
from replicas.profile import EngineProfile
from replicas.view import ReplicaView
from routers.factory import build_router
from routers.policy import Truth
from routers.tries import RequestEnd, Try
from workloads.workload import Workload


class Driver:
    """One run of one cell: a client, a router, and the ledger between them."""

    def __init__(self, cell: Cell, workload: Workload, recorder: Recorder, profile: EngineProfile | None = None) -> None:
        self._cell, self._workload, self._recorder = cell, workload, recorder
        self._end_s = workload.horizon_s + cell.drain_s
        self._ledger = Ledger(recorder, cell.max_tokens)
        self.client = Client(workload, cell.client, cell.session, cell.seed, self)
        self.router = build_router(
            cell.router.name,
            cell.router.parameters,
            [(g.name, g.parameters) for g in cell.guards],
            [ReplicaView(i, role=role) for i, role in enumerate(cell.pool.all_roles())],
            self,
            cell.seed,
            truth=self._truth(),
            on_decision=recorder.decision if cell.record_decisions else None,
            profile=profile,
        )

    # What the client asks for

    def start(self, attempt: ClientAttempt, now_s: float) -> None:
        self.router.on_request(self._ledger.start(attempt), now_s)

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None:
        self._ledger.give_up(attempt, cancel, now_s)
        if cancel:
            self.router.on_cancel(attempt.rid, now_s)

    # What the router asks for

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        self._ledger.answer(rid, end, now_s)
        self.client.on_answer(rid, end.ok, now_s)

    def send(self, attempt: Try, now_s: float) -> None:
        raise NotImplementedError

    def abort(self, try_id: int, now_s: float) -> None:
        raise NotImplementedError

    def probe(self, replica_id: int, now_s: float) -> None:
        raise NotImplementedError

    # Inside

    def _truth(self) -> Truth | None:
        """The pool's true state, where a driver can know it."""
        return None

    def _close_books(self) -> None:
        """The run is over: what is still open is censored, what was never sent is said."""
        self._ledger.close(*self.client.close())
        self._recorder.abandoned(self.client.abandoned, self._workload.table.prompt_tokens)
