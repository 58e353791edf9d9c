"""Live pools in a study file: what they may say, and the one line that names each key that is wrong."""

from pathlib import Path

import pytest

from flows.load_study import load_study
from flows.study import Study, StudyError
from replicas.launch.tiny_model import write_tiny_model

LIVE = "pool={live: {engine: vllm, replicas: 2}}"
VLLM = "pool.live.engine=vllm"
REMOTE = "pool={live: {engine: vllm, urls: ['http://a:1', 'http://b:1'], model: m, context_tokens: 4096}}"


def served(*changes: str) -> Study:
    return load_study("live-served", list(changes))


def test_a_live_pool_has_its_groups_replicas_and_a_profile_only_where_it_says_so() -> None:
    study = load_study("live-served", [LIVE])
    pool = study.pools[0]
    assert (pool.replicas, pool.profile, pool.has_twin, study.is_live) == (2, None, False, True)
    named = load_study("live-served", [LIVE, "pool.profile=h100-vllm-llama8b"]).pools[0]
    assert (named.has_twin, named.title) == (True, "2 × vllm")
    assert not load_study("live-served", [LIVE, "pool.profile=h100-vllm-llama8b", "pool.twin=false"]).pools[0].has_twin
    assert served().pools[0].has_twin


def test_limits_of_the_engine_are_those_of_its_twin_beside_the_changes() -> None:
    pool = served("pool.live.max_running=9", "pool.changes={max_queued: 7}").pools[0]
    assert pool.all_changes == {"context_tokens": 2048, "max_running": 9, "kv_blocks": 8192 // 16, "max_queued": 7}
    assert pool.spec().changes == pool.all_changes
    vllm = served("pool={profile: h100-vllm-llama8b, live: {engine: vllm, kv_tokens: 4096, block_tokens: 32}}").pools[0]
    assert vllm.all_changes == {"context_tokens": 2048, "block_tokens": 32, "kv_blocks": 127}  # one block is vLLM's own


def test_several_pools_and_mixed_engines_make_one_study() -> None:
    mixed = "{label: mixed, live: [{engine: vllm}, {engine: sglang, replicas: 2}]}"
    study = served(f"pool=[{mixed}, {{live: {{engine: served}}}}]")
    assert [(pool.title, pool.replicas, pool.has_twin) for pool in study.pools] == [("mixed", 3, False), ("1 × served", 1, True)]
    assert study.runs_a_seed == 2 + 2 + 1  # repeats on either pool, and a twin
    assert Study.model_validate_json(study.model_dump_json()) == study


def test_a_resolved_live_study_read_back_is_the_same(tmp_path: Path) -> None:
    for name in ("live-served", "live-cpu"):
        study = load_study(name)
        file = tmp_path / f"{name}.yaml"
        file.write_text(study.to_yaml())
        assert load_study(str(file)) == study


def test_what_stands_in_front_is_named_and_labelled() -> None:
    routers = "[random, direct, {name: random, gateway: nginx}, {name: random, gateway: nginx, arm: bare, label: x}]"
    named = [router.named() for router in served(f"routers={routers}").routers]
    assert [(n.name, n.label, n.gateway, n.arm) for n in named] == [
        ("random", "random", "", ""),
        ("round_robin", "direct", "direct", ""),
        ("random", "nginx: random", "nginx", "default"),
        ("random", "x", "nginx", "bare"),
    ]


def test_prompts_fit_what_every_pool_holds(tmp_path: Path) -> None:
    assert served().pools[0].context_tokens == 2048
    assert load_study("live-served", [LIVE]).pools[0].context_tokens == 2048
    assert load_study("live-served", [REMOTE]).pools[0].context_tokens == 4096
    folder = write_tiny_model(tmp_path / "model", context_tokens=3000)
    own = load_study("live-served", [LIVE, f"pool.live.model={folder}"]).pools[0]
    assert own.context_tokens == 3000


def test_a_live_client_may_watch_single_chunks_where_nothing_is_simulated() -> None:
    watch = "client.0.idle_timeout_s=2"
    assert served(watch, "pool.twin=false").client[0].idle_timeout_s == 2
    with pytest.raises(StudyError, match=r"idle_timeout_s = 2\.0: must be null for simulated pools \(2 × served's twin\)"):
        served(watch)


REFUSED = [
    # changes, what the line must say
    (["pool.live.engine=tgi"], ["pool.live.engine = 'tgi'", "'vllm', 'sglang' or 'served'"]),
    (["pool.live.engin=vllm"], ["pool.live.engin", "unknown key", "did you mean 'engine'"]),
    (["pool.live.replicas=0"], ["pool.live.replicas = 0", "greater than or equal to 1"]),
    (["pool.live.threads=0"], ["pool.live.threads = 0"]),
    (["pool.live.kv_tokens=lots"], ["pool.live.kv_tokens = 'lots'", "integer"]),
    (["pool.live=[]"], ["pool.live = []", "at least 1"]),
    (["pool.live=vllm"], ["pool.live = 'vllm'", "mapping of keys: engine, replicas"]),
    (["pool=[]"], ["pool = []", "at least 1"]),
    (["pool=[{replicas: 0}]"], ["pool.0.replicas = 0"]),
    (["pool.replicas=3"], ["replicas is 3", "the live groups have 2"]),
    (["pool.roles=[both, both]"], ["roles are for simulated pools"]),
    (["pool.live.gpus=[[0]]"], ["gpus is not for served replicas"]),
    (["pool.live.role=decode"], ["role and model must be left out"]),
    (["pool.live.kv_bytes=9"], ["kv_bytes is not for served"]),
    ([LIVE, "pool.live.gpus=[[0]]"], ["gpus must be empty or name the cards of each of the 2 replicas"]),
    ([LIVE, "pool.live.role=decode"], ["role prefill or decode and kv_transfer", "need each other"]),
    ([LIVE, "pool.live.kv_tokens=9", "pool.live.kv_bytes=9"], ["kv_bytes is for vllm only, and not together"]),
    ([LIVE, "pool.live.api_key_variable=KEY"], ["api_key_variable is for remote"]),
    ([LIVE, "pool.twin=true"], ["twin needs a profile"]),
    ([LIVE, "pool.changes={max_running: 3}"], ["this live pool has no profile"]),
    ([REMOTE, "pool.live.max_running=3"], ["max_running cannot be set for remote replicas"]),
    ([REMOTE, "pool.live.urls=['http://a:1/v1']"], ["pool.live.urls", "without a path"]),
    ([REMOTE, "pool.live.urls=['http://a:1', 'http://a:1']"], ["pool.live.urls", "twice"]),
    ([REMOTE, "pool.live.replicas=3"], ["replicas is 3, and there are 2 urls"]),
    (["pool={live: {engine: vllm, urls: ['http://a:1']}}"], ["urls need model", "context_tokens"]),
    (["pool.live=[{engine: served}, {engine: vllm}]", "pool.replicas=2"], ["served replicas make a pool of their own"]),
    (["pool=[{live: {engine: served}}, {live: {engine: served}}]"], ["'1 × served' appears twice", "own label"]),
    (["pool={twin: true}"], ["twin is for live pools"]),
    (["pool={profile: null}"], ["profile must not be null"]),
    (["pool.live.kv_tokens=1024"], ["pool.live", "its limits on its profile", "kv_blocks"]),
    (["pool.changes={context_tokens: 9}"], ["changes: context_tokens is a limit of live already"]),
    (["pool.changes={kv_blocks: 900}"], ["changes: kv_blocks is a limit of live already"]),
    (["pool.profile=h200"], ["pool.profile = 'h200'", "shipped"]),
    (["load.fraction=0.5"], ["load.fraction = 0.5", "give load.rps"]),
    (
        ["pool=[{label: a}, {label: b}]", "routers=[random]", "repeats=1", "load.fraction=0.5"],
        ["all pools of a study get the same"],
    ),
    (["pool={}", "routers=[random]"], ["repeats = 2", "must be 1 for simulated pools"]),
    (["pool={}", "repeats=1"], ["routers.2.gateway = 'direct'", "pool is simulated"]),
    (["routers.0={name: random, gateway: ngin}"], ["routers.0.gateway = 'ngin'", "did you mean 'nginx'", "haproxy"]),
    (["routers.0={name: cache_aware, gateway: nginx}"], ["routers.0.name = 'cache_aware'", "nginx has no such policy"]),
    (["routers.0={name: random, gateway: nginx, parameters: {x: 1}}"], ["routers.0.parameters = {'x': 1}", "processes"]),
    (["routers.0={name: random, gateway: nginx, arm: best}"], ["routers.0.arm = 'best'", "'default' or 'bare'"]),
    (["routers.0={name: random, arm: bare}"], ["arm is for a real gateway only"]),
    (["routers.0={name: random, gateway: direct}"], ["gateway direct takes no policy"]),
    (["routers.0=oracle"], ["routers.0.parameters", "oracle"]),
    (["routers.0={name: kv_cost, parameters: {index: exact}}"], ["routers.0.parameters", "KV events", "approximate"]),
    (["guards=[{label: again, guards: [retry]}]"], ["guards.0 = 'again'", "'direct' is none"]),
    (["observation.loss=0.1"], ["observation.loss = 0.1", "must be 0 for live pools"]),
    (["observation.routers=2"], ["observation.routers = 2", "must be 1 for live pools"]),
    (["trigger={kind: slow, d_s: 2}"], ["trigger.kind = 'slow'", "allowed with live pools: pause, kill, flush"]),
    (["events=[{at_s: 1, kind: blackout}]"], ["events.0.kind = 'blackout'", "real engine"]),
    ([REMOTE, "events=[{at_s: 1, kind: kill, for_s: 1}]"], ["events.0.kind = 'kill'", "remote"]),
    (["events=[{at_s: 1, kind: kill, for_s: 4}, {at_s: 2, kind: pause, for_s: 1}]"], ["events", "one at a time"]),
    (["events=[{at_s: 1, kind: kill, replica_id: 2}]"], ["events.0.replica_id = 2", "from 0 to 1"]),
    (["workload.max_context_tokens=4096"], ["workload.max_context_tokens = 4096", "2048"]),
    ([LIVE, "workload.max_context_tokens=4096"], ["workload.max_context_tokens = 4096", "must be at most 2048"]),
    ([LIVE, "pool.live.model=/no/such"], ["pool.live", "/no/such", "max_position_embeddings"]),
    (["repeats=0"], ["repeats = 0", "greater than or equal to 1"]),
    (["senders=0"], ["senders", "greater than or equal to 1|auto"]),
    (["senders=many"], ["senders", "'auto'|integer"]),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[" ".join(r[0])[:80] for r in REFUSED])
def test_a_live_study_that_cannot_run_is_one_line(changes: list[str], said: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        load_study("live-served", changes)
    line = str(caught.value)
    assert "\n" not in line
    for part in said:
        assert any(option in line for option in part.split("|")), line
