"""ServeGen's clients: the rate and the law of their gaps in every window of ten minutes. It does not know what they ask for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.sources.source import PARQUET_DAMAGE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
WINDOW_S = 600
_LONGEST_LINE = 4096
_FAMILIES = {"": 0, "Gamma": 1, "Weibull": 2}
_LEAST_SHAPE = {"Gamma": 1e-3, "Weibull": 0.1}  # below, a handful of gaps outweigh a year
_BOUNDS = {"rate": 1e4, "cv": 1e6, "shape": 1e6, "scale": 1e9}
_PARQUET = {"category", "model", "client", "ts", "rate", "cv", "pattern", "shape", "scale"}


@dataclass(frozen=True, slots=True)
class ClientWindows:
    """The windows of one client, ascending; `family` 1 Gamma, 2 Weibull, 0 no traffic; `scale_s` as published (not used)."""

    client: int
    dataset: Path
    begin_s: Ints
    rate_rps: Floats
    cv: Floats
    family: Ints
    shape: Floats
    scale_s: Floats


def model_folders(path: Path) -> dict[str, Path]:
    """ "category/model" → its folder, for a model's own folder or any of the three above it."""
    found = sorted({p.parent for depth in ("", "*/", "*/*/", "*/*/*/") for p in _files(path, depth)})
    return {f"{folder.resolve().parent.name}/{folder.resolve().name}": folder for folder in found}


def _files(folder: Path, depth: str = "") -> Iterator[Path]:
    return (path for path in folder.glob(f"{depth}chunk-*-trace.csv") if path.is_file())


def is_windows_parquet(path: Path) -> bool:
    """Whether a file is the Parquet form of all clients' windows, without token lengths."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return False
    import pyarrow.parquet as pq

    try:
        return _PARQUET.issubset(pq.read_schema(path).names)
    except PARQUET_DAMAGE:
        return False


def windows(path: Path) -> Any:
    """All windows as a table category, model, client, begin_s, rate_rps, cv, family ("Gamma", "Weibull", ""), shape, scale_s.

    From a folder of chunk-N-trace.csv (or one of the three above) or from the Parquet file of all clients. Raises ValueError.
    """
    import polars as pl

    if is_windows_parquet(path):
        text = [pl.col(c).cast(pl.String) for c in ("category", "model")]
        numbers = {"client": "client", "begin_s": "ts", "rate_rps": "rate", "cv": "cv"}
        named = [pl.col(old).cast(pl.Int64 if old in ("client", "ts") else pl.Float64).alias(new) for new, old in numbers.items()]
        last = [pl.col("shape").cast(pl.Float64), pl.col("scale").cast(pl.Float64).alias("scale_s")]
        return pl.read_parquet(path).select(*text, *named, pl.col("pattern").cast(pl.String).alias("family"), *last)
    parts = []
    for name, folder in model_folders(path).items():
        category, _, model = name.partition("/")
        for client in clients(folder):
            columns = {f: getattr(client, f) for f in ("begin_s", "rate_rps", "cv", "family", "shape", "scale_s")}
            labels = [pl.lit(category).alias("category"), pl.lit(model).alias("model")]
            part = pl.DataFrame(columns).select(*labels, pl.lit(client.client, pl.Int64).alias("client"), pl.all())
            parts.append(part.with_columns(pl.col("family").replace_strict({v: k for k, v in _FAMILIES.items()})))
    if not parts:
        raise ValueError(f"{path}: neither chunk-N-trace.csv files nor the Parquet file of all clients' windows")
    return pl.concat(parts)


def clients(folder: Path) -> Iterator[ClientWindows]:
    """The clients of one model's folder, by number. Raises ValueError "FILE:LINE: …" on a malformed row."""
    found = ((path, re.fullmatch(r"chunk-(\d{1,9})-trace", path.stem)) for path in _files(folder))
    numbered = {path: int(match[1]) for path, match in found if match}
    for path, number in sorted(numbered.items(), key=lambda pair: pair[1]):
        rows = list(_rows(path))
        begin, rate, cv, family, shape, scale = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 6
        yield ClientWindows(
            number,
            path.with_name(f"chunk-{number}-dataset.json"),
            np.array(begin, dtype=np.int64),
            np.array(rate, dtype=np.float64),
            np.array(cv, dtype=np.float64),
            np.array(family, dtype=np.int64),
            np.array(shape, dtype=np.float64),
            np.array(scale, dtype=np.float64),
        )


def _rows(path: Path) -> Iterator[tuple[int, float, float, int, float, float]]:
    """window_start_s, rate, cv, pattern, shape, scale (no header); a row without pattern has no traffic."""
    last = -WINDOW_S
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            place = f"{path}:{number}"
            if len(line) > _LONGEST_LINE:
                raise ValueError(f"{place}: a line of more than {_LONGEST_LINE} bytes; allowed: up to that")
            text = line.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").strip()
            if not text:
                continue
            fields = text.split(",")
            if len(fields) != 6 or fields[3] not in _FAMILIES:
                raise ValueError(f"{place}: {text[:80]!r}; expected start_s,rate,cv,pattern (Gamma, Weibull or none),shape,scale")
            begin = _number(fields[0], 1e10, "window_start_s", place)
            if begin % WINDOW_S or begin <= last:
                raise ValueError(f"{place}: window_start_s is {fields[0][:60]!r}; expected multiples of {WINDOW_S}, ascending")
            last = int(begin)
            if not fields[3]:
                yield last, 0.0, 0.0, 0, 0.0, 0.0
                continue
            values = [_number(f, _BOUNDS[n], n, place) for f, n in zip([*fields[1:3], *fields[4:]], _BOUNDS, strict=True)]
            rate, cv, shape, scale = values
            if rate and shape < _LEAST_SHAPE[fields[3]]:
                raise ValueError(f"{place}: shape is {fields[4][:60]!r}; expected ≥ {_LEAST_SHAPE[fields[3]]:g} for {fields[3]}")
            yield last, rate, cv, _FAMILIES[fields[3]] if rate else 0, shape, scale


def _number(text: str, below: float, name: str, place: str) -> float:
    try:
        value = float(text) if len(text) < 64 and "_" not in text else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value < below:
        raise ValueError(f"{place}: {name} is {text[:60]!r}; expected a number ≥ 0 and < {below:g}")
    return value
