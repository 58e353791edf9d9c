"""What the client does when the answer is late or wrong. The same rule drives both clocks."""

from dataclasses import dataclass

from workloads.draws import purpose_id, uniform

_JITTER = purpose_id("client-backoff")


@dataclass(frozen=True, slots=True)
class RetryRule:
    """A client's patience.

    Timeouts in seconds, None = never: to the first token and in total, each from when the attempt was due; between chunks.
    `max_attempts` counts the first one; None = for ever (until the request's deadline or the end of the drain). The backoff
    before attempt n+1 is `backoff_s·backoff_factor^(n-1)`, at most `backoff_max_s`, times 1 ± `jitter`. `budget` is the share
    of retries among recent first attempts that the client population allows itself (a token bucket: every first attempt adds
    `budget`, a retry takes 1, holding at most `budget_burst`); None = no budget. `cancel` False leaves the stream open when
    the client gives up, so the engine works on for nobody (orphaned work).
    """

    name: str
    ttft_timeout_s: float | None = 10.0
    idle_timeout_s: float | None = None
    total_timeout_s: float | None = None
    max_attempts: int | None = 3
    backoff_s: float = 1.0
    backoff_factor: float = 2.0
    backoff_max_s: float = 10.0
    jitter: float = 0.2
    budget: float | None = None
    budget_burst: float = 10.0
    cancel: bool = True

    def __post_init__(self) -> None:
        if self.max_attempts is None and min(self.backoff_s, self.backoff_max_s) * (1 - self.jitter) <= 0:
            raise ValueError("max_attempts null (retry for ever) needs backoff_s > 0, backoff_max_s > 0 and jitter < 1")

    def backoff_before(self, attempt: int, seed: int, request_id: int) -> float:
        """Seconds to wait before client attempt `attempt` (2, 3, …)."""
        growth = self.backoff_factor ** min(attempt - 2, 64)  # beyond that only a factor of about 1 is not at its limit yet
        base = min(self.backoff_max_s, self.backoff_s * growth)
        return base * (1 + self.jitter * (2 * uniform(seed, _JITTER, request_id, attempt) - 1))
