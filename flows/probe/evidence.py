"""One small Parquet file a cell: its seconds, and its answer in the footer. Existence means complete. It runs nothing."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from replay.code import code_hash
from reports.course import COLUMNS, Course
from reports.probe.asks import Answer, Ask

ROOT = Path(__file__).parents[2]
JUDGES = (
    *(f"flows/probe/{name}.py" for name in ("cell", "looking", "measures", "run_cell", "variants")),
    *(f"reports/{name}.py" for name in ("bands", "course", "live_course", "protocol", "statistics", "verdict")),
)
"""The files that decide an answer, besides the replay's packages."""
_ANSWER, _KEY = b"stampede.answer", b"stampede.key"
_COUNTS = ("scheduled", "succeeded", "undecided", "cohort_attempts", "computed_tokens", "useful_tokens", "engine_ended")


@cache
def judging_hash() -> str:
    """16 hex digits over all code that decides an answer: the replay's, and what judges it."""
    digest = hashlib.sha256(code_hash().encode())
    for name in JUDGES:
        digest.update(f"{name}\0".encode() + (ROOT / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def key_of(cell_id: str, calm: Sequence[str]) -> str:
    """What an answer stands for: its cell, the code, and the cells whose bands it was judged by."""
    return json.dumps({"cell_id": cell_id, "code": judging_hash(), "calm": sorted(calm)}, sort_keys=True)


def write_evidence(path: Path, course: Course, phases: Sequence[tuple[str, float, float]], answer: Answer, key: str) -> None:
    """The course with a phase a second (`drain` after the last), written aside and renamed."""
    seconds = np.arange(len(course), dtype=np.float64)
    ends, names = [end_s for *_, end_s in phases], [name for name, *_ in phases]
    phase = [*names, "drain"]
    columns: dict[str, Any] = {
        "t_s": seconds,
        "phase": pa.array([phase[i] for i in np.searchsorted(ends, seconds, side="right")]).dictionary_encode(),
    }
    for name in COLUMNS:
        values = getattr(course, name)
        columns[name] = values.astype(np.int64) if name in _COUNTS else pa.array(values, from_pandas=True)
    table = pa.table(columns).replace_schema_metadata({_ANSWER: json.dumps(asdict(answer)).encode(), _KEY: key.encode()})
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, aside, compression="zstd")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_answer(path: Path, key: str) -> Answer | None:
    """The answer of a whole file that was made under this very key; None for any other, which must be made again."""
    try:
        found = pq.read_metadata(path).metadata
    except (OSError, pa.ArrowInvalid):
        return None
    if not found or found.get(_KEY) != key.encode():
        return None
    return answer_of(json.loads(found[_ANSWER]))


def stored_answer(path: Path) -> Answer:
    """The answer of a whole file, whatever code made it. ValueError for a file that holds none."""
    try:
        return answer_of(json.loads(pq.read_metadata(path).metadata[_ANSWER]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise ValueError(f"{path}: holds no answer of a probe: {error}") from error


def answer_of(data: dict[str, Any]) -> Answer:
    """An answer from its plain data."""
    ask = {**data["ask"], "pieces": tuple(tuple(piece) for piece in data["ask"]["pieces"])}
    return Answer(**{**data, "ask": Ask(**ask), "levels": tuple(data["levels"])})


def read_course(path: Path) -> tuple[Course, list[str]]:
    """The course and the phase of each second."""
    table = pq.read_table(path)
    values = (table[name].to_numpy().astype(np.float64) for name in COLUMNS)
    return Course(0, *values), table["phase"].to_pylist()


def calm_course(path: Path) -> Course:
    """The seconds of an undisturbed cell that its arm's bands come from: all but warmup and drain."""
    course, phases = read_course(path)
    wanted = [i for i, phase in enumerate(phases) if phase in ("steady", "trigger", "recovery")]
    return course.cut(wanted[0], wanted[-1] + 1)
