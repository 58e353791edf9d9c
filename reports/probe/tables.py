"""A probe's rows in results.duckdb: a table a row type, a column a field, both ways. It does not know what the rows mean.

`answers` holds a row a cell (an Ask's fields, then the Answer's); `capacities`, `frontier` … hold a row a finding, named by the
fields of `Findings`; `findings` holds one row of what is left. Pairs and tuples are structs with names, so that SQL can say
`SELECT arm.router, k FROM frontier`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from reports.probe.asks import Answer, Ask
from reports.probe.findings import Findings

if TYPE_CHECKING:
    import duckdb

SCALARS: Mapping[type, str] = {str: "VARCHAR", float: "DOUBLE", int: "BIGINT", bool: "BOOLEAN"}
PARTS: Mapping[str, tuple[str, ...]] = {
    "arm": ("router", "guard"),
    "pieces": ("factor", "for_s"),
    "tries": ("k", "recovered"),
    "recovery": ("k", "low", "mean", "high"),
    "times": ("at_s", "recovered"),
    "verdicts": ("verdict", "runs"),
}
"""The parts of a field that is a tuple, or a list of tuples; others are called v0, v1 …"""


def write_findings(con: "duckdb.DuckDBPyConnection", findings: Findings) -> None:
    """Creates the tables of all finding types, empty ones too. Raises ValueError for a number that is not finite."""
    lists, rest = _split()
    for name, row_type in lists.items():
        _create(con, name, _columns(row_type), [_packed(row) for row in getattr(findings, name)])
    own = {f.name: _packed(getattr(findings, f.name), f.name) for f in rest}
    _create(con, "findings", [(f.name, _hints(Findings)[f.name]) for f in rest], [own])


def read_findings(con: "duckdb.DuckDBPyConnection") -> Findings:
    """What `write_findings` wrote. Raises ValueError where a table or a column is missing."""
    lists, rest = _split()
    found: dict[str, Any] = {
        name: tuple(_unpacked(row_type, row) for row in _rows(con, name, _columns(row_type))) for name, row_type in lists.items()
    }
    hints = _hints(Findings)
    own = _rows(con, "findings", [(f.name, hints[f.name]) for f in rest])
    if len(own) != 1:
        raise ValueError(f"results.duckdb: table findings has {len(own)} rows; allowed: one")
    return Findings(**found, **{f.name: _unpacked(hints[f.name], own[0][f.name]) for f in rest})


def write_answers(con: "duckdb.DuckDBPyConnection", answers: Iterable[Answer]) -> None:
    """Creates table `answers`: a row a cell, in the order given."""
    columns = _columns(Ask) + [c for c in _columns(Answer) if c[0] != "ask"]
    rows = []
    for answer in answers:
        packed = _packed(answer)
        rows.append({**packed.pop("ask"), **packed})
    _create(con, "answers", columns, rows)


def read_answers(con: "duckdb.DuckDBPyConnection") -> list[Answer]:
    """What `write_answers` wrote, in its order."""
    asked, heard = _columns(Ask), [c for c in _columns(Answer) if c[0] != "ask"]
    return [
        Answer(
            ask=Ask(**{name: _unpacked(hint, row[name]) for name, hint in asked}),
            **{name: _unpacked(hint, row[name]) for name, hint in heard},
        )
        for row in _rows(con, "answers", asked + heard)
    ]


def column_type(hint: Any, name: str = "") -> str:
    """The DuckDB type of a field of that type; raises TypeError for one that has none here."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return column_type(next(t for t in inner if t is not NoneType), name)
    if origin is tuple and inner[-1] is Ellipsis:
        return f"{column_type(inner[0], name)}[]"
    if origin is tuple:
        return f"STRUCT({', '.join(_column(part, t) for part, t in zip(_parts(name, len(inner)), inner, strict=True))})"
    if origin is dict:
        return f"MAP({column_type(inner[0])}, {column_type(inner[1])})"
    if is_dataclass(hint):
        return f"STRUCT({', '.join(_column(n, t) for n, t in _columns(hint))})"
    raise TypeError(f"column {name}: {hint}; allowed: text, numbers, booleans, tuples, dicts and dataclasses of them")


def _column(name: str, hint: Any) -> str:
    return f'"{name}" {column_type(hint, name)}'  # quoted: `left` is a word of SQL


def _parts(name: str, count: int) -> Sequence[str]:
    named = PARTS.get(name, ())
    return named if len(named) == count else [f"v{i}" for i in range(count)]


@cache
def _hints(row_type: Any) -> dict[str, Any]:
    return get_type_hints(row_type)


def _columns(row_type: Any) -> list[tuple[str, Any]]:
    return [(f.name, _hints(row_type)[f.name]) for f in fields(row_type)]


def _split() -> tuple[dict[str, Any], list[Field[Any]]]:
    """Findings' lists by name with their row type, and its other fields."""
    hints = _hints(Findings)
    lists = {n: get_args(t)[0] for n, t in hints.items() if get_origin(t) is tuple and is_dataclass(get_args(t)[0])}
    return lists, [f for f in fields(Findings) if f.name not in lists]


def _create(con: "duckdb.DuckDBPyConnection", table: str, columns: list[tuple[str, Any]], rows: list[dict[str, Any]]) -> None:
    declared = ", ".join(_column(name, hint) for name, hint in columns)
    con.execute(f"CREATE TABLE {table} ({declared})")
    if not rows:
        return
    try:
        text = json.dumps(rows, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"table {table}: a number that is not finite; allowed: finite numbers and None") from error
    con.execute(f"INSERT INTO {table} SELECT r.* FROM (SELECT unnest(CAST(?::JSON AS STRUCT({declared})[])) AS r)", [text])


def _rows(con: "duckdb.DuckDBPyConnection", table: str, columns: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    import duckdb

    names = [name for name, _ in columns]
    try:
        wanted = ", ".join(f'"{name}"' for name in names)
        found = con.execute(f"SELECT {wanted} FROM {table}").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise ValueError(
            f"results.duckdb: {str(error).splitlines()[0]}; allowed: the tables that `stampede probe` writes"
        ) from error
    return [dict(zip(names, row, strict=True)) for row in found]


def _packed(value: Any, name: str = "") -> Any:
    """A value as JSON has it: dataclasses and pairs as objects with named parts."""
    if is_dataclass(value):
        return {n: _packed(getattr(value, n), n) for n in (f.name for f in fields(value))}
    if isinstance(value, dict):
        return {k: _packed(v) for k, v in value.items()}
    if not isinstance(value, tuple):
        return value
    if name in PARTS and len(value) == len(PARTS[name]) and not isinstance(value[0], tuple):
        return {part: _packed(v) for part, v in zip(PARTS[name], value, strict=True)}
    return [_packed(v, name) for v in value]


def _unpacked(hint: Any, value: Any) -> Any:
    """The reverse of `_packed`, led by the type."""
    if value is None or hint in SCALARS:
        return value
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _unpacked(next(t for t in inner if t is not NoneType), value)
    if origin is tuple and inner[-1] is Ellipsis:
        return tuple(_unpacked(inner[0], v) for v in value)
    if origin is tuple:
        return tuple(_unpacked(t, v) for t, v in zip(inner, value.values(), strict=True))
    if origin is dict:
        return dict(value)
    return hint(**{n: _unpacked(t, value[n]) for n, t in _columns(hint)})
