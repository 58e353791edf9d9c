"""Two runs side by side: each figure's difference with its interval and test, and verdicts that changed. It draws nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports.arms import JUDGED, RECOVERED
from reports.history.changes import FLOOR
from reports.history.metrics import Metric
from reports.history.nights import ArmKey
from reports.history.sides import Side
from reports.history.two_samples import Difference, fisher_exact, welch
from reports.statistics import holm, paired_t

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class FigureDifference:
    """A metric of an arm, `new` against `old` (means over the seeds that are compared, of their scale; None: censored).

    `size`, `low`, `high` on the metric's scale (+0.08 = 8%, or 8 points; None where a seed of either side is censored); `test`:
    paired, welch, or fisher (which compares how many seeds are censored); `n`: pairs, or the seeds of the smaller side.
    """

    arm: ArmKey
    metric: Metric
    old: float | None
    new: float | None
    censored: tuple[int, int]
    size: float | None
    low: float | None
    high: float | None
    test: str
    n: int
    p: float | None
    p_holm: float
    floor: float

    @property
    def worse(self) -> bool:
        if self.size is None:
            return self.censored[1] > self.censored[0]
        return self.metric.is_worse(self.size)

    @property
    def differs(self) -> bool:
        """Beyond what is of interest: as large as `floor`, or another number of censored seeds."""
        return self.censored[0] != self.censored[1] if self.size is None else abs(self.size) >= self.floor

    @property
    def grade(self) -> str:
        """`sure`: by the p that is corrected for all figures and arms (Holm); `likely`: by its own; else empty."""
        if not self.differs or self.p is None or self.p > LEVEL:
            return ""
        return "sure" if self.p_holm <= LEVEL else "likely"


@dataclass(frozen=True, slots=True)
class VerdictDifference:
    """How many runs of an arm came back after the trigger, of those that were judged, before and after; p of Fisher's test."""

    arm: ArmKey
    old: tuple[int, int]
    new: tuple[int, int]
    words: tuple[str, str]
    p: float
    p_holm: float

    @property
    def worse(self) -> bool:
        return self.new[0] * self.old[1] < self.old[0] * self.new[1]

    @property
    def grade(self) -> str:
        return "" if self.p > LEVEL else "sure" if self.p_holm <= LEVEL else "likely"


@dataclass(frozen=True)
class Comparison:
    """`other` against `base`. `paired`: seeds whose workloads are equal to the byte. `missing`: what only one side has, in words.
    `settings`: (key, base's value, other's value) where they differ ('' = not there)."""

    base: Side
    other: Side
    paired: tuple[int, ...]
    figures: tuple[FigureDifference, ...]
    verdicts: tuple[VerdictDifference, ...]
    missing: tuple[str, ...]
    settings: tuple[tuple[str, str, str], ...]


def compare(base: Side, other: Side, floor: float = FLOOR) -> Comparison:
    """All figures that both sides have, whatever their one pool is called; ValueError when there is none."""
    pools = [sorted({arm[3] for arm, _ in side.values}) for side in (base, other)]
    moved = pools[0] != pools[1] and len(pools[0]) == len(pools[1]) == 1
    if moved:
        other = _on_pool(other, pools[0][0])
    seeds = base.workloads.keys() & other.workloads.keys()
    paired = tuple(sorted(seed for seed in seeds if base.workloads[seed] == other.workloads[seed]))
    shared = [key for key in base.values if key in other.values]
    if not shared:
        raise ValueError(f"{other.run}: no arm in common with {base.run}; allowed: runs that share one")
    figures = [_figure(arm, metric, base, other, paired, floor) for arm, metric in shared]
    verdicts = [v for arm in base.verdicts if arm in other.verdicts and (v := _verdict(arm, base, other)) is not None]
    corrected = holm([1.0 if f.p is None else f.p for f in figures] + [v.p for v in verdicts])
    figures = [replace(f, p_holm=p) for f, p in zip(figures, corrected, strict=False)]
    verdicts = [replace(v, p_holm=p) for v, p in zip(verdicts, corrected[len(figures) :], strict=True)]
    return Comparison(
        base=base,
        other=other,
        paired=paired,
        figures=tuple(sorted(figures, key=_order)),
        verdicts=tuple(v for v in verdicts if v.words[0] != v.words[1]),
        missing=(
            *([f"{base.name} ran on {pools[0][0]}, {other.name} on {pools[1][0]}."] if moved else []),
            *_missing(base, other),
        ),
        settings=tuple(_settings(base.settings, other.settings)),
    )


def _on_pool(side: Side, pool: str) -> Side:
    """The same run with its arms called as if they ran on `pool`, so that another pool is a difference like any other."""
    values = {((*arm[:3], pool), metric): by_seed for (arm, metric), by_seed in side.values.items()}
    return replace(side, values=values, verdicts={(*arm[:3], pool): by_seed for arm, by_seed in side.verdicts.items()})


def _order(found: FigureDifference) -> tuple[object, ...]:
    grade = ("sure", "likely", "").index(found.grade)
    return (grade, not found.worse, -math.inf if found.size is None else -abs(found.size), found.arm, found.metric.name)


def _figure(arm: ArmKey, metric: Metric, base: Side, other: Side, paired: Sequence[int], floor: float) -> FigureDifference:
    old, new = base.values[arm, metric], other.values[arm, metric]
    pairs = [seed for seed in paired if seed in old and seed in new]
    if len(pairs) >= 2:
        old, new = {seed: old[seed] for seed in pairs}, {seed: new[seed] for seed in pairs}
    censored = (sum(v is None for v in old.values()), sum(v is None for v in new.values()))
    lifted = [[None if v is None else metric.lifted(v) for v in side.values()] for side in (old, new)]
    logs = [[math.log(v) for v in side if v is not None] for side in lifted]
    known = len(logs[0]) == len(old) and len(logs[1]) == len(new)
    n = min(len(old), len(new))
    means = [_mean(metric, side) if len(side) == len(all_) else None for side, all_ in zip(logs, lifted, strict=True)]
    if not known:
        p = fisher_exact(censored[0], len(old), censored[1], len(new))
        return FigureDifference(arm, metric, means[0], means[1], censored, None, None, None, "fisher", n, p, 1.0, floor)
    if len(pairs) >= 2:
        found = paired_t(logs[1], logs[0])
        told, test = Difference(found.difference, found.low, found.high, found.p), "paired"
    else:
        told, test = welch(logs[1], logs[0]), "welch"
    size, low, high = (None if x is None else metric.size(math.exp(x)) for x in (told.difference, told.low, told.high))
    return FigureDifference(arm, metric, means[0], means[1], censored, size, low, high, test, n, told.p, 1.0, floor)


def _mean(metric: Metric, logs: Sequence[float]) -> float:
    return metric.lowered(math.exp(math.fsum(logs) / len(logs)))


def _verdict(arm: ArmKey, base: Side, other: Side) -> VerdictDifference | None:
    sides = [[v for v in side.verdicts[arm].values() if v in JUDGED] for side in (base, other)]
    if not sides[0] or not sides[1]:
        return None
    counts = [(sum(v in RECOVERED for v in side), len(side)) for side in sides]
    words = [", ".join(f"{side.count(v)} {v}" for v in JUDGED if v in side) for side in sides]
    return VerdictDifference(arm, counts[0], counts[1], (words[0], words[1]), fisher_exact(*counts[0], *counts[1]), 1.0)


def _missing(base: Side, other: Side) -> list[str]:
    found = []
    arms = [list(dict.fromkeys(arm for arm, _ in side.values)) for side in (base, other)]
    for side, own, theirs in ((base, arms[0], arms[1]), (other, arms[1], arms[0])):
        found += [f"Only {side.name} has the arm {', '.join(arm)}." for arm in own if arm not in theirs]
        seeds = sorted(side.workloads.keys() - (other if side is base else base).workloads.keys())
        if seeds:
            found.append(f"Only {side.name} has seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}.")
        if side.void:
            found.append(f"{side.void} of {side.cells} cells of {side.name} are void (the load was not delivered) and left out.")
    return found


def _settings(base: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    keys = [*base, *(key for key in other if key not in base)]
    return [(key, base.get(key, ""), other.get(key, "")) for key in keys if base.get(key) != other.get(key)]
