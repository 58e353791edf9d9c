"""Requests and accepts of the last so many seconds. It does not know what an accept is."""

from collections import deque

_STEPS = 120  # a window of two minutes moves on by the second


class SlidingCounts:
    """Both counts over a sliding window that moves in 120 steps: O(1), and bounded."""

    def __init__(self, window_s: float) -> None:
        self._step_s = window_s / _STEPS
        self._steps: deque[list[int]] = deque()  # [step, requests, accepts], oldest first
        self.requests = self.accepts = 0

    def add(self, requests: int, accepts: int, now_s: float) -> None:
        self.pass_time(now_s)
        step = int(now_s / self._step_s)
        if not self._steps or self._steps[-1][0] < step:
            self._steps.append([step, 0, 0])
        self._steps[-1][1] += requests
        self._steps[-1][2] += accepts
        self.requests += requests
        self.accepts += accepts

    def pass_time(self, now_s: float) -> None:
        """Forget what is older than the window."""
        oldest, steps = int(now_s / self._step_s) - _STEPS, self._steps
        while steps and steps[0][0] <= oldest:
            _, requests, accepts = steps.popleft()
            self.requests -= requests
            self.accepts -= accepts
