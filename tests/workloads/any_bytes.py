"""What must hold of any file that somebody wants to import, and many mutated files tried in one process of its own.

`python -m tests.workloads.any_bytes SEED COUNT SAMPLE…` prints what became of them as JSON. It does not know the formats.
"""

import json
import os
import re
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from tests.workloads.mutations import damaged, mutated
from tests.workloads.odd_tables import odd_table
from tests.workloads.traces import same
from tests.workloads.valid_samples import PACKERS, SAMPLES, Sample
from workloads.conversations_file import _check, completed, is_conversations_file, read_conversations, write_conversations
from workloads.sources import SOURCES
from workloads.trace import load_trace
from workloads.trace_table import SCHEMA, Trace

LONGEST_LINE = 1000
_WITH_LINE = re.compile(r"(/[^:]*)?:\d+: ")
_LINELESS = re.compile(
    r"(/[^:]*)?: (start_time could be|a start time as|\w+ could be any|--map|not recognised|holds rates only"
    r"|holds a trace of|columns are mapped|no chunk-|no client has traffic|no request was drawn|about .* requests within"
    r"|columns\.model is|not a whole |not readable as Parquet|row \d+: |a folder without|no \*\.json)"
)
"""Errors of a whole text file: what its header lacks, what it is not, or what a drawn trace would be."""


@dataclass
class Outcome:
    """What became of the inputs; `wrong` holds the first contradictions."""

    inputs: int = 0
    clean: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    peak_mb: float = 0.0
    wrong: list[str] = field(default_factory=list)


def verdict(path: Path, sample: Sample, source: str | None, *, whole: bool = False, packed: bool = False) -> bool:
    """True for a file that loads clean, False for one refused in one line; AssertionError for anything else but those."""
    try:
        trace = load_trace(str(path), source, columns=sample.columns if source == "own" else None, texts=whole)
    except ValueError as error:
        _check_refusal(str(error), path, lines=sample.text and not packed)
        return False
    check_trace(trace, sample)
    if whole:
        check_file(trace, path.parent / "written.parquet")
    return True


def _check_refusal(said: str, path: Path, lines: bool) -> None:
    assert said.startswith(str(path)), f"names not the file: {said[:300]!r}"
    assert len(said.splitlines()) == 1, f"not one line: {said[:300]!r}"
    assert said.isprintable(), f"not plain: {said[:300]!r}"
    assert len(said) < LONGEST_LINE, f"too long: {said[:300]!r}"
    if lines:
        inside = said.removeprefix(str(path))
        assert _WITH_LINE.match(inside) or _LINELESS.match(inside), f"names no line: {said[:300]!r}"


def check_trace(trace: Trace, sample: Sample) -> None:
    """Rows in the schema's types that agree with each other, and none lost."""
    completed(trace.table).validate(full=True)
    assert [SCHEMA.field(f.name).type for f in trace.table.schema] == trace.table.schema.types
    _check(trace)
    for name in ("gap_us", "think_us", "segment_tokens", "prefix_tokens", "tenant"):
        values = getattr(trace, name.replace("_us", "_s"))
        assert not len(values) or not np.nanmin(np.append(values, 0)) < 0, f"negative {name}"
    told = trace.provenance
    json.dumps(told, allow_nan=False)
    kept = {"session": len(trace), "turn": trace.turn_count, "request": trace.turn_count}.get(sample.unit)
    if kept is not None:
        dropped = 0 if sample.unit == "request" else sum(told["rows_dropped"].values())
        assert told["rows_read"] == kept + dropped, f"{told['rows_read']} read, {kept} kept, {dropped} dropped"


def check_file(trace: Trace, path: Path) -> None:
    """What is written is what is read."""
    assert same(trace, read_conversations(write_conversations(trace, path), texts=True)), "read back otherwise"


def check_recognisers(path: Path) -> None:
    """No source may raise for any file; a damaged Parquet file is refused in one line when it is asked for its kind."""
    for source in SOURCES.values():
        assert source.recognises(path) in (True, False)
    try:
        is_conversations_file(path)
    except ValueError as error:
        _check_refusal(str(error), path, lines=False)


def try_sample(name: str, count: int, seed: int, folder: Path, outcome: Outcome) -> None:
    """Write and judge `count` mutations of a sample; a packed name "gz:azure" packs before or after."""
    kind, _, inner = name.rpartition(":")
    sample = SAMPLES[inner]
    for i in range(count):
        draw = Random(f"{name}/{seed}/{i}")
        path, named = _written(sample, kind, draw, folder), draw.choice([*sample.sources, None])
        begun = time.process_time()
        try:
            clean = verdict(path, sample, named, whole=i % 8 == 0, packed=bool(kind))
            if i % 8 == 1:
                check_recognisers(path)
            outcome.clean, outcome.refused = outcome.clean + clean, outcome.refused + (not clean)
        except Exception as error:
            outcome.wrong.append(f"{name} {seed} {i} as {named}: {type(error).__name__}: {str(error)[:300]}")
        outcome.inputs += 1
        if (took := time.process_time() - begun) > outcome.slowest_s:
            outcome.slowest_s, outcome.slowest = took, f"{name} {seed} {i}"


def _written(sample: Sample, kind: str, draw: Random, folder: Path) -> Path:
    """The sample with one of its files mutated; packed, the archive or what is in it."""
    name = draw.choice(list(sample.files))
    change = mutated if sample.text else draw.choice((damaged, odd_table))
    if not kind:
        return sample.write(folder, {name: change(sample.files[name], draw)})
    content = sample.files[name]
    inside = draw.random() < 0.4
    packed = PACKERS[kind](change(content, draw) if inside else content)
    path = folder / f"{name}.{kind}"
    path.write_bytes(packed if inside else damaged(packed, draw))
    return path


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    seed, count, *names = sys.argv[1:]
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        for name in names:
            (inside := Path(folder) / name.replace(":", "_")).mkdir()
            try_sample(name, int(count), int(seed), inside, outcome)
    status = Path("/proc/self/status").read_text()  # ru_maxrss begins with the parent's
    outcome.peak_mb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
