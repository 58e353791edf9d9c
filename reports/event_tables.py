"""The tables of what happened to the pool: a row an event, and a row an event and router. They compute no statistic."""

from collections.abc import Iterable, Mapping, Sequence

from reports.event_words import long_words
from reports.html_tables import Cell, Column, Row, Table, words
from reports.pool_events import Hit, Hits
from reports.scene import PoolEvent, Scene
from reports.sentences import counted, number, seconds

_HITS = {
    "lost": ("Attempts lost", "they were in the replica when it died"),
    "submissions": ("Attempts that came", "to a replica that refuses, while it lasted"),
    "refused": ("Attempts refused", "while it lasted"),
    "polls_lost": ("Polls unanswered", "the router asked for the replica’s metrics in vain"),
    "probes_lost": ("Probes unanswered", "the router asked the replica in vain before a decision"),
    "flushed_tokens": ("Cached tokens lost", "what the prefix caches forgot"),
    "running": ("Attempts running", "in the replica when it began"),
    "waiting": ("Attempts waiting", "in the replica when it began"),
}
_RANGE = "lowest–highest run beneath"


def event_table(scene: Scene, hits: Hits, skipped: Mapping[int, tuple[int, int]]) -> Table | None:
    """A row an event with what it hit over all runs; None where nothing happened. `skipped` counts runs that ended before."""
    if not scene.events:
        return None
    found = [hits.get((event.number, None, None), {}) for event in scene.events]
    names = _telling(found)
    columns = [Column("What happened", text=True), Column("From"), Column("For"), Column("Replica"), *_hit_columns(names)]
    rows = [Row([*_place(e), *_hit_cells(hit, names)]) for e, hit in zip(scene.events, found, strict=True)]
    most = max((hit.n for one in found for hit in one.values()), default=0)
    beneath = f", {_RANGE}" if most > 1 else ""
    caption = "Numbers mark the events in the timelines; time counts from the run’s start."
    caption += f" What they hit: mean over {counted(most, 'run')}{beneath}." if names else ""
    return Table("event-table", caption, columns, rows, notes=_notes(scene, skipped))


def arm_table(scene: Scene, hits: Hits) -> Table | None:
    """The same by router (and condition); None where only one was run or nothing was hit."""
    arms = [key for key in hits if key[1] is not None]
    names = _telling(hits[key] for key in arms)
    if len({key[1:] for key in arms}) < 2 or not names:
        return None
    several = len(scene.conditions) > 1
    columns = [Column("Router", text=True), *([Column("Client and guard", text=True)] if several else [])]
    rows = [
        _arm_row(scene, event, r.key, c.key, hits[event.number, c.key, r.key], names)
        for event in scene.events
        for c in scene.conditions
        for r in scene.routers
        if (event.number, c.key, r.key) in hits
    ]
    caption = f"What each event hit, by router. Mean over runs, {_RANGE}."
    return Table("event-arm-table", caption, [*columns, Column("Event"), *_hit_columns(names)], rows)


def _arm_row(scene: Scene, event: PoolEvent, router: str, condition: str, hit: Mapping[str, Hit], names: Sequence[str]) -> Row:
    player, label = scene.router(router), scene.condition(condition).label
    first = [Cell(player.label, player.label, series=player), *([words(label)] if len(scene.conditions) > 1 else [])]
    return Row([*first, Cell(str(event.number), str(event.number)), *_hit_cells(hit, names)], player.reference)


def _place(event: PoolEvent) -> list[Cell]:
    """What, when, for how long, where."""
    return [
        Cell(f"{event.number}. {long_words(event)}", str(event.number)),
        Cell(f"{event.t_s:g} s", repr(event.t_s)),
        Cell(seconds(event.for_s) if event.for_s else "at once", repr(event.for_s)),
        Cell(
            "every" if event.replica_id is None else str(event.replica_id),
            str(event.replica_id if event.replica_id is not None else -1),
        ),
    ]


def _notes(scene: Scene, skipped: Mapping[int, tuple[int, int]]) -> list[str]:
    own = [f"Event {e.number} is the study’s trigger." for e in scene.events if e.is_trigger]
    why = "ended before it, or it could not be carried out" if scene.pool.live else "ended before it"
    ended = [f"Event {n}: {gone} of {counted(runs, 'run')} {why}." for n, (gone, runs) in skipped.items()]
    return [" ".join([*own, *ended])] if own or ended else []


def _telling(found: Iterable[Mapping[str, Hit]]) -> list[str]:
    """The quantities of which any run saw more than none, in the order of `_HITS`; others after them."""
    seen = {name for hits in found for name, hit in hits.items() if hit.high > 0}
    return [name for name in _HITS if name in seen] + sorted(seen - _HITS.keys())


def _hit_columns(names: Sequence[str]) -> list[Column]:
    told = [_HITS.get(name, (name.replace("_", " "), "")) for name in names]
    return [Column(label, hint=hint) for label, hint in told]


def _hit_cells(hits: Mapping[str, Hit], names: Sequence[str]) -> list[Cell]:
    return [_hit_cell(hits[name]) if name in hits else Cell("–", "") for name in names]


def _hit_cell(hit: Hit) -> Cell:
    span = f"{hit.low:,.0f}–{hit.high:,.0f}" if hit.high > hit.low else ""
    return Cell(number(hit.mean), repr(hit.mean), between=span)
