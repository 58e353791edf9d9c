"""Controlled delay: whether a line has stood for too long, and who waited too long in it. It does not know the line."""


class CoDel:
    """folly's variant (`folly/executors/Codel.cpp`; Maurer, "Fail at Scale", ACM Queue 2015) of Nichols and Jacobson's CoDel.

    Overloaded while the *least* delay of the last interval was above the target; then who waited more than twice the target is
    sloughed off. folly's defaults: 5 ms of 100 ms.
    """

    def __init__(self, target_s: float, interval_s: float) -> None:
        self._target_s, self._interval_s = target_s, interval_s
        self._least_s: float | None = None  # None: an interval begins with the next delay
        self._ends_s = float("-inf")
        self.overloaded = False

    def sloughs(self, delay_s: float, now_s: float) -> bool:
        """Somebody's turn comes after `delay_s` in line: is it dropped?"""
        if now_s > self._ends_s and self._least_s is not None:
            self.overloaded = self._least_s > self._target_s
            self._ends_s = now_s + self._interval_s
            self._least_s = None
        if self._least_s is None:
            self._least_s = delay_s
            return False  # it takes two in an interval before any is dropped
        self._least_s = min(self._least_s, delay_s)
        return self.overloaded and delay_s > 2 * self._target_s
