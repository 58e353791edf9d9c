"""A run of equal steps taken at once: their times are an arithmetic series. It knows no engine."""

import math
from typing import Protocol


class Jump:
    """`steps` steps from `began_s` on, to `end_s`; the first takes `first_s`, each later one `slope_s` more."""

    __slots__ = ("began_s", "end_s", "first_s", "slope_s", "steps")

    def __init__(self, began_s: float, steps: int, first_s: float, slope_s: float) -> None:
        self.began_s = began_s
        self.steps = steps
        self.first_s = first_s
        self.slope_s = slope_s
        self.end_s = began_s + (first_s if steps == 1 else self._elapsed_s(steps))

    @property
    def last_began_s(self) -> float:
        """When the last of the steps began."""
        return self.step_end_s(self.steps - 1)

    @property
    def longest_s(self) -> float:
        """Seconds of the last step."""
        return self.first_s + self.slope_s * (self.steps - 1)

    def step_end_s(self, number: int) -> float:
        """When step `number` (1 … `steps`) ends."""
        return self.began_s + self._elapsed_s(number)

    def steps_by(self, now_s: float) -> int:
        """Whole steps that are over at `now_s`."""
        a, b, span = self.first_s, self.slope_s, now_s - self.began_s
        if span <= 0:
            return 0
        half = a - b / 2
        done = math.floor(span / a if b == 0 else (math.sqrt(half * half + 2 * b * span) - half) / b)
        return min(done, self.steps)

    def cut(self, at_s: float, more: int = 0) -> None:
        """End at the first step boundary at or after `at_s`, or `more` steps later, if that is earlier (the root of the series'
        quadratic)."""
        if self.steps <= 1 or at_s >= self.end_s:
            return
        a, b, span = self.first_s, self.slope_s, max(0.0, at_s - self.began_s)
        half = a - b / 2
        steps = math.ceil(span / a if b == 0 else (math.sqrt(half * half + 2 * b * span) - half) / b)
        steps = min(max(steps, 1), self.steps)
        if self._elapsed_s(steps) < span and steps < self.steps:  # rounding
            steps += 1
        self.steps = min(steps + more, self.steps)
        self.end_s = self.began_s + self._elapsed_s(self.steps)

    def _elapsed_s(self, steps: int) -> float:
        return steps * self.first_s + self.slope_s * (steps * (steps - 1) / 2)


class Pace(Protocol):
    """How the run's time passes against the engine's own, where the two differ (a replica that is paused or slowed down)."""

    def run_s(self, own_s: float) -> float: ...

    def longest_step_s(self, jump: Jump) -> float: ...
