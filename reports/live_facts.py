"""What cells on live pools say of themselves, as tables: gateway, senders, resets, engines' own counters. It judges nothing."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.cell_facts import VIRTUAL
from reports.database import insert_rows

if TYPE_CHECKING:
    import duckdb

_TABLES = (
    """CREATE TABLE live_cells (
        cell_id VARCHAR PRIMARY KEY, gateway_name VARCHAR, gateway_version VARCHAR, gateway_policy VARCHAR,
        reported_policy VARCHAR, gateway_cpu_s DOUBLE, gateway_memory_bytes BIGINT, rewriting JSON, sender_void VARCHAR,
        read_lag_p50_s DOUBLE, read_lag_p99_s DOUBLE, no_socket BIGINT, scrapes_missed BIGINT, resets_verified BIGINT)""",
    "CREATE TABLE engines (cell_id VARCHAR, replica_id BIGINT, served_by VARCHAR, version VARCHAR)",
    "CREATE TABLE prefixes (cell_id VARCHAR, replica_id BIGINT, hit_tokens BIGINT, query_tokens BIGINT)",
    """CREATE TABLE flushes (cell_id VARCHAR, replica_id BIGINT, prompt_tokens BIGINT, cached_first BIGINT, cached_again BIGINT,
        cached_after BIGINT)""",
)
_FLUSHED = ("replica_id", "prompt_tokens", "cached_first", "cached_again", "cached_after")


def load_live_facts(con: "duckdb.DuckDBPyConnection", cells: Iterable[tuple[Path, Mapping[str, Any]]]) -> None:
    """Creates `live_cells` (a row a cell that no virtual clock ran), `engines`, `prefixes` and `flushes` (a row a replica).

    From (cell.json, its content) of each cell; what a cell does not say is NULL. ValueError names the file and the key of what
    has no such shape.
    """
    for table in _TABLES:
        con.execute(table)
    live = [(file, facts) for file, facts in cells if facts.get("driver") != VIRTUAL]
    makers = {
        "live_cells": ("gateway, senders, scrape, flushed", _cell),
        "engines": ("engines", _engines),
        "prefixes": ("prefix", _prefixes),
        "flushes": ("flushed", _flushes),
    }
    for table, (keys, make) in makers.items():
        rows: list[tuple[Any, ...]] = []
        for file, facts in live:
            try:
                rows += make(facts)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise ValueError(f"{file}: {keys}: cannot be read ({type(error).__name__}: {error})") from error
        insert_rows(con, table, rows)


def _cell(facts: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    gateway: Mapping[str, Any] = facts.get("gateway") or {}
    senders: list[Mapping[str, Any]] = list(facts.get("senders") or [])
    missed: Mapping[str, int] | None = (facts.get("scrape") or {}).get("missed")
    rewriting, flushed = gateway.get("rewriting"), facts.get("flushed")
    row = (
        facts["cell_id"],
        gateway.get("name"),
        _text(gateway.get("version")),
        _text(gateway.get("policy")),
        _text(gateway.get("reported_policy")),
        gateway.get("cpu_s"),
        gateway.get("memory_bytes"),
        None if rewriting is None else json.dumps(rewriting),
        facts.get("void") or "",
        *(max(lags, default=None) for lags in ([s[k] for s in senders if s.get(k) is not None] for k in _READ_LAGS)),
        sum((s.get("facts") or {}).get("no_socket", 0) for s in senders) if senders else None,
        None if missed is None else sum(missed.values()),
        None if flushed is None else sum(f["cached_after"] == 0 and f["cached_again"] > 0 for f in flushed),
    )
    return [row]


_READ_LAGS = ("read_lag_p50_s", "read_lag_p99_s")  # of the slowest sender


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _engines(facts: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(facts["cell_id"], e["replica_id"], e["engine"], _text(e.get("version"))) for e in facts.get("engines") or []]


def _prefixes(facts: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The engines' own counters over the cell: by replica, or a list of records."""
    told = facts.get("prefix") or []
    records = [{"replica_id": int(k), **v} for k, v in told.items()] if isinstance(told, Mapping) else told
    return [(facts["cell_id"], r["replica_id"], r["hit_tokens"], r["query_tokens"]) for r in records]


def _flushes(facts: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(facts["cell_id"], *(f[name] for name in _FLUSHED)) for f in facts.get("flushed") or []]
