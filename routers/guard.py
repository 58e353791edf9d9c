"""WHETHER and WHEN a request goes: the types every guard shares (admission, queues, retries, breakers). No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from replicas.profile import EngineProfile
from replicas.view import ReplicaView
from routers.policy import RoutedRequest, TryEnd

__all__ = ["HOLD", "SEND", "Admission", "GiveUp", "Guard", "GuardContext", "Hold", "Refuse", "Release", "Retry", "Send", "TryEnd"]


@dataclass(frozen=True, slots=True)
class Send:
    """Let it pass."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep it; the guard will name it in `release`."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer at once with an HTTP status (429, 503, …)."""

    status: int


Admission = Send | Hold | Refuse
SEND, HOLD = Send(), Hold()


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `at_s`, not on the replicas in `exclude` (ignored when nothing else is left)."""

    at_s: float
    exclude: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Release:
    """A held request may go on (`refuse_status` None) or is refused."""

    rid: int
    refuse_status: int | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The try of `rid` took too long: it is aborted, or left to work on for nobody (`orphan`). It ended with `status`."""

    rid: int
    orphan: bool = False
    status: int = 504


class Guard:
    """One ordered stage in front of the policy: override what you need."""

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        """Called for a new request, and again for every retry that a guard *before* this one asks for.

        `replicas`: healthy and admitted by the other guards; it may be empty.
        """
        return SEND

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None: ...

    def on_first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None: ...

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> Retry | None:
        """A try has ended; every guard hears of it, the first Retry counts. No retry when it is ok or streaming.

        A try that the client's hang-up aborts has no end: only `on_done` follows.
        """
        return None

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        """The request has left the router for good: answered, refused or hung up (held requests too)."""

    def admits(self, replica_id: int, now_s: float) -> bool:
        """False hides the replica from the policy (breaker, ejection)."""
        return True

    def hides(self, now_s: float) -> bool:
        """False: `admits` would say True of every replica; so that the router need not ask it of each."""
        return True

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        """Held requests that may move now, in order; each is named once. `replicas` as in `on_request`.

        Asked after everything that may have made room, as long as anything is held by any guard.
        """
        return ()

    def give_up(self, now_s: float) -> Sequence[GiveUp]:
        """Requests whose try is given up now; asked when time has passed. Each such try then has its `on_end`."""
        return ()

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        """The pool has changed: these replicas (ascending, healthy or not) are in it from now on."""

    def next_wake_s(self) -> float:
        """When something of its own is due (inf: never); once `on_wake` and `release` were called then, it must be later."""
        return float("inf")

    def on_wake(self, now_s: float) -> None:
        """Time has passed: something is due, perhaps elsewhere in the router."""


@dataclass(frozen=True, slots=True)
class GuardContext:
    """What a guard is built with. `profile`: the pool's engine, for guards that predict (None: unknown)."""

    seed: int = 0
    replica_ids: tuple[int, ...] = ()
    parameters: dict[str, object] = field(default_factory=dict)
    profile: EngineProfile | None = None
