"""What a step of a scenario was seen to do, as numbers by name. It judges nothing and runs nothing."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median

from routers.gateways.ask import LOST, Answer
from routers.gateways.faults.scenario import Step
from routers.gateways.stub import Asked

QUANTITIES = {
    "answered": "requests answered with 200",
    "lost": "requests without a whole answer",
    "attempts": "requests that reached the replicas",
    "replicas_tried": "replicas that were reached",
    "busiest": "requests that reached the busiest replica",
    "returned": "prompts that reached the replica that had them before",
    "span_s": "time from the first to the last attempt at the replicas",
    "slowest_refusal_s": "time to the slowest answer that was no 200",
    "first_answer_s": "time until one request after the other was answered with 200",
    "hang_up_s": "time until the replicas saw the last caller go",
    "ttft_p50_s": "median TTFT through the gateway",
    "added_ttft_s": "median TTFT through the gateway, less that straight to the replica",
    "added_gap_s": "median of the largest gap between chunks through the gateway, less that straight to the replica",
}
_NUMBERED = {r"status_[1-5]\d\d": "requests answered with HTTP {}", r"replica_\d+": "requests that reached replica {}"}


def meaning_of(quantity: str) -> str:
    """A quantity in words; ValueError for an unknown name."""
    if quantity in QUANTITIES:
        return QUANTITIES[quantity]
    for form, words in _NUMBERED.items():
        if re.fullmatch(form, quantity):
            return words.format(quantity.rpartition("_")[2])
    raise ValueError(f"unknown quantity {quantity!r}; allowed: {', '.join([*QUANTITIES, 'status_NNN', 'replica_N'])}")


def seconds(quantity: str) -> bool:
    return quantity.endswith("_s")


@dataclass(slots=True)
class Seen:
    """What one step left behind.

    `attempts` are (replica, request) as the stubs got them; `places` where each of the step's prompts came to be; `had` the same
    of the step before it that sent the same prompts; `first_answer_s` and `hang_up_s` are inf for what did not come.
    """

    answers: list[Answer] = field(default_factory=list)
    straight: list[Answer] = field(default_factory=list)
    attempts: list[tuple[int, Asked]] = field(default_factory=list)
    had: Mapping[str, int] = field(default_factory=dict)
    first_answer_s: float = inf
    hang_up_s: float = inf

    @property
    def places(self) -> dict[str, int]:
        return {str(asked.json["prompt"]): place for place, asked in self.attempts}

    def numbers(self, step: Step) -> dict[str, float]:
        """Every quantity that this step has; what it cannot have (a TTFT where nothing was answered) is left out."""
        reached = Counter(place for place, _ in self.attempts)
        times = sorted(asked.at_s for _, asked in self.attempts)
        refused = [a for a in self.answers if a.status not in (200, LOST)]
        found: dict[str, float] = {
            "attempts": len(self.attempts),
            "replicas_tried": len(reached),
            "busiest": max(reached.values(), default=0),
            "span_s": times[-1] - times[0] if times else 0.0,
            **{f"replica_{place}": n for place, n in sorted(reached.items())},
        }
        if step.leave_after_s is not None:
            return found | {"hang_up_s": self.hang_up_s}
        if step.stays_open:
            return found
        found |= {"answered": sum(a.ok for a in self.answers), "lost": sum(a.status == LOST for a in self.answers)}
        found |= {f"status_{status}": n for status, n in Counter(a.status for a in refused).items()}
        found |= {"slowest_refusal_s": max(a.ended_s for a in refused)} if refused else {}
        found |= {"first_answer_s": self.first_answer_s} if step.until_answered_s is not None else {}
        if step.again:
            found["returned"] = sum(self.places.get(prompt) == place for prompt, place in self.had.items())
        return found | self._times(step)

    def _times(self, step: Step) -> dict[str, float]:
        through = _timed(self.answers[step.warm :])
        if not through:
            return {}
        found = {"ttft_p50_s": median(first_s for first_s, _ in through)}
        straight = _timed(self.straight[step.warm :])
        if straight:
            found["added_ttft_s"] = found["ttft_p50_s"] - median(first_s for first_s, _ in straight)
            found["added_gap_s"] = median(gap_s for _, gap_s in through) - median(gap_s for _, gap_s in straight)
        return found


def value_of(numbers: Mapping[str, float], quantity: str) -> float | None:
    """A step's number; a status or a replica that never came up is 0, another missing one None."""
    counted = re.fullmatch(r"(status|replica)_\d+", quantity)
    return numbers.get(quantity, 0 if counted else None)


def _timed(answers: Sequence[Answer]) -> list[tuple[float, float]]:
    return [(a.first_s, a.max_gap_s) for a in answers if a.ok and a.first_s is not None]
