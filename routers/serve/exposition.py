"""Prometheus' text format. It does not know what is counted."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts of values up to each of `bounds` (rising), with their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


def family(name: str, kind: str, about: str, samples: Iterable[tuple[Labels, float]]) -> list[str]:
    """One metric with a sample for each set of labels."""
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *(f"{name}{_labels(of)} {value:.15g}" for of, value in samples)]


def histogram(name: str, about: str, made: Iterable[tuple[Labels, Histogram]]) -> list[str]:
    """One histogram for each set of labels."""
    out = [f"# HELP {name} {about}", f"# TYPE {name} histogram"]
    for labels, each in made:
        total = 0
        for bound, count in zip((*each.bounds, None), each.counts, strict=True):
            total += count
            le = "+Inf" if bound is None else f"{bound:g}"
            out.append(f"{name}_bucket{_labels((*labels, ('le', le)))} {total}")
        out += [f"{name}_sum{_labels(labels)} {each.sum:.15g}", f"{name}_count{_labels(labels)} {total}"]
    return out


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
