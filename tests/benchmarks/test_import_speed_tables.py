"""Speed and memory of importing Azure 2024 at full size: `pytest tests/benchmarks -m benchmark -s` prints the figures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv

pytestmark = pytest.mark.benchmark

ROWS = 44_000_000
_IMPORT = """
import resource, sys
from pathlib import Path
from workloads.conversations_file import stream_conversations
from workloads.sources.azure_llm import AZURE_LLM_2024 as source
from workloads.sources.source import ReadOptions, Tally
path, tally = Path(sys.argv[1]), Tally()
tables = source.read(path, ReadOptions(), tally)
stream_conversations(source.name, tables, lambda: source.provenance(path, tally), Path(sys.argv[2]))
used = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(tally.rows_read, used.ru_utime + used.ru_stime, int(status["VmHWM"].split()[0]) * 1024)  # ru_maxrss is the parent's here
"""


def write_azure_2024(path: Path, rows: int, block: int = 2_000_000) -> None:
    """Rows of the 2024 file's shape: nine days of increasing times with an offset, log-normal lengths."""
    draw = np.random.default_rng(2024)
    reached_us = 0
    with path.open("wb") as file:
        file.write(b"TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for done in range(0, rows, block):
            n = min(block, rows - done)
            us = reached_us + np.cumsum(draw.exponential(9 * 86_400e6 / ROWS, n)).astype(np.int64)
            reached_us = int(us[-1])
            moments = pc.strftime(pa.array(np.datetime64("2024-05-10T00:00:00", "us") + us), "%Y-%m-%d %H:%M:%S")
            columns = {
                "time": pc.binary_join_element_wise(moments, "+00:00", ""),
                "context": np.clip(draw.lognormal(7.0, 1.0, n), 1, 100_000).astype(np.int32),
                "generated": np.clip(draw.lognormal(4.0, 1.2, n), 1, 4_000).astype(np.int32),
            }
            csv.write_csv(pa.table(columns), file, csv.WriteOptions(include_header=False, quoting_style="none"))


def imported(path: Path, out: Path) -> tuple[int, float, float]:
    """(rows, CPU seconds of all threads, peak bytes) of file to `conversations.parquet` in a process of its own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _IMPORT, str(path), str(out)]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split()
    return int(told[0]), float(told[1]), float(told[2])


def test_azure_2024_whole_and_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """The published two files have 44 million rows, 1.8 GB."""
    small, whole, out = tmp_path / "small.csv", tmp_path / "whole.csv", tmp_path / "out.parquet"
    write_azure_2024(small, 2_000_000)
    write_azure_2024(whole, ROWS)
    _, _, few_bytes = imported(small, out)
    rows, cpu_s, most_bytes = imported(whole, out)
    size_gb = whole.stat().st_size / 1e9
    told = f"{rows} rows, {size_gb:.2f} GB: {cpu_s:.1f} s CPU, {most_bytes / 1e6:.0f} MB at most"
    print(f"\n{told} ({few_bytes / 1e6:.0f} MB for 2 M rows)")
    assert rows == ROWS
    assert cpu_s <= 60
    assert most_bytes <= 2e9
    assert most_bytes < few_bytes + 100e6
