"""A trace's own start times, thinned or overlaid to another number of users, or run faster. It knows no contents."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.arrivals.intensity import Floats, Intensity
from workloads.draws import generator, purpose_id
from workloads.mixing import uniforms

Ints = npt.NDArray[np.int64]
_CHAIN = purpose_id("arrival-chain")


@dataclass(frozen=True, slots=True, eq=False)
class TraceClock:
    """Session start times in seconds: ascending, the first 0; `span_s` is the last one and one mean gap, the trace's period.

    `chains`, where given, names for each start a user or conversation that it belongs to: those of one name stay or go together.

    ValueError where they do not ascend or hold fewer than two different times.
    """

    starts_s: Floats
    span_s: float
    chains: Ints | None = None

    def __post_init__(self) -> None:
        if len(self.starts_s) < 2 or not self.starts_s[-1] > self.starts_s[0]:
            raise ValueError("arrival.process is 'trace', but the trace has fewer than two different start times")
        if self.starts_s[0] != 0 or not np.all(np.diff(self.starts_s) >= 0):
            raise ValueError("arrival.process is 'trace', but the trace's start times do not ascend from 0")

    @classmethod
    def of(cls, starts_s: Sequence[float] | Floats, chains: Ints | None = None) -> "TraceClock":
        """The clock of ascending start times of any origin."""
        starts = np.array(starts_s, dtype=np.float64)
        starts -= starts[0] if len(starts) else 0.0
        return cls(starts, float(starts[-1]) * len(starts) / (len(starts) - 1) if len(starts) > 1 else 0.0, chains)

    @property
    def rate_rps(self) -> float:
        """Sessions a second over the trace's period."""
        return len(self.starts_s) / self.span_s

    def round(self, offset_s: float, first: int, for_s: float) -> tuple[Floats, Ints, Ints]:
        """All starts within `for_s` of `offset_s`, from number `first` on, round and round: (seconds since, places, passes).

        The last one may lie beyond. It costs no more than what it returns, however long the trace.
        """
        size, until_s = len(self.starts_s), offset_s + for_s
        periods = int(until_s // self.span_s)
        last = periods * size + int(np.searchsorted(self.starts_s, until_s - periods * self.span_s)) + 1
        number = np.arange(first, last)
        places = number % size
        return self.starts_s[places] + number // size * self.span_s - offset_s, places, (number - first) // size


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Session starts: `start_s` ascends; `place` is an index into the trace clock's starts, −1 for any session.

    `copy` tells one use of a place from another (0 where the place is −1).
    """

    start_s: Floats
    place: Ints
    copy: Ints


def users(
    clock: TraceClock, offset: float, rate_rps: float, factor: Intensity, end_s: float, seed: int, path: Sequence[int]
) -> Arrivals:
    """More or fewer users: f = rate_rps · factor(t) / the trace's own rate, which keeps its own seconds between sessions.

    The trace begins `offset` of its period in (a time, not a session: to begin at a session would begin in a burst) and goes
    round. Layer 0 is the trace, each further layer a copy of it turned by an offset of its own, drawn by seed. A session of layer
    n stays where a uniform number of its own (one a pass, and one for all of a chain) is below f − n: n < f < n + 1 thins, a
    whole f overlays, and whoever is there at a small f is there at a larger one too.
    """
    begin_s = float(factor.begins_s[0])
    made: list[Arrivals] = []
    for layer in range(ceil(rate_rps * factor.peak(end_s) / clock.rate_rps)):
        stream = generator(seed, "arrival-layer", *path, layer + 1)
        turned = stream.random()
        offset_s = (offset if layer == 0 else turned) * clock.span_s
        first = int(np.searchsorted(clock.starts_s, offset_s))
        times_s, places, passes = clock.round(offset_s, first, end_s - begin_s)
        start_s = begin_s + times_s
        wanted = rate_rps * factor.value(start_s) / clock.rate_rps - layer
        if clock.chains is None:
            drawn = stream.random(len(start_s))
        else:
            drawn = uniforms(_CHAIN, *(np.full(len(places), k) for k in (seed, *path, layer)), passes, clock.chains[places])
        kept = (start_s < end_s) & (drawn < wanted)
        made.append(Arrivals(start_s[kept], places[kept], _paired(layer, passes[kept])))
    return joined(made)


def compressed(clock: TraceClock, offset: float, rate_rps: float, factor: Intensity, end_s: float) -> Arrivals:
    """The same users, faster or slower: every gap is stretched alike to the wanted rate, so CV stays and nothing fits a count.

    The trace begins `offset` of its period in and goes round with one mean gap at the seam; `copy` is the number of the pass.
    """
    offset_s = offset * clock.span_s
    first = int(np.searchsorted(clock.starts_s, offset_s))
    until = float(factor.mass(np.array([end_s]))[0]) * rate_rps
    times_s, places, passes = clock.round(offset_s, first, until / clock.rate_rps)
    unit = times_s * clock.rate_rps
    inside = unit < until
    start_s = factor.time(unit[inside] / rate_rps)
    kept = start_s < end_s
    return Arrivals(start_s[kept], places[inside][kept], passes[inside][kept])


def joined(parts: Sequence[Arrivals]) -> Arrivals:
    """All arrivals in order of time; those of the same time in the order of the parts."""
    if not parts:
        return Arrivals(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    start_s = np.concatenate([part.start_s for part in parts])
    order = np.argsort(start_s, kind="stable")
    columns: list[Any] = [np.concatenate([getattr(part, name) for part in parts]) for name in ("place", "copy")]
    return Arrivals(start_s[order], columns[0][order], columns[1][order])


def _paired(layer: int, passes: Ints) -> Ints:
    """Cantor's pairing: one whole number for (layer, pass) that needs no bound on either; (0, 0) is 0."""
    return np.asarray((layer + passes) * (layer + passes + 1) // 2 + layer)
