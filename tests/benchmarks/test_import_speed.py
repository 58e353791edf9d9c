"""Speed and memory of importing a public file of full size: `pytest tests/benchmarks -m benchmark -s` prints the figures."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workloads.chat_files import WILDCHAT_SCHEMA, wildchat

pytestmark = pytest.mark.benchmark

_IMPORT = """
import resource, sys
from workloads.trace import import_trace
written = import_trace(sys.argv[1], sys.argv[2], sys.argv[3])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
used = resource.getrusage(resource.RUSAGE_SELF)
print(written.sessions, written.turns, used.ru_utime + used.ru_stime, int(peak) * 1024)
"""


def imported(source: str, path: Path, out: Path) -> tuple[int, int, float, float]:
    """(conversations, turns, CPU seconds of all threads, peak bytes) of `import_trace` in a process of its own."""
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", _IMPORT, source, str(path), str(out)], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    return int(told[0]), int(told[1]), float(told[2]), float(told[3])


def word_pool(draw: np.random.Generator, size: int) -> str:
    """Words of Zipf frequency with stops, line breaks, digits, code and other scripts; compresses about 3:1, real chats 4:1."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weights = 1 / np.arange(3, 29)
    words = ["".join(draw.choice(letters, n, p=weights / weights.sum())) for n in draw.integers(2, 11, 20_000)]
    words += ["\n\n", ".\n", ", ", "e.g. ", "2023 ", '"', "{", "}\n", "é", "naïve ", "日本語", "😀"] * 40
    order = draw.permutation(len(words))
    rank_weights = 1 / np.arange(3, len(words) + 3)
    return " ".join(words[i] for i in draw.choice(order, size // 7, p=rank_weights / rank_weights.sum()).tolist())


def sharegpt_records(draw: np.random.Generator, pool: str, count: int) -> Iterator[dict[str, object]]:
    """Chats of ShareGPT's shape: 37% of one turn, 3.5 on average; messages of the sample's lengths (4.3 characters a token)."""
    for number in range(count):
        turns = 1 if draw.random() < 0.37 else 1 + int(draw.geometric(0.63 / 2.5))
        tokens = np.empty(2 * turns)
        tokens[0::2] = draw.lognormal(np.log(19.3), 1.97, turns)
        tokens[1::2] = draw.gamma(1.6, 183.0, turns)
        lengths = np.clip(tokens * 4.3, 1, 60_000).astype(int)
        begins = draw.integers(0, len(pool) - lengths)
        texts = [pool[a : a + n] for a, n in zip(begins.tolist(), lengths.tolist(), strict=True)]
        messages = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
        if number % 3 == 0:  # a third starts with the model, as in the source
            messages.insert(0, {"from": "gpt", "value": texts[1]})
        yield {"id": f"c{number}_0", "conversations": messages}


def write_sharegpt(path: Path, size_bytes: int) -> int:
    """A JSON array as ShareGPT's (indented, UTF-8) of about this size; returns the number of records."""
    draw = np.random.default_rng(1)
    pool = word_pool(draw, 24 << 20)
    count = size_bytes // 7_300
    with path.open("w", encoding="utf-8") as file:
        for number, record in enumerate(sharegpt_records(draw, pool, count)):
            file.write("[\n" if number == 0 else ",\n")
            file.write(json.dumps(record, indent=2, ensure_ascii=False))
        file.write("\n]\n")
    return count


def test_sharegpt_whole(tmp_path: Path) -> None:
    """The published file has 673 MB and 94,145 chats."""
    path = tmp_path / "sharegpt.json"
    count = write_sharegpt(path, 650_000_000)
    chats, turns, cpu_s, peak_bytes = imported("sharegpt", path, tmp_path / "out.parquet")
    size_mb = path.stat().st_size / 1e6
    print(f"\n{size_mb:.0f} MB, {count} chats, {turns} turns: {cpu_s:.1f} s CPU, {peak_bytes / 1e6:.0f} MB at most")
    assert chats == count
    assert size_mb > 600
    assert cpu_s < 30
    assert peak_bytes < 1.5e9


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for size_bytes in (100_000_000, 300_000_000):
        path = tmp_path / f"{size_bytes}.json"
        write_sharegpt(path, size_bytes)
        peaks.append(imported("sharegpt", path, tmp_path / "out.parquet")[3])
    print(f"\npeak of 100 MB: {peaks[0] / 1e6:.0f} MB; of 300 MB: {peaks[1] / 1e6:.0f} MB")
    assert peaks[1] < peaks[0] + 100e6


def write_wildchat(path: Path, count: int) -> None:
    """Parquet as the hub's: row groups of 1,000 chats, 2.5 turns on average, messages up to 3,000 characters."""
    draw = np.random.default_rng(1)
    pool = word_pool(draw, 8 << 20)
    with pq.ParquetWriter(path, WILDCHAT_SCHEMA) as writer:
        for first in range(0, count, 1000):
            rows = []
            for number in range(first, first + 1000):
                texts = [
                    pool[a : a + n] for a, n in draw.integers((0, 5), (7 << 20, 3000), (2 * int(draw.geometric(0.4)), 2)).tolist()
                ]
                turns = [(q, a, number + 30.0 * i) for i, (q, a) in enumerate(zip(texts[0::2], texts[1::2], strict=True))]
                rows.append(wildchat(f"h{number}", 100 * number, *turns, user=f"u{number % 9000}"))
            writer.write_table(pa.Table.from_pylist(rows, schema=WILDCHAT_SCHEMA))


def test_wildchat_in_bounded_memory(tmp_path: Path) -> None:
    """A shard of the published set has 60,000 chats; the memory is that of a batch, not of a file."""
    peaks = []
    for count in (20_000, 60_000):
        write_wildchat(tmp_path / "shard.parquet", count)
        chats, turns, cpu_s, peak_bytes = imported("wildchat", tmp_path / "shard.parquet", tmp_path / "out.parquet")
        size_mb = (tmp_path / "shard.parquet").stat().st_size / 1e6
        print(
            f"\n{size_mb:.0f} MB of Parquet, {chats} chats, {turns} turns: {cpu_s:.1f} s CPU, {peak_bytes / 1e6:.0f} MB at most"
        )
        assert chats == count
        assert cpu_s < count / 2_000
        peaks.append(peak_bytes)
    assert peaks[1] < peaks[0] + 100e6
