"""Table `events`: what happened to the replicas of each cell and what it hit, and how it is read back. It draws no conclusion."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.database import insert_rows
from reports.scene import PoolEvent

if TYPE_CHECKING:
    import duckdb

_PLACE = ("t_s", "kind", "replica", "for_s", "skipped")
_PARAMETERS = ("factor", "share", "status")  # the other numbers of a record are what the event hit

_TABLE = """CREATE TABLE events (
    cell_id VARCHAR, number BIGINT, t_s DOUBLE, kind VARCHAR, replica_id BIGINT, for_s DOUBLE, is_trigger BOOLEAN,
    parameters JSON, hits JSON, skipped VARCHAR)"""
_STRUCK = """CREATE OR REPLACE TEMP TABLE struck AS
    WITH told AS (
        SELECT events.* REPLACE (parameters::VARCHAR AS parameters),
               row_number() OVER twins AS again
        FROM events SEMI JOIN players USING (cell_id)
        WINDOW twins AS (PARTITION BY cell_id, t_s, kind, replica_id, for_s, parameters::VARCHAR ORDER BY number))
    SELECT *, dense_rank() OVER (ORDER BY t_s, kind, replica_id NULLS FIRST, for_s, parameters, again) AS event FROM told"""


@dataclass(frozen=True, slots=True)
class Hit:
    """One quantity that an event hit, over the `n` runs that it reached."""

    mean: float
    low: float
    high: float
    n: int


Hits = Mapping[tuple[int, str | None, str | None], Mapping[str, Hit]]
"""By event number, condition and router (None, None: over all runs), what was hit by name."""


def load_events(con: "duckdb.DuckDBPyConnection", cells: Iterable[tuple[Path, Mapping[str, Any]]]) -> None:
    """Creates `events` from (cell.json, its content) of each cell: a row an event, numbered in time order; none in older files.

    `hits` holds counts by name, `skipped` why a run did not reach the event. ValueError names the file and the missing key.
    """
    con.execute(_TABLE)
    rows: list[tuple[Any, ...]] = []
    for file, facts in cells:
        try:
            rows += _rows(facts)
        except KeyError as error:
            raise ValueError(f"{file}: events: key {error} is missing") from error
    insert_rows(con, "events", rows)


def _rows(facts: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    records: Sequence[Mapping[str, Any]] = facts.get("events") or []
    own = next((i for i, record in enumerate(records) if _is_trigger(record, facts)), None)
    return [
        (
            facts["cell_id"],
            i + 1,
            record["t_s"],
            record["kind"],
            record["replica"],
            record.get("for_s", 0.0),
            i == own,
            _json(record, lambda key: key in _PARAMETERS),
            _json(record, lambda key: key not in (*_PLACE, *_PARAMETERS)),
            record.get("skipped"),
        )
        for i, record in enumerate(records)
    ]


def _is_trigger(record: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the event is the trigger's own: its kind and replica, when the trigger phase begins."""
    trigger = facts["trigger"]
    starts = [phase["start_s"] for phase in facts["phases"] if phase["name"] == "trigger"]
    here = (record["kind"], record["replica"]) == (trigger.get("kind"), trigger.get("replica_id"))
    return here and record["t_s"] in starts


def _json(record: Mapping[str, Any], wanted: Callable[[str], bool]) -> str:
    return json.dumps({key: value for key, value in record.items() if wanted(key)}, sort_keys=True)


def find_struck(con: "duckdb.DuckDBPyConnection") -> None:
    """Table `struck`: the events of table `players`' cells; `event` is the same in all runs that it struck alike."""
    con.execute(_STRUCK)


def read_events(con: "duckdb.DuckDBPyConnection") -> tuple[PoolEvent, ...]:
    """The events in table `struck`, each once however many runs it struck."""
    found = con.execute("""
        SELECT event, any_value(t_s), any_value(kind), any_value(replica_id), any_value(for_s), any_value(parameters),
               bool_or(is_trigger)
        FROM struck GROUP BY event ORDER BY event""").fetchall()
    return tuple(
        PoolEvent(number, t_s, kind, replica_id, for_s, json.loads(parameters), is_trigger)
        for number, t_s, kind, replica_id, for_s, parameters, is_trigger in found
    )


def event_hits(con: "duckdb.DuckDBPyConnection") -> Hits:
    """What each event hit in the runs that reached it; `read_scene` has been called on this connection."""
    found = con.execute("""
        WITH counted AS (
            SELECT event, cell_id, unnest(json_keys(hits)) AS hit, hits FROM struck WHERE skipped IS NULL)
        SELECT event, condition, router, hit, avg(n), min(n), max(n), count(*)
        FROM (SELECT event, p.condition, p.router, hit, TRY_CAST(json_extract(hits, '$.' || hit) AS DOUBLE) AS n
              FROM counted JOIN players p USING (cell_id))
        WHERE n IS NOT NULL
        GROUP BY GROUPING SETS ((event, hit), (event, condition, router, hit)) ORDER BY ALL""").fetchall()
    hits: dict[tuple[int, str | None, str | None], dict[str, Hit]] = {}
    for event, condition, router, hit, mean, low, high, n in found:
        hits.setdefault((event, condition, router), {})[hit] = Hit(mean, low, high, n)
    return hits


def missed(con: "duckdb.DuckDBPyConnection") -> dict[int, tuple[int, int]]:
    """By event that some run did not reach: (runs that ended before it, runs)."""
    found = con.execute(
        "SELECT event, count(skipped), count(*) FROM struck GROUP BY event HAVING count(skipped) > 0 ORDER BY event"
    ).fetchall()
    return {event: (skipped, runs) for event, skipped, runs in found}
