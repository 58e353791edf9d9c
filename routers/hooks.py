"""Which hooks a policy and its guards override: only those are ever called, since a simulator lives on this path."""

from collections.abc import Sequence

from routers.guard import Guard
from routers.policy import Policy


class Hooks:
    """Bound methods, None or absent where a class leaves the hook as it is; guards' ones in the guards' order.

    `asked_from[i]` holds (index, `on_request`) of guard i and those behind it; `tells_ends`: somebody hears how tries end.
    """

    __slots__ = (
        "asked_from",
        "first_token",
        "guard_done",
        "guard_end",
        "guard_first_token",
        "guard_give_up",
        "guard_release",
        "guard_sent",
        "guard_wake",
        "policy_end",
        "sent",
        "tells_ends",
        "wakers",
    )

    def __init__(self, policy: Policy, guards: Sequence[Guard]) -> None:
        own, numbered = type(policy), list(enumerate(guards))
        self.sent = policy.on_sent if own.on_sent is not Policy.on_sent else None
        self.first_token = policy.on_first_token if own.on_first_token is not Policy.on_first_token else None
        self.policy_end = policy.on_end if own.on_end is not Policy.on_end else None
        self.wakers = [policy.next_wake_s] if own.next_wake_s is not Policy.next_wake_s else []
        self.wakers += [g.next_wake_s for g in guards if type(g).next_wake_s is not Guard.next_wake_s]
        asked = [(i, g.on_request) for i, g in numbered if type(g).on_request is not Guard.on_request]
        self.asked_from = [[(i, ask) for i, ask in asked if i >= first] for first in range(len(guards) + 1)]
        self.guard_wake = [g.on_wake for g in guards if type(g).on_wake is not Guard.on_wake]
        self.guard_give_up = [g.give_up for g in guards if type(g).give_up is not Guard.give_up]
        self.guard_sent = [g.on_sent for g in guards if type(g).on_sent is not Guard.on_sent]
        self.guard_done = [g.on_done for g in guards if type(g).on_done is not Guard.on_done]
        self.guard_first_token = [g.on_first_token for g in guards if type(g).on_first_token is not Guard.on_first_token]
        self.guard_end = [(i, g.on_end) for i, g in numbered if type(g).on_end is not Guard.on_end]
        self.guard_release = [(i, g.release) for i, g in numbered if type(g).release is not Guard.release]
        self.tells_ends = bool(self.guard_end) or self.policy_end is not None
