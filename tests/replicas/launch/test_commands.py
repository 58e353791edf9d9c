"""A spec becomes a command line: what each engine calls each limit, and what a bad spec is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replicas.launch import sglang, vllm
from replicas.launch.replica import RemoteSpec
from replicas.launch.spec import Command, EngineSpec, kv_bytes_per_token
from replicas.launch.tiny_model import write_tiny_model

MakeCommand = Callable[[EngineSpec], Command]
LIMITS: dict[str, Any] = {
    "context_tokens": 2048,
    "max_running": 8,
    "max_batched_tokens": 512,
    "max_queued": 12,
    "block_tokens": 64,
}


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    model = write_tiny_model(tmp_path / "tiny", vocabulary=300)
    return EngineSpec(engine="vllm", python=Path("python3"), model=model, weights="dummy", port=8100)


def option(command: Command, name: str) -> str | None:
    """Its last value, which is the one that counts."""
    argv = list(command.argv)
    return None if name not in argv else argv[len(argv) - argv[::-1].index(name)]


def test_each_limit_has_its_name_in_vllm(spec: EngineSpec) -> None:
    found = vllm.command(replace(spec, **LIMITS, kv_tokens=4096, drain_s=30.0))
    names = ("max-model-len", "max-num-seqs", "max-num-batched-tokens", "max-num-queued-reqs", "block-size")
    assert [option(found, f"--{name}") for name in names] == ["2048", "8", "512", "12", "64"]
    assert option(found, "--kv-cache-memory-bytes") == str(4096 * 1024), "2 layers x 2 KV heads x 32 x 2 x 4 bytes"
    assert option(found, "--shutdown-timeout") == "30"
    assert (option(found, "--load-format"), option(found, "--port"), found.port) == ("dummy", "8100", 8100)


def test_each_limit_has_its_name_in_sglang(spec: EngineSpec) -> None:
    found = sglang.command(replace(spec, engine="sglang", **LIMITS, kv_tokens=4096))
    names = ("context-length", "max-running-requests", "chunked-prefill-size", "max-queued-requests", "page-size")
    assert [option(found, f"--{name}") for name in names] == ["2048", "8", "512", "12", "64"]
    assert option(found, "--max-total-tokens") == "4096"
    assert {"--enable-metrics", "--enable-cache-report"} <= set(found.argv)


@pytest.mark.parametrize(("engine", "command"), [("vllm", vllm.command), ("sglang", sglang.command)])
def test_what_is_not_given_is_left_to_the_engine(engine: str, command: MakeCommand, spec: EngineSpec) -> None:
    on_card = command(replace(spec, engine=engine, gpus=("0",), weights="model"))
    told = [word for word in on_card.argv if word.startswith("--")]
    assert not {"--load-format", "--dtype", "--device", "--block-size", "--max-model-len", "--context-length"} & set(told)


@pytest.mark.parametrize(("engine", "command"), [("vllm", vllm.command), ("sglang", sglang.command)])
def test_cards_are_assigned_in_pci_order_and_several_make_a_tensor_parallel_replica(
    engine: str, command: MakeCommand, spec: EngineSpec
) -> None:
    found = command(replace(spec, engine=engine, gpus=("2", "3")))
    assert (found.environment["CUDA_VISIBLE_DEVICES"], found.environment["CUDA_DEVICE_ORDER"]) == ("2,3", "PCI_BUS_ID")
    assert (option(found, "--tensor-parallel-size") or option(found, "--tp-size")) == "2"
    on_cpu = command(replace(spec, engine=engine)).environment
    assert "CUDA_VISIBLE_DEVICES" not in on_cpu
    assert (on_cpu["OMP_NUM_THREADS"], found.environment.get("OMP_NUM_THREADS")) == ("1", None)
    assert command(replace(spec, engine=engine, gpus=("0",), threads=4)).environment["OMP_NUM_THREADS"] == "4"


def test_the_users_own_options_and_variables_come_last(spec: EngineSpec) -> None:
    own = replace(spec, block_tokens=32, arguments=("--block-size", "64"), environment={"OMP_NUM_THREADS": "2"})
    found = vllm.command(own)
    assert (option(found, "--block-size"), found.environment["OMP_NUM_THREADS"]) == ("64", "2")


def test_vllms_kv_pool_is_that_of_one_card(spec: EngineSpec) -> None:
    found = vllm.command(replace(spec, gpus=("0", "1"), kv_tokens=4096))
    assert option(found, "--kv-cache-memory-bytes") == str(4096 * 512 // 2), "in bfloat16, half of the heads each"


def test_a_vllm_pair_talks_over_a_connector_and_a_side_channel_of_its_own(spec: EngineSpec) -> None:
    found = vllm.command(replace(spec, role="prefill", kv_transfer="NixlConnector", transfer_port=5601))
    assert json.loads(option(found, "--kv-transfer-config") or "") == {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    assert found.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5601"
    given = '{"kv_connector": "P2pNcclConnector", "kv_role": "kv_producer"}'
    assert option(vllm.command(replace(spec, kv_transfer=given)), "--kv-transfer-config") == given


@pytest.mark.parametrize(("role", "bootstrap"), [("prefill", "8998"), ("decode", None)])
def test_an_sglang_pair_meets_at_the_prefills_bootstrap_port(role: str, bootstrap: str | None, spec: EngineSpec) -> None:
    found = sglang.command(replace(spec, engine="sglang", role=role, kv_transfer="nixl", transfer_port=8998))
    assert (option(found, "--disaggregation-mode"), option(found, "--disaggregation-bootstrap-port")) == (role, bootstrap)
    assert option(found, "--disaggregation-transfer-backend") == "nixl"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "tgi"}, "engine is 'tgi'; allowed: vllm, sglang"),
        ({"role": "both sides"}, "role is 'both sides'; allowed: both, prefill, decode"),
        ({"weights": "none"}, "weights is 'none'; allowed: model, dummy"),
        ({"max_queued": 0}, "max_queued is 0; allowed: 1 or more, or nothing"),
        ({"port": 65_536}, "port is 65536; allowed: 0 to 65535"),
        ({"kv_bytes": 5, "kv_tokens": 5}, "kv_bytes is 5: allowed for vllm only, and not together with kv_tokens"),
        ({"kv_bytes": 5, "engine": "sglang"}, "kv_bytes is 5: allowed for vllm only"),
        ({"role": "decode"}, "role is 'decode': kv_transfer and transfer_port must be given with it"),
        ({"python": Path("/no/such/python")}, "python is '/no/such/python': no such program"),
        ({"model": Path("/no/model")}, "model is '/no/model': no folder with a config.json"),
    ],
)
def test_a_bad_spec_is_told_in_one_line(changes: dict[str, Any], told: str, spec: EngineSpec) -> None:
    with pytest.raises(ValueError, match="^" + told) as error:
        replace(spec, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a:1", "http://a:1/v1"])
def test_a_remote_replica_is_an_address_without_a_path(url: str) -> None:
    with pytest.raises(ValueError, match="allowed: http://HOST:PORT"):
        RemoteSpec(url=url, model="m")


def test_a_remote_replica_is_of_a_known_engine() -> None:
    with pytest.raises(ValueError, match="engine is 'tgi'; allowed: vllm, sglang, served, or nothing"):
        RemoteSpec(url="http://a:1", model="m", engine="tgi")


def test_kv_bytes_are_not_guessed_for_caches_of_another_kind(spec: EngineSpec) -> None:
    assert kv_bytes_per_token(spec.model, 4) == 1024
    config = json.loads((spec.model / "config.json").read_text())
    for odd, told in (
        ({"kv_lora_rank": 512}, "no plain attention"),
        ({"layer_types": ["linear_attention"]}, "no plain attention"),
    ):
        (spec.model / "config.json").write_text(json.dumps({**config, **odd}))
        with pytest.raises(ValueError, match=told):
            kv_bytes_per_token(spec.model, 4)
    del config["num_hidden_layers"]
    (spec.model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has no num_hidden_layers"):
        kv_bytes_per_token(spec.model, 4)
