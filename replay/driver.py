"""What both drivers do alike: they put client and router together, hand attempts one way and answers the other, and keep the
books. It knows no clock and no transport: a driver adds `send`, `abort`, `probe` and the passing of time."""

from collections.abc import Sequence
from typing import cast

from replay.cell import Cell
from replay.client import Client, ClientAttempt
from replay.ledger import Ledger
from replay.recorder import Recorder
from replicas.profile import EngineProfile
from replicas.view import ReplicaView
from routers.factory import build_router
from routers.fleet import RouterFleet
from routers.input_log import Input, Recording
from routers.policy import Truth
from routers.router import Router
from routers.tries import Effects, RequestEnd, Try
from workloads.workload import Workload


class Driver:
    """One run of one cell: a client, a router, and the ledger between them."""

    def __init__(
        self,
        cell: Cell,
        workload: Workload,
        recorder: Recorder,
        profile: EngineProfile | None = None,
        record_inputs: bool = False,
    ) -> None:
        self._cell, self._workload, self._recorder = cell, workload, recorder
        self._end_s = workload.horizon_s + cell.drain_s
        self._ledger = Ledger(recorder, cell.max_tokens)
        self.client = Client(workload, cell.client, cell.session, cell.seed, self)
        self.inputs: list[list[Input]] = []
        """With `record_inputs`: what each router was told, in order."""
        self.router, self.routers = self._build_routers(profile, record_inputs)

    def _build_routers(self, profile: EngineProfile | None, record_inputs: bool) -> tuple[Router | RouterFleet, Sequence[Router]]:
        """What the client speaks to, and the routers one by one, as they poll for themselves."""
        cell, truth = self._cell, self._truth()

        def build(effects: Effects, number: int, of: int) -> Router:
            router = build_router(
                cell.router.name,
                cell.router.parameters,
                [(g.name, g.parameters) for g in cell.guards],
                [ReplicaView(i, role=role) for i, role in enumerate(cell.pool.all_roles())],
                effects,
                cell.seed,
                truth=truth,
                on_decision=self._recorder.decision if cell.record_decisions else None,
                profile=profile,
                number=number,
                of=of,
            )
            if not record_inputs:
                return router
            self.inputs.append([])
            return cast(Router, Recording(router, self.inputs[-1]))

        if cell.observation.routers > 1:
            fleet = RouterFleet(build, cell.observation.routers, self, self.probe_by, cell.seed)
            return fleet, fleet.members
        router = build(self, 0, 1)
        return router, (router,)

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
        self.probe_by(0, replica_id, now_s)

    def probe_by(self, router: int, replica_id: int, now_s: float) -> None:
        """Router number `router` asks a replica how it is."""
        raise NotImplementedError

    # Inside

    def _truth(self) -> Truth | None:
        """The pool's true state, where a driver can know it."""
        return None

    def _close_books(self) -> None:
        """The run is over: what is still open is censored, what was never sent is said."""
        self._ledger.close(*self.client.close())
        self._recorder.abandoned(self.client.abandoned, self._workload.table.prompt_tokens)
