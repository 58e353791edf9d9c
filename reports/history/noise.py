"""What nights differ by when nothing differs: same code, same workloads, same pool (A/A). It judges no change."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from reports.history.changes import FLOOR
from reports.history.metrics import Metric
from reports.history.nights import ArmKey, Night

TO_SPREAD = 1.4826 / math.sqrt(2)
"""From the median of |differences of two| to the standard deviation of one, were they normal."""


@dataclass(frozen=True)
class Noise:
    """`pairs`: nights (indices) that ran the same question with the same code, one after the other. `differences`: each metric's
    |log of one over the other| in every arm and pair. `largest`: the largest of all, with whose it is."""

    pairs: tuple[tuple[int, int], ...]
    differences: Mapping[Metric, tuple[float, ...]]
    largest: tuple[float, ArmKey, Metric] | None

    def floor(self, metric: Metric, least: float = FLOOR) -> float:
        """The least spread of this metric's logarithms to believe: what A/A pairs show, and never under `least`."""
        found = self.differences.get(metric, ())
        return max(least, TO_SPREAD * median(found)) if found else least


def noise_of(nights: Sequence[Night]) -> Noise:
    """A/A pairs of a history; void nights are left out."""
    last: dict[tuple[str, str], int] = {}
    pairs = []
    differences: dict[Metric, list[float]] = defaultdict(list)
    largest: tuple[float, ArmKey, Metric] | None = None
    for i, night in enumerate(nights):
        if night.void or not night.code:
            continue
        before = last.get((night.code, night.question))
        last[night.code, night.question] = i
        if before is None:
            continue
        pairs.append((before, i))
        for (arm, metric), distance in _distances(nights[before], night).items():
            differences[metric].append(distance)
            if largest is None or distance > largest[0]:
                largest = (distance, arm, metric)
    return Noise(tuple(pairs), {metric: tuple(found) for metric, found in differences.items()}, largest)


def _distances(one: Night, other: Night) -> dict[tuple[ArmKey, Metric], float]:
    found = {}
    for key in one.figures.keys() & other.figures.keys():
        values = [None if f.mean is None else key[1].lifted(f.mean) for f in (one.figures[key], other.figures[key])]
        if values[0] is not None and values[1] is not None:
            found[key] = abs(math.log(values[1] / values[0]))
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1].name)))
