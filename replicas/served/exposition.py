"""Counters and histograms in Prometheus' text format. It does not know what they count."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

Labels = Mapping[str, str]


class Histogram:
    """Counts of values up to each of `bounds` (rising), with their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def observe_all(self, values: Iterable[float]) -> None:
        for value in values:
            self.observe(value)

    @property
    def count(self) -> int:
        return sum(self.counts)


def gauge(name: str, about: str, value: float, labels: Labels) -> list[str]:
    return [*_head(name, about, "gauge"), f"{name}{_labels(labels)} {float(value)!r}"]


def counter(name: str, about: str, value: float, labels: Labels) -> list[str]:
    return [*_head(name, about, "counter"), f"{name}{_labels(labels)} {float(value)!r}"]


def family(name: str, about: str, kind: str, values: Iterable[tuple[Labels, float]]) -> list[str]:
    """One metric with a value for each set of labels."""
    return [*_head(name, about, kind), *(f"{name}{_labels(labels)} {float(value)!r}" for labels, value in values)]


def histogram(name: str, about: str, made: Histogram, labels: Labels) -> list[str]:
    lines, total = _head(name, about, "histogram"), 0
    for bound, count in zip((*made.bounds, float("inf")), made.counts, strict=True):
        total += count
        le = "+Inf" if bound == float("inf") else f"{float(bound)!r}"
        lines.append(f"{name}_bucket{_labels({**labels, 'le': le})} {float(total)!r}")
    return [*lines, f"{name}_count{_labels(labels)} {float(total)!r}", f"{name}_sum{_labels(labels)} {made.sum!r}"]


def _head(name: str, about: str, kind: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items()))
    return f"{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
