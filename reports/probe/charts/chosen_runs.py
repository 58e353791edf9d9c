"""Which single runs the page shows second by second, by rules that look at verdicts and sizes alone. It draws nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from reports.probe.asks import Answer
from reports.probe.scene import ProbeScene
from reports.probe.trigger_words import length_s, spike_size

DOWN = ("metastable", "deadlock")
BACK = ("recovered", "latent")
SECONDS = ("cell_id", "t_s", "phase", "scheduled", "succeeded", "undecided", "in_flight", "waiting")


@dataclass(frozen=True, slots=True)
class Twins:
    """Two runs of one router at one load: one stays down, one comes back."""

    down: Answer
    back: Answer


def deadly_and_safe(scene: ProbeScene) -> Twins | None:
    """Of one arm at one load: the smallest burst that kept it down and the largest smaller one that it came back from.

    The arm without guards at the headline's load is preferred, then the closest pair in size, then the study's order; equal seeds
    decide ties. None where no arm has both.
    """
    main = scene.main_fraction or 0.0
    best: tuple[tuple[float, ...], Twins] | None = None
    groups: dict[tuple[str, str, float, float], list[Answer]] = {}
    for a in scene.cells:
        if a.ask.phase in ("frontier", "pulse") and not a.ask.variant and spike_size(a.ask.trigger) is not None:
            key = (a.ask.router, a.ask.guard, a.ask.load_rps, length_s(a.ask.trigger))
            groups.setdefault(key, []).append(a)
    for (router, guard, load_rps, _), cells in groups.items():
        down = [a for a in cells if a.verdict in DOWN]
        if not down:
            continue
        deadly = min(down, key=lambda a: (_k(a), a.ask.seed))
        back = [a for a in cells if a.verdict in BACK and _k(a) < _k(deadly)]
        if not back:
            continue
        safe = max(back, key=lambda a: (_k(a), a.ask.seed == deadly.ask.seed, -a.ask.seed))
        rank = (
            float(scene.guard(guard).key != "g0"),
            round(abs(scene.fraction(load_rps) - main), 3),
            round(_k(deadly) / _k(safe), 3),
            *map(float, scene.arm_order((router, guard))),
        )
        if best is None or rank < best[0]:
            best = (rank, Twins(deadly, safe))
    return best[1] if best else None


def before_and_after(scene: ProbeScene) -> tuple[str, list[Twins]] | None:
    """(the recommended guard set, twins of one router by seed: without guards down, with it back), where cures were tried.

    The router with most such pairs, in the study's order. None where no recommended cure has one.
    """
    best: tuple[str, list[Twins]] | None = None
    for cure in scene.findings.cures:
        if not cure.recommended or cure.guard == scene.guards[0].label:
            continue
        cured = {_same(a): a for a in scene.asked("cure") if a.ask.guard == cure.guard and a.ask.router == cure.router}
        pairs = [
            Twins(a, cured[_same(a)])
            for a in scene.cells
            if a.ask.router == cure.router
            and a.ask.guard == scene.guards[0].label
            and not a.ask.variant
            and a.verdict in DOWN
            and _same(a) in cured
            and cured[_same(a)].verdict in BACK
        ]
        pairs = list({t.down.ask.seed: t for t in reversed(pairs)}.values())[::-1]
        if pairs and (best is None or len(pairs) > len(best[1])):
            best = (cure.guard, pairs)
    return best


def seconds_of(con: duckdb.DuckDBPyConnection, cells: Sequence[Answer]) -> pl.DataFrame:
    """The seconds of some cells (columns `SECONDS`); raises ValueError where table or columns are missing or a cell has none."""
    ids = [a.cell_id for a in cells]
    try:
        con.execute("SET VARIABLE shown = ?", [ids])
        found: pl.DataFrame = con.sql(
            f"SELECT {', '.join(SECONDS)} FROM seconds WHERE list_contains(getvariable('shown'), cell_id) ORDER BY cell_id, t_s"
        ).pl()
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"results.duckdb: {said}; allowed: table seconds with {', '.join(SECONDS)}") from error
    lacking = set(ids) - set(found["cell_id"])
    if lacking:
        raise ValueError(f"results.duckdb: table seconds has nothing of cell {min(lacking)!r}; allowed: seconds of every cell")
    return found


def _same(answer: Answer) -> tuple[float, str, int]:
    return (answer.ask.load_rps, answer.ask.trigger, answer.ask.seed)


def _k(answer: Answer) -> float:
    return spike_size(answer.ask.trigger) or 0.0
