"""Netflix's Gradient2: a concurrency limit from how latency departs from its long-term mean. It does not know who waits."""

from dataclasses import dataclass

_WARMUP = 10  # samples of which the long mean is a plain mean
_DRIFT = 0.95


@dataclass(frozen=True, slots=True)
class Gradient2Settings:
    """Defaults of Netflix/concurrency-limits, `Gradient2Limit` and `WindowedLimit` (mean of ≥ 10 samples in ≥ 1 s)."""

    initial: int = 20
    least: int = 20
    most: int = 200
    smoothing: float = 0.2
    queue_size: float = 4.0
    tolerance: float = 1.5
    long_window: int = 600
    window_s: float = 1.0
    window_samples: int = 10


class Gradient2:
    """gradient = clamp(tolerance · long / short, 0.5, 1); limit ← (1 − s) · limit + s · (gradient · limit + queue size).

    `short` is the mean of one window, `long` an exponential mean over windows; it falls by 5% where it is twice the short one.
    The limit stays where fewer than half of it were in flight. A window with too few samples is thrown away.
    """

    def __init__(self, settings: Gradient2Settings) -> None:
        self._settings = settings
        self._limit = float(settings.initial)
        self._long_s = self._long_sum_s = 0.0
        self._long_count = 0
        self._sum_s = 0.0
        self._samples = self._most_in_flight = 0
        self._window_ends_s = 0.0

    @property
    def least(self) -> int:
        """The limit never falls below it."""
        return self._settings.least

    def limit(self, now_s: float) -> int:
        return int(self._limit)

    def sample(self, latency_s: float, in_flight: int, now_s: float) -> None:
        """One answer took `latency_s`; `in_flight` tries were under way, itself included."""
        self._sum_s += latency_s
        self._samples += 1
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if now_s <= self._window_ends_s and self._settings.window_s > 0:
            return
        self._window_ends_s = now_s + self._settings.window_s
        if self._samples >= self._settings.window_samples or self._settings.window_s == 0:
            self._update(self._sum_s / self._samples, self._most_in_flight)
        self._sum_s, self._samples, self._most_in_flight = 0.0, 0, 0

    def _update(self, short_s: float, in_flight: int) -> None:
        if short_s <= 0:
            return  # an answer at once says nothing of a queue
        settings, long_s = self._settings, self._add_to_long(short_s)
        if long_s / short_s > 2:
            self._long_s *= _DRIFT
        if in_flight < self._limit / 2:
            return
        gradient = max(0.5, min(1.0, settings.tolerance * long_s / short_s))
        wanted = self._limit * gradient + settings.queue_size
        smoothed = self._limit * (1 - settings.smoothing) + wanted * settings.smoothing
        self._limit = max(settings.least, min(settings.most, smoothed))

    def _add_to_long(self, short_s: float) -> float:
        if self._long_count < _WARMUP:
            self._long_count += 1
            self._long_sum_s += short_s
            self._long_s = self._long_sum_s / self._long_count
        else:
            factor = 2 / (self._settings.long_window + 1)
            self._long_s += factor * (short_s - self._long_s)
        return self._long_s
