"""What news of the replicas reaches a router, and how late: how often it polls, what gets lost, how many routers there are."""

from dataclasses import dataclass

from workloads.draws import purpose_id, uniform

_POLL = purpose_id("observation")
_LOST = purpose_id("observation-lost")
_KV_LOST = purpose_id("kv-event-lost")
_ROUTERS = 1 << 20  # replica ids below this: (router, replica) is one number


@dataclass(frozen=True, slots=True)
class ObservationRule:
    """`age_s` ± `jitter_s`: seconds between two polls of a replica; `loss`: share of polls that bring nothing.

    `routers`: so many routers stand side by side, each with 1/N of the requests, its own counts and its own polls. A replica's KV
    events come `kv_lag_s` late, and a share `kv_loss` of them never.
    """

    age_s: float = 1.0
    jitter_s: float = 0.0
    loss: float = 0.0
    routers: int = 1
    kv_lag_s: float = 0.0
    kv_loss: float = 0.0

    def first_poll_s(self, router: int) -> float:
        """When router number `router` polls first: they share the interval out evenly."""
        return router * self.age_s / self.routers

    def poll_after_s(self, seed: int, router: int, replica_id: int, number: int) -> float:
        """Seconds between poll number `number` and the next, at least 1 ms."""
        draw = uniform(seed, _POLL, router * _ROUTERS + replica_id, number)
        return max(0.001, self.age_s + self.jitter_s * (2 * draw - 1))

    def is_lost(self, seed: int, router: int, replica_id: int, number: int) -> bool:
        return self.loss > 0 and uniform(seed, _LOST, router * _ROUTERS + replica_id, number) < self.loss

    def kv_is_lost(self, seed: int, router: int, replica_id: int, number: int) -> bool:
        return self.kv_loss > 0 and uniform(seed, _KV_LOST, router * _ROUTERS + replica_id, number) < self.kv_loss
