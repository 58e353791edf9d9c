"""`pd_pair`: a prefill replica and a decode replica for each request, each by a policy of its own. It knows nothing of KV on the
way between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from replicas.view import Observation, ReplicaView
from routers.choices.pd_stage import PdStage
from routers.parameters import settings_of
from routers.policy import Decision, KvEvent, NoReplica, Policy, PolicyContext, RoutedRequest, TryEnd

_MAPPINGS = ("prefill_parameters", "decode_parameters")


@dataclass(frozen=True, slots=True)
class PdPairSettings:
    """The two policies by name, with their parameters. Least outstanding on both sides is ours; SMG takes cache_aware and
    round_robin or whatever it is told."""

    prefill_policy: str = "least_outstanding"
    decode_policy: str = "least_outstanding"
    prefill_parameters: dict[str, object] = field(default_factory=dict)
    decode_parameters: dict[str, object] = field(default_factory=dict)


Settings = TypeVar("Settings", bound=PdPairSettings)


class PdPair(Policy):
    """Two stages (Splitwise, DistServe; SMG's `--prefill-policy` and `--decode-policy`): a prefill replica among the eligible
    ones of that role, a decode replica among the others. Raises NoReplica where a role is missing.

    To its policy, a prefill ends with the first token that the decode replica relays. Weakness: the halves are chosen
    independently, so a slow link between two replicas or a full decode replica does not count in the choice of the other half.
    """

    knows_roles = True

    def __init__(self, context: PolicyContext) -> None:
        self._build(pd_settings(PdPairSettings, context.parameters, "pd_pair"), context, "pd_pair")

    def _build(self, settings: PdPairSettings, context: PolicyContext, owner: str) -> None:
        self._prefill = PdStage("prefill", settings.prefill_policy, settings.prefill_parameters, context, owner)
        self._decode = PdStage("decode", settings.decode_policy, settings.decode_parameters, context, owner)
        self._stages = self._prefill, self._decode
        self.wants_kv_events = any(stage.policy.wants_kv_events for stage in self._stages)
        self._at: dict[int, tuple[int | None, int]] = {}  # rid → (where its prefill is under way, decode replica)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        prefill, decode = self.by_role(replicas, now_s)
        if not prefill or not decode:
            raise NoReplica
        return self.pair(request, prefill, self._decode.choose(request, decode, now_s), now_s)

    def by_role(self, replicas: Sequence[ReplicaView], now_s: float) -> tuple[list[ReplicaView], list[ReplicaView]]:
        """The prefill and the decode replicas among these, as their policies see them."""
        return (
            self._prefill.shown([v for v in replicas if v.role == "prefill"], now_s),
            self._decode.shown([v for v in replicas if v.role == "decode"], now_s),
        )

    def pair(self, request: RoutedRequest, prefill: Sequence[ReplicaView], decode: Decision, now_s: float) -> Decision:
        """The decode replica chosen, and a prefill replica to go with it."""
        first = self._prefill.choose(request, prefill, now_s)
        return Decision(
            decode.replica_id, f"{first.reason} -> {decode.reason}", first.replica_id, first.probes + decode.probes, decode.scores
        )

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._at[request.rid] = decision.prefill_id, decision.replica_id
        if decision.prefill_id is not None:
            self._prefill.sent(request, decision.prefill_id, now_s)
        self._decode.sent(request, decision.replica_id, now_s)

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        prefill_id, decode_id = self._at[request.rid]
        if prefill_id is not None:
            self._at[request.rid] = None, decode_id
            self._prefill.first_token(request, prefill_id, now_s)
            self._prefill.ended(request, prefill_id, TryEnd(True, 200, prefill_id, request.router_try, True, 1), now_s)
        self._decode.first_token(request, decode_id, now_s)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        prefill_id, decode_id = self._at.pop(request.rid)
        if prefill_id is not None:  # it failed there, or hung up there or before decode's first token
            here = replace(end, replica_id=prefill_id, output_tokens=0, ok=end.ok or end.replica_id == decode_id)
            self._prefill.ended(request, prefill_id, here, now_s)
        self._decode.ended(request, decode_id, replace(end, replica_id=decode_id), now_s)

    def on_observation(self, replica: ReplicaView, now_s: float) -> None:
        if replica.role != "both":
            (self._prefill if replica.role == "prefill" else self._decode).observed(replica, now_s)

    def on_probe(self, replica_id: int, seen: Observation, now_s: float) -> None:
        for stage in self._stages:
            stage.probed(replica_id, seen, now_s)

    def on_kv_event(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        for stage in self._stages:
            stage.heard(replica_id, event, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        for stage in self._stages:
            stage.keep(replica_ids, now_s)

    def next_wake_s(self) -> float:
        return min(self._prefill.policy.next_wake_s(), self._decode.policy.next_wake_s())

    def on_wake(self, now_s: float) -> tuple[int, ...]:
        return self._prefill.wake(now_s) + self._decode.wake(now_s)


def pd_settings(kind: type[Settings], given: dict[str, object], owner: str) -> Settings:
    """As `settings_of`, with two parameters that are mappings."""
    mappings = {key: given[key] for key in _MAPPINGS if key in given}
    for key, value in mappings.items():
        if not isinstance(value, dict):
            raise ValueError(f"{owner}: {key} = {value!r} is not allowed; it must be a mapping")
    settings = settings_of(kind, {key: value for key, value in given.items() if key not in _MAPPINGS}, owner)
    return replace(settings, **mappings)  # type: ignore[arg-type]
