"""Cells behind real gateways in front of served replicas: they get through, are named, watched, and gone after.

Programs are found as `STAMPEDE_GATEWAYS` says; the tests of a gateway that is not here are skipped.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from replay.cell import Named
from replay.measured import run_measured_cell
from replicas.launch.pool import Pool, running_pool
from replicas.launch.tiny_model import write_tiny_model
from routers.gateways import find_gateway
from routers.gateways.programs import MissingProgram, find_program
from tests.replay.measured.scene import live_cell, place, served_spec, talks

pytestmark = pytest.mark.gateway

AFFINE = {
    "sglang_router": "cache_aware",
    "vllm_router": "consistent_hash",
    "nginx": "consistent_hash",
    "haproxy": "consistent_hash",
    "envoy": "ring_hash",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", "llama")


@pytest.fixture(scope="module")
def pool(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    spec = served_spec(model=model)
    with running_pool([spec, spec], tmp_path_factory.mktemp("logs")) as pool:
        yield pool


@pytest.mark.parametrize("name", list(AFFINE))
@pytest.mark.parametrize("arm", ["default", "bare"])
def test_a_gateway_gets_a_cell_through(name: str, arm: str, pool: Pool, model: Path, tmp_path: Path) -> None:
    try:
        find_program(find_gateway(name).program)
    except MissingProgram as missing:
        pytest.skip(str(missing))
    policies = find_gateway(name).policies
    policy = AFFINE[name] if AFFINE[name] in policies else policies[0]
    cell = live_cell(talks(12, 0.3), tmp_path, Named(policy, f"{name} {policy}", gateway=name, arm=arm))
    run_measured_cell(cell, place(pool, tokenizer=str(model)), tmp_path / "cell")
    facts = json.loads((tmp_path / "cell/cell.json").read_text())
    rows = pq.read_table(tmp_path / "cell/attempts.parquet").to_pylist()
    assert [(row["outcome"], row["error"]) for row in rows] == [("ok", "")] * 36
    assert {row["replica_id"] for row in rows} == {row["router_try"] for row in rows} == {None}, "an opaque gateway"
    gateway = facts["gateway"]
    assert (gateway["name"], gateway["arm"], gateway["policy"]) == (name, arm, policy)
    assert gateway["version"]
    assert isinstance(gateway["rewriting"], list)
    assert gateway["memory_bytes"] > 1e6
    samples = pq.read_table(tmp_path / "cell/gateway_samples.parquet").to_pylist()
    assert len(samples) >= 5
    assert samples[-1]["cpu_s"] >= samples[0]["cpu_s"] >= 0
    assert pq.read_table(tmp_path / "cell/decisions.parquet").num_rows == 0
