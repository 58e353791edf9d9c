"""The command line of our router for a cell: policy and guards arrive as they were, pairs in their roles."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.serve_router import named
from replay.cell import Named
from replay.measured import Place
from replay.measured.own_router import router_options
from replicas.launch.api import EngineApi
from replicas.launch.pool import Pool
from replicas.launch.replica import Replica
from replicas.profile import EngineProfile
from tests.replay.scenes import cell


def options(folder: Path, dialect: str = "vllm", **changes: Any) -> list[tuple[str, str]]:
    """(option, value) in order; flags have no value."""
    a_cell = replace(cell(), **changes)
    replicas = tuple(Replica(i, dialect, EngineApi(f"http://h:{i + 1}", "m")) for i in range(a_cell.pool.replicas))
    words = router_options(a_cell, Place(Pool(replicas), "m", ("router",)), folder)
    return [(word, words[i + 1] if i + 1 < len(words) else "") for i, word in enumerate(words) if word.startswith("--")]


def test_parameters_arrive_as_they_were(tmp_path: Path) -> None:
    parameters = {"text": "two words", "number": "0.5", "deep": {"a b": [1, None, True]}, "share": 0.25}
    found = options(tmp_path, router=Named("random", "r", parameters), guards=(Named("retry", "g", {"budget": 0.1}),))
    (policy,) = [value for name, value in found if name == "--policy"]
    assert named(policy) == ("random", parameters)
    assert [value for name, value in found if name == "--guard"] == ["retry budget=0.1"]
    assert ("--observe-every", "0.5") in found
    assert ("--seed", "1") in found
    assert ("--profile", "h100-vllm-llama8b") in found


def test_changed_fields_of_the_profile_come_in_a_file(tmp_path: Path) -> None:
    pool = replace(cell().pool, changes={"max_running": 7})
    (path,) = [value for name, value in options(tmp_path, pool=pool) if name == "--profile"]
    assert EngineProfile.from_json(json.loads(Path(path).read_text())).max_running == 7
    assert "--profile" not in dict(options(tmp_path, pool=replace(pool, profile="", changes={})))


def test_a_pairs_replicas_have_their_roles(tmp_path: Path) -> None:
    pool = replace(cell().pool, replicas=3, roles=("prefill", "prefill", "decode"))
    found = options(tmp_path, "sglang", pool=pool)
    assert found[1:5] == [
        ("--prefill", "http://h:1"), ("--prefill", "http://h:2"), ("--decode", "http://h:3"), ("--pairs", "sglang"),
    ]  # fmt: skip
