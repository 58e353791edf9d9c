"""Any bytes: every file loads clean or is refused in one line that names it, in bounded time and memory; never anything else."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.any_bytes import check_recognisers, verdict
from tests.workloads.mutations import mutated
from tests.workloads.valid_samples import PACKERS, SAMPLES
from workloads.sources import SOURCES

ROOT = Path(__file__).parents[2]
EACH = 600
GROUPS = {
    "chats": ("sharegpt", "sharegpt_one_line", "lmsys_lines", "wildchat_lines", "wildchat_shards"),
    "tables": ("azure_2023", "azure_2024", "burstgpt_1", "burstgpt_3"),
    "blocks": ("mooncake", "qwen", "agent_raw", "agent_indented", "agent_folder", "agent_normalised"),
    "drawn": ("servegen", "servegen_windows"),
    "spans": ("otel_lines", "otel_array", "otel_console"),
    "own": ("own_csv", "own_calls", "own_blocks", "own_parquet", "own_nulls_parquet"),
    "parquet": ("lmsys_parquet", "wildchat_parquet", "conversations", "zip:wildchat_parquet"),
    "packed": ("gz:azure_2023", "zip:sharegpt", "xz:qwen", "bz2:mooncake", "zst:own_csv", "stored.zip:burstgpt_3"),
}
MOST_S, MOST_MB = 2.0, 400.0


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_mutated_file_loads_clean_or_is_refused_in_one_line(group: str) -> None:
    """A process of its own: a crash, a hang and its peak memory are its own, too."""
    command = [sys.executable, "-m", "tests.workloads.any_bytes", "0", str(EACH), *GROUPS[group]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["inputs"] == found["clean"] + found["refused"] == EACH * len(GROUPS[group])
    assert min(found["clean"], found["refused"]) > EACH / 50, "the mutations are too harsh or too mild to show anything"
    assert found["slowest_s"] < MOST_S, found["slowest"]
    assert found["peak_mb"] < MOST_MB


def test_every_format_and_every_source_is_mutated_twenty_thousand_times_in_all() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert EACH * len(names) >= 20_000
    assert SAMPLES.keys() <= set(names)
    assert {name.partition(":")[0] for name in names if ":" in name} == PACKERS.keys()
    assert {s for sample in SAMPLES.values() for s in sample.sources} == SOURCES.keys() - {"synthetic"}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_mutated_is_valid_to_begin_with(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    refused = name in ("servegen_windows", "own_nulls_parquet")  # rates alone; a row without a time
    for source in sample.sources or (None,):
        assert verdict(sample.write(tmp_path), sample, source, whole=True) is not refused


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=300), name=st.sampled_from(list(SAMPLES)), suffix=st.sampled_from(("", ".csv", ".gz")))
def test_any_bytes_at_all(content: bytes, name: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"any{suffix}"
        path.write_bytes(content)
        check_recognisers(path)
        for source in (None, *SAMPLES[name].sources[:1]):
            verdict(path, SAMPLES[name], source, packed=True)


@settings(max_examples=300, deadline=None)
@given(draw=st.randoms(use_true_random=False), name=st.sampled_from([n for n, s in SAMPLES.items() if s.text]))
def test_any_mutation_that_hypothesis_finds(draw: Random, name: str) -> None:
    sample = SAMPLES[name]
    with tempfile.TemporaryDirectory() as folder:
        changed = draw.choice(list(sample.files))
        path = sample.write(Path(folder), {changed: mutated(sample.files[changed], draw)})
        check_recognisers(path)
        verdict(path, sample, draw.choice([*sample.sources, None]))
