"""How many prompt tokens each router's pool found in its prefix caches, by the engines' own counters. It does not draw."""

from collections import defaultdict
from dataclasses import dataclass

import duckdb

from reports.statistics import Interval, t_interval

NOTHING = Interval(None, None, None)


@dataclass(frozen=True, slots=True)
class PrefixShare:
    """One arm of a live pool: the share found of the tokens looked up, mean over seeds (each the mean of its repeats).

    `hit_tokens` and `query_tokens` are of all its sound runs. `simulated`: the same share of the twins of these runs.
    """

    router: str
    condition: str
    measured: Interval
    hit_tokens: int
    query_tokens: int
    simulated: float | None


def prefix_shares(con: duckdb.DuckDBPyConnection) -> list[PrefixShare]:
    """A row an arm of the entered scene that has a sound run whose engines count; whole runs, warm-up included."""
    found = con.sql("""
        WITH shares AS (
            SELECT cell_id, sum(hit_tokens)::BIGINT AS hits, sum(query_tokens)::BIGINT AS queries
            FROM prefix_hits GROUP BY cell_id HAVING sum(query_tokens) > 0)
        SELECT p.condition, p.router, p.seed, own.hits, own.queries, own.hits / own.queries, twin.hits / twin.queries
        FROM sound p JOIN shares own USING (cell_id)
        LEFT JOIN twins ON twins.cell_id = p.cell_id LEFT JOIN shares twin ON twin.cell_id = twins.twin_id
        ORDER BY ALL""").fetchall()
    arms: dict[tuple[str, str], list[tuple[int, int, int, float, float | None]]] = defaultdict(list)
    for condition, router, *rest in found:
        arms[condition, router].append((rest[0], rest[1], rest[2], rest[3], rest[4]))
    return [
        PrefixShare(
            router=router,
            condition=condition,
            measured=t_interval(_by_seed([(seed, share) for seed, _, _, share, _ in rows])),
            hit_tokens=sum(row[1] for row in rows),
            query_tokens=sum(row[2] for row in rows),
            simulated=_mean(_by_seed([(seed, twin) for seed, *_, twin in rows if twin is not None])),
        )
        for (condition, router), rows in arms.items()
    ]


def _by_seed(values: list[tuple[int, float]]) -> list[float]:
    """Each seed's mean over its repeats."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        seeds[seed].append(value)
    return [sum(own) / len(own) for own in seeds.values()]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
