"""One half of a pair: the replicas of one role, and a policy that chooses among them. It does not know the other half."""

from collections.abc import Sequence
from dataclasses import replace

from replicas.view import Observation, ReplicaView, Role
from routers.choices.prebuilt import Prebuilt
from routers.policy import Decision, KvEvent, Policy, PolicyContext, RoutedRequest, TryEnd
from routers.tries import EXPECTED_OUTPUT_TOKENS
from workloads.draws import purpose_id, uniform


class PdStage:
    """Learns its replicas as it meets them, and tells the policy of each change.

    A prefill is one token long. A decode replica is shown to its policy with the requests that were *given* to it in flight,
    those still in prefill included: the router's own count would not show them yet, and a burst would herd on one replica.
    """

    def __init__(self, role: Role, name: str, parameters: dict[str, object], context: PolicyContext, owner: str) -> None:
        from routers.policies import build_policy  # the table of names imports this module

        seed = int(uniform(context.seed, purpose_id(f"policy-pd-{role}")) * 2**53)  # else both halves would draw the same numbers
        ids = context.replica_ids
        try:
            self.policy: Policy = build_policy(name, PolicyContext(seed, ids, parameters, context.truth, context.profile))
        except ValueError as error:
            raise ValueError(f"{owner}: {role}_policy: {error}") from None
        if self.policy.knows_roles or self.policy.own_guard() is not None:
            raise ValueError(f"{owner}: {role}_policy = {name!r} is not allowed; it must choose one replica and hold no queue")
        self._role = role
        self._pool = frozenset(ids)
        self._shown: dict[int, ReplicaView] = {}
        self._given: dict[int, int] = {}  # rid → the replica that shows it in flight
        self._decisions = Prebuilt(role)

    def shown(self, views: Sequence[ReplicaView], now_s: float) -> list[ReplicaView]:
        """What the policy sees of replicas of this role."""
        shown = self._shown
        new = [view for view in views if view.replica_id not in shown]
        if new:
            self._meet(new, now_s)
        return [shown[view.replica_id] for view in views]

    def choose(self, request: RoutedRequest, shown: Sequence[ReplicaView], now_s: float) -> Decision:
        return self.policy.choose(request, shown, now_s)

    def sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        if self._role == "decode" and replica_id in self._shown:
            self._given[request.rid] = replica_id
            self._count(request, replica_id, 1)
        asked = replace(request, max_tokens=1) if self._role == "prefill" else request
        self.policy.on_sent(asked, self._decisions[replica_id], now_s)

    def first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self.policy.on_first_token(request, self._decisions[replica_id], now_s)

    def ended(self, request: RoutedRequest, replica_id: int, end: TryEnd, now_s: float) -> None:
        given_to = self._given.pop(request.rid, None)
        if given_to is not None:
            self._count(request, given_to, -1)
        self.policy.on_end(request, self._decisions[replica_id], end, now_s)

    def observed(self, view: ReplicaView, now_s: float) -> None:
        if view.replica_id not in self._pool:
            return  # it has left, and ends what is under way there
        shown = self.shown([view], now_s)[0]
        shown.waiting, shown.running, shown.kv_used, shown.observed_s = view.waiting, view.running, view.kv_used, view.observed_s
        self.policy.on_observation(shown, now_s)

    def probed(self, replica_id: int, seen: Observation, now_s: float) -> None:
        if replica_id in self._shown:
            self.policy.on_probe(replica_id, seen, now_s)

    def heard(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        if replica_id in self._shown:
            self.policy.on_kv_event(replica_id, event, now_s)

    def keep(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        """The pool, of both roles, is these from now on."""
        self._pool = frozenset(replica_ids)
        self._shown = {i: view for i, view in self._shown.items() if i in self._pool}
        self._given = {rid: i for rid, i in self._given.items() if i in self._pool}
        self._tell(now_s)

    def wake(self, now_s: float) -> tuple[int, ...]:
        return self.policy.on_wake(now_s) if self.policy.next_wake_s() <= now_s else ()

    def _meet(self, views: Sequence[ReplicaView], now_s: float) -> None:
        for view in views:
            shown = view if self._role == "prefill" else replace(view, in_flight=0, in_flight_tokens=0)
            self._shown[view.replica_id] = shown
        self._tell(now_s)

    def _tell(self, now_s: float) -> None:
        self._decisions.keep(self._shown)
        if self._shown:
            self.policy.on_pool(tuple(sorted(self._shown)), now_s)

    def _count(self, request: RoutedRequest, replica_id: int, change: int) -> None:
        view = self._shown[replica_id]
        view.in_flight += change
        view.in_flight_tokens += change * (request.prompt.tokens + min(request.max_tokens, EXPECTED_OUTPUT_TOKENS))
