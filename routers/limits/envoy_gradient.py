"""Envoy's gradient controller: a concurrency limit from latency against its measured minimum. It does not know who waits."""

from dataclasses import dataclass
from math import ceil, sqrt

_AT_LEAST_FOR_TOO_LONG = 5  # windows at the least limit, after which the minimum is measured anew


@dataclass(frozen=True, slots=True)
class EnvoyGradientSettings:
    """Defaults of Envoy's `gradient_controller.cc`. The two intervals have none there: 60 s is its documented example's, whose
    window of 0.1 s is for requests of milliseconds; 1 s is ours."""

    least: int = 3
    most: int = 1000
    percentile: float = 0.5
    buffer: float = 0.25
    min_requests: int = 50
    min_interval_s: float = 60.0
    window_s: float = 1.0


class EnvoyGradient:
    """limit ← g + √g with g = limit · clamp((1 + buffer) · minimum / sample, 0.5, 2), once a window that had answers.

    `minimum` is the percentile of the first `min_requests` answers to tries sent while the limit is at its least: at the start,
    every `min_interval_s`, and after five windows at the least limit. No jitter is added to that interval (Envoy: 15%, so that a
    fleet does not measure at once). Time passes at the next sample or question. Known weakness: a window shorter than the latency
    lets the limit double several times before the first answer shows it, and then halve as often.
    """

    def __init__(self, settings: EnvoyGradientSettings) -> None:
        self._settings = settings
        self._limit = self._limit_before = settings.least
        self._minimum_s = 0.0
        self._samples_s: list[float] = []
        self._measuring = True
        self._measured_from_s = float("-inf")
        self._measure_at_s = self._window_ends_s = float("inf")
        self._windows_at_least = 0

    @property
    def least(self) -> int:
        """The limit never falls below it."""
        return self._settings.least

    def limit(self, now_s: float) -> int:
        self._pass_time(now_s)
        return self._limit

    def sample(self, latency_s: float, in_flight: int, now_s: float) -> None:
        """One answer took `latency_s`."""
        self._pass_time(now_s)
        if now_s - latency_s < self._measured_from_s:
            return  # it was sent at a higher limit, before the minimum was to be measured
        self._samples_s.append(latency_s)
        if self._measuring and len(self._samples_s) >= self._settings.min_requests:
            self._minimum_s = self._take_percentile()
            self._measuring = False
            self._limit = self._limit_before
            self._measure_at_s = now_s + self._settings.min_interval_s
            self._window_ends_s = now_s + self._settings.window_s

    def _pass_time(self, now_s: float) -> None:
        if self._measuring:
            return
        if now_s >= self._window_ends_s and self._window_ends_s < self._measure_at_s:
            self._end_window(now_s)
        if now_s >= self._measure_at_s:
            self._measuring, self._measured_from_s = True, now_s
            self._limit_before, self._limit = self._limit, self._settings.least
            self._samples_s.clear()
            self._windows_at_least = 0

    def _end_window(self, now_s: float) -> None:
        self._window_ends_s = now_s + self._settings.window_s
        if not self._samples_s:
            return
        sampled_s, before = self._take_percentile(), self._limit
        if sampled_s <= 0:
            return  # answers at once: there is no queue to see
        gradient = max(0.5, min(2.0, self._minimum_s * (1 + self._settings.buffer) / sampled_s))
        wanted = before * gradient
        self._limit = max(self._settings.least, min(self._settings.most, int(wanted + sqrt(wanted))))
        at_least = before == self._limit == self._settings.least
        self._windows_at_least = self._windows_at_least + 1 if at_least else 0
        if self._windows_at_least >= _AT_LEAST_FOR_TOO_LONG:
            self._measure_at_s = now_s

    def _take_percentile(self) -> float:
        ordered = sorted(self._samples_s)
        self._samples_s.clear()
        return ordered[max(0, ceil(self._settings.percentile * len(ordered)) - 1)]
