"""A workload's file gives it back whole; its hash is its content."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.workloads.traces import MOONCAKE, chat, slice_file, trace_of
from workloads.events import Event
from workloads.request import Request, Segment
from workloads.storage import read_provenance, read_workload, workload_hash, write_workload
from workloads.synthesis import Plan, synthesize
from workloads.trace import load_trace
from workloads.workload import Phase, Workload

GOLDEN = "d60fb7b697b2a7de92c0f277fbc8f537f382415deb479ebdd8c986e6a0a10ed5"


def small() -> Workload:
    trace = trace_of(chat("a", (10, 20), (30, 40)), chat("b", (5, 6)))
    return synthesize(trace, Plan(deadline_s=12.5), 2.0, 7)


def test_read_back_equal(tmp_path: Path) -> None:
    workload = small()
    path = write_workload(workload, tmp_path / "workloads")
    assert path.name == f"{workload_hash(workload)[:16]}.parquet"
    assert read_workload(path) == workload
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert write_workload(workload, tmp_path / "workloads") == path


def test_real_blocks_read_back_equal(tmp_path: Path) -> None:
    workload = synthesize(load_trace(str(slice_file(MOONCAKE))), Plan(), 20.0, 0)
    path = write_workload(workload, tmp_path)
    assert read_workload(path) == workload


def test_a_workload_without_requests_reads_back(tmp_path: Path) -> None:
    workload = Workload.of("none", 0, (Phase("warmup", 1.0, 1.0),), (), {})
    assert read_workload(write_workload(workload, tmp_path)) == workload


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    workload = small()
    path = write_workload(workload, tmp_path)
    said = read_provenance(path)
    assert set(said) == {"name", "seed", "phases", "events", "provenance", "hash"}
    assert said["hash"] == workload_hash(workload)
    assert said["phases"][2] == {"name": "trigger", "duration_s": 20.0, "load_rps": 6.0}
    assert said["provenance"]["trace"]["source"] == "by hand"


def test_columns_are_as_agreed(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    schema = pq.read_schema(write_workload(small(), tmp_path))
    assert {f.name: str(f.type) for f in schema} == {
        "request_id": "int64",
        "session_id": "int64",
        "turn": "int32",
        "arrival_us": "int64",
        "think_us": "int64",
        "prompt_tokens": "int32",
        "reply_id": "int64",
        "output_tokens": "int32",
        "tenant": "int32",
        "deadline_us": "int64",
        "extends": "bool",
        "new_ids": "large_list<element: int64>",
        "new_tokens": "large_list<element: int32>",
    }


def test_the_hash_sees_every_column_and_the_phases_only() -> None:
    request = Request(0, 0, 0, 1.0, None, (Segment(1, 2), Segment(3, 4)), 5, 6, 7, 8.0)
    phases = (Phase("warmup", 1.0, 2.0),)
    changed = [
        replace(request, session_id=1),
        replace(request, turn=1),
        replace(request, arrival_s=1.000001),
        replace(request, arrival_s=None, think_s=1.0),
        replace(request, think_s=0.0),
        replace(request, segments=(Segment(1, 2), Segment(4, 4))),
        replace(request, segments=(Segment(1, 3), Segment(3, 3))),
        replace(request, segments=(Segment(3, 4), Segment(1, 2))),
        replace(request, reply_id=6),
        replace(request, output_tokens=7),
        replace(request, tenant=8),
        replace(request, deadline_s=None),
    ]
    workloads = [Workload.of("w", 0, phases, (r,), {}) for r in (request, *changed)]
    workloads.append(Workload.of("w", 0, (Phase("warmup", 1.0, 3.0),), (request,), {}))
    hashes = [workload_hash(w) for w in workloads]
    assert len(set(hashes)) == len(hashes)
    workloads.append(Workload.of("w", 0, phases, (request,), {}, (Event(0.5, "flush"),)))
    assert workload_hash(workloads[-1]) not in hashes
    assert workload_hash(Workload.of("other", 9, phases, (request,), {"a": 1})) == hashes[0]


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "from workloads.storage import workload_hash;from workloads.synthesis import Plan,synthesize;"
        "from workloads.trace import load_trace;print(workload_hash(synthesize(load_trace('synthetic'),Plan(),3.0,4)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == workload_hash(synthesize(load_trace("synthetic"), Plan(), 3.0, 4))


def test_the_hash_is_the_same_on_every_machine() -> None:
    """One workload with think times, spike and system prompts, pinned; the draws may not depend on the processor's vectors."""
    code = (
        "from workloads.storage import workload_hash;from workloads.synthesis import Plan,synthesize;"
        "from workloads.trace import load_trace;sine={'shape':'sine','period_s':60,'amplitude':0.5};"
        "arrival={'process':'gamma','cv':2.0,'modulate':sine};"
        "print(workload_hash(synthesize(load_trace('synthetic'),Plan(arrival=arrival),30.0,4)))"
    )
    root = Path(__file__).parents[2]
    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL", "PYTHONHASHSEED": "7"}
    hashes = set()
    for environment in (dict(os.environ), plain):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], cwd=root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        hashes.add(done.stdout.strip())
    assert hashes == {GOLDEN}


def test_provenance_is_plain_json() -> None:
    workload = small()
    assert json.loads(json.dumps(workload.provenance)) == workload.provenance


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    for name, message in [
        ("other", "not a workload of stampede"),
        ("cut", "not a whole Parquet file"),
        ("none", "no such workload"),
    ]:
        with pytest.raises(ValueError, match=message) as raised:
            read_workload(tmp_path / f"{name}.parquet")
        assert "\n" not in str(raised.value)
