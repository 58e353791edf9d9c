"""A study is a preset or a YAML file plus changes; anything that could not run is refused in one line that names the key."""

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from flows.fault_study import holds_faults
from flows.load_study import load_study, preset_names
from flows.study import Client, Study, StudyError
from replay.retry import RetryRule
from routers.policies import POLICIES


def test_every_preset_is_a_study() -> None:
    assert {"grid", "quickstart", "smoke", "live-served", "live-cpu"} <= set(preset_names())
    for name in preset_names():
        assert holds_faults(name) or load_study(name).name == name


def test_quickstart_is_the_grid_that_the_readme_promises() -> None:
    study = load_study("quickstart")
    assert (study.pools[0].replicas, study.trigger.described()["k"], study.trigger.d_s, len(study.seeds)) == (4, 3.0, 20.0, 5)
    assert [r.named().label for r in study.routers].count("oracle") == 1
    assert sum(r.name == "cache_aware" for r in study.routers) == 2
    assert any(c.max_attempts is None and not c.cancel and c.budget is None for c in study.client)
    assert study.planned_requests(1.0) == pytest.approx((study.horizon_s + 40) * study.arms * 5)


def test_grid_names_every_policy_that_serves_a_plain_pool_and_sets_a_retry_budget_beside_none() -> None:
    study = load_study("grid")
    assert sorted(r.name for r in study.routers) == sorted(name for name, policy in POLICIES.items() if not policy.knows_roles)
    assert [[g.name for g in chosen.guards] for chosen in study.guards] == [[], ["retry", "timeout"]]
    assert study.guards[1].guards[0].parameters["budget"] == 0.2
    assert len(study.seeds) == 3


def test_a_client_of_the_study_is_a_retry_rule_field_by_field() -> None:
    assert set(Client.model_fields) == {f.name for f in fields(RetryRule)}
    assert Client(name="x").rule() == RetryRule("x")


ACCEPTED = [
    ("load.rps=1e1", lambda s: (s.load.rps, s.load.fraction), (10.0, None)),
    ("load={rps: 3}", lambda s: s.load.rps, 3.0),
    ("seeds=[7, 9]", lambda s: s.seeds, [7, 9]),
    ("seeds=3", lambda s: s.seeds, [1, 2, 3]),
    ("routers=[oracle, {name: random, label: dice}]", lambda s: [r.named().label for r in s.routers], ["oracle", "dice"]),
    ("routers.0.label=first", lambda s: s.routers[0].named().label, "first"),
    ("routers.2=random", lambda s: s.routers[2].name, "random"),
    ("client.0.budget=0.2", lambda s: s.client[0].budget, 0.2),
    ("client.0.max_attempts=null", lambda s: s.client[0].max_attempts, None),
    ("guards.0.guards=[retry]", lambda s: s.guards[0].guards[0].name, "retry"),
    ("slo.ttft_s=null", lambda s: s.slo.ttft_s, None),
    ("client=[&c {name: a, cancel: false}, {<<: *c, name: b}]", lambda s: [c.cancel for c in s.client], [False, False]),
    ("routers.2.name=random", lambda s: s.routers[2].name, "random"),
    ("trigger.kind=placebo", lambda s: s.trigger.described(), {"kind": "placebo", "k": 1.0, "d_s": 5.0}),
    ("pool.changes={max_running: 8}", lambda s: s.pools[0].spec().changes, {"max_running": 8}),
]


@pytest.mark.parametrize(("change", "read", "value"), ACCEPTED, ids=[a[0] for a in ACCEPTED])
def test_set_changes_one_key(change: str, read: object, value: object) -> None:
    assert callable(read)
    assert read(load_study("smoke", [change])) == value


REFUSED = [
    # change, what the line must say
    ("lod.rps=3", ["lod", "unknown key", "did you mean 'load'", "workload, load, phases"]),
    ("load.fractoin=0.5", ["load.fractoin = 0.5", "did you mean 'fraction'", "fraction, rps"]),
    ("client.0.backof_s=1", ["client.0.backof_s", "did you mean 'backoff_s'"]),
    ("load.fraction=0", ["load.fraction = 0", "greater than 0"]),
    ("load.fraction=lots", ["load.fraction = 'lots'", "number"]),
    ("load={}", ["load", "exactly one of fraction, rps"]),
    ("load={rps: 1, fraction: 1}", ["load", "exactly one of fraction, rps"]),
    ("load.rps=1e9", ["load.rps = 1000000000.0", "less than or equal to 1000000"]),
    ("load.rps=1e6", ["plans", "at most", "lower load, phases, arms or seeds"]),
    ("phases.steady_s=-1", ["phases.steady_s = -1", "greater than 0"]),
    ("phases.steady_s=.nan", ["phases.steady_s = nan", "finite"]),
    ("phases.steady_s=.inf", ["phases.steady_s = inf", "finite"]),
    ("phases.drain_s=true", ["phases.drain_s = True", "number"]),
    ("trigger.k=0.5", ["trigger.k = 0.5", "expected ≥ 1 and ≤ 1000"]),
    ("trigger.kind=spik", ["trigger.kind = 'spik'", "did you mean 'spike'", "placebo"]),
    ("trigger.width=2", ["trigger.width = 2", "no parameter of 'spike'; allowed: d_s, k"]),
    ("trigger={kind: kill, replica_id: 7}", ["trigger.replica_id = 7", "from 0 to 1"]),
    ("trigger={kind: slow, factor: 0.1}", ["trigger.factor = 0.1", "a number from 1 to 1000"]),
    ("events=[{at_s: 5, kind: kil}]", ["events.0.kind = 'kil'", "kill"]),
    ("events=[{at_s: 1e6, kind: flush}]", ["events.0.at_s = 1000000.0", "last phase's end"]),
    ("events=[{at_s: 5, kind: flush, replica_id: 2}]", ["events.0.replica_id = 2", "from 0 to 1"]),
    ("workload.select={turns: [3, 1]}", ["workload.select.turns = [3, 1]", "least is above the most"]),
    ("workload.select={tuns: [3, 1]}", ["workload.select.tuns", "unknown; allowed: language"]),
    ("session={mode: absolute, after_failure: quit}", ["session", "needs mode think"]),
    ("pool.replicas=0", ["pool.replicas = 0", "greater than or equal to 1"]),
    ("pool.replicas=2.5", ["pool.replicas = 2.5", "integer"]),
    ("pool.profile=h200", ["pool.profile = 'h200'", "shipped: ", "h100-vllm-llama8b"]),
    ("pool.changes={kv_block: 3}", ["pool.changes", "'kv_block'", "kv_blocks"]),
    ("pool.changes={kv_blocks: lots}", ["pool.changes.kv_blocks = 'lots'"]),
    ("pool.changes={kv_blocks: -4}", ["pool.changes.kv_blocks = -4", "at least 1"]),
    ("pool.roles=[prefill]", ["pool", "one role for each of the 2 replicas"]),
    ("routers=[]", ["routers = []", "at least 1"]),
    ("routers=[random, random]", ["routers", "'random' appears twice"]),
    ("routers.0=rond_robin", ["routers.0.name = 'rond_robin'", "unknown policy", "did you mean 'round_robin'", "power_of_two"]),
    ("routers.0=[1]", ["routers.0 = [1]", "name, label, parameters"]),
    ("routers.9=random", ["routers.9", "list of 2", "from 0 to 2"]),
    ("routers.0.parameters={r: 3}", ["routers.0.parameters = {'r': 3}", "round_robin"]),
    ("guards.0.guards=[retri]", ["guards.0.guards.0.name = 'retri'", "unknown guard", "did you mean 'retry'"]),
    ("guards.0.guards=[{name: retry, parameters: {x: 1}}]", ["guards.0.guards.0.parameters", "'x'", "max_attempts"]),
    ("client.0={name: a, max_attempts: null, backoff_s: 0}", ["client.0", "backoff_s > 0"]),
    ("client.0.jitter=2", ["client.0.jitter = 2", "less than or equal to 1"]),
    ("client.0.cancel=maybe", ["client.0.cancel = 'maybe'", "boolean"]),
    ("client=[{max_attempts: 1}]", ["client.0.name", "is required"]),
    ("workload.trace=missing.csv", ["workload.trace = 'missing.csv'", "no such file", "synthetic"]),
    ("workload.source=azur", ["workload.source = 'azur'", "azure_llm_2023"]),
    ("workload.arrival.process=poison", ["workload.arrival.process = 'poison'", "did you mean 'poisson'", "gamma"]),
    ("workload.arrival={process: gamma, cv: -2}", ["workload.arrival.cv = -2", "a number > 0"]),
    ("workload.arrival.cv=2", ["workload.arrival.cv = 2", "no parameter of 'poisson'"]),
    ("workload.max_context_tokens=10000000", ["workload.max_context_tokens = 10000000", "131072"]),
    ("slo={ttft_s: null, tpot_s: null}", ["slo", "at least one"]),
    ("seeds=0", ["seeds = 0", "from 1 to 1000"]),
    ("seeds=[1, 1]", ["seeds = [1, 1]", "twice"]),
    ("seeds=[-1]", ["seeds.0 = -1", "greater than or equal to 0"]),
    ("name=../x", ["name = '../x'"]),
    ("name.x=1", ["name", "holds no keys"]),
    ("noequals", ["--set noequals", "key.path=value"]),
    ("load={rps: 1", ["--set load={rps: 1", "not valid YAML"]),
    ("load={rps: 1, rps: 2}", ["'rps' is given twice"]),
    ("load={[1]: 2}", ["not valid YAML", "cannot be a key"]),
    ("load=" + "[" * 50_000, ["nested too deeply"]),
    ("a" + ".a" * 5000 + "=1", ["5001 deep"]),
    ("0=3", ["--set 0=3: 0 = 3", "unknown key"]),
    ("load.rps=0.01", ["0.01 rps", "phases.steady_s = 20", "at least 10"]),
    ("seeds=[0x" + "f" * 5000 + "]", ["seeds.0 = (a huge number)"]),
    ("pool.changes={kv_blocks: 100}", ["pool.changes.kv_blocks = 100", "context_tokens 131072", "must fit"]),
    ("pool.changes={context_tokens: 99999999}", ["pool.changes", "kv_blocks = 28934", "must fit"]),
    ("pool.changes={max_running: 0}", ["pool.changes.max_running = 0", "at least 1"]),
    ("pool.changes={max_batched_tokens: 0}", ["pool.changes.max_batched_tokens = 0", "at least 1"]),
    ("pool.changes={max_queued: x}", ["pool.changes.max_queued = 'x'", "whole number", "null"]),
    ("pool.changes={max_queued: 1.5}", ["pool.changes.max_queued = 1.5", "whole number"]),
    ("pool.changes={frontend_s: .nan}", ["pool.changes.frontend_s = nan", "a number"]),
    ("pool.changes={provenance: {a: 2024-01-01}}", ["pool.changes.provenance", "plain JSON"]),
    ("routers=[pd_pair]", ["routers.0 = 'pd_pair'", "prefill and decode"]),
    ("pool.roles=[prefill, decode]", ["routers.0 = 'round_robin'", "use pd_pair"]),
    ("workload.source=mooncake", ["workload.source = 'mooncake'", "format of a file"]),
    ("workload.deadline_s=1e-9", ["workload.deadline_s = 1e-09", "greater than or equal to"]),
    ('client.0.name="a\\nb"', ["client.0.name", "one line of text"]),
    ('report.title="a\\0"', ["report.title", "without control characters"]),
    ("routers.0.label=' '", ["routers.0.label", "one line of text"]),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_bad_value_is_one_line_with_key_value_and_what_is_allowed(change: str, said: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        load_study("smoke", [change])
    line = str(caught.value)
    assert "\n" not in line
    for part in said:
        assert any(option in line for option in part.split("|")), line


def test_a_file_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nrouters:\n  - random\n  - {name: oracle}\n  - {name: rando}\nslo:\n  ttft_s: -2\n")
    with pytest.raises(StudyError, match=r"mine\.yaml:7: slo\.ttft_s = -2: must be greater than 0"):
        load_study(str(file))
    file.write_text(file.read_text().replace("-2", "2"))
    with pytest.raises(StudyError, match=r"mine\.yaml:5: routers\.2\.name = 'rando': unknown policy; did you mean 'random'"):
        load_study(str(file))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{key}: &{key} [{', '.join(['*' + before] * 9)}]\n" for before, key in pairwise("abcdefgh")
)
BAD_FILES = [
    (BOMB, r"aliases stand for more than 100000 values"),
    ("pool: &p {changes: *p}\n", r":1: not valid YAML"),
    ("routers: [random\n", r":2: not valid YAML"),
    ("routers: [random]\nrouters: [oracle]\n", r":2: not valid YAML: key 'routers' is given twice"),
    ("- random\n", r"a study is a mapping"),
    ("", r"a study is a mapping"),
    ("name: x\n", r"routers: is required"),
    ("routers: !!python/object/apply:os.system [ls]\n", r"not valid YAML"),
]


@pytest.mark.parametrize(("text", "said"), BAD_FILES)
def test_a_file_that_is_no_study(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(StudyError, match=said):
        load_study(str(file))


def test_an_unknown_study_lists_the_presets() -> None:
    with pytest.raises(StudyError, match=r"STUDY = 'quickstat': no such file, nor a preset; presets: .*grid, .*smoke"):
        load_study("quickstat")


def test_seed_shifts_all_seeds_and_keeps_their_number() -> None:
    assert load_study("quickstart", seed=100).seeds == [100, 101, 102, 103, 104]
    with pytest.raises(StudyError, match="--seed"):
        load_study("smoke", seed=2**31)


def test_a_resolved_study_read_back_is_the_same_study(tmp_path: Path) -> None:
    """What a run folder holds can be run again, and says that it is the same."""
    study = load_study("smoke", ["load.rps=4", "client.0.max_attempts=null"], seed=3)
    file = tmp_path / "study.yaml"
    file.write_text(study.to_yaml())
    again = load_study(str(file))
    assert again == study
    assert again.resolved() == yaml.safe_load(file.read_text())


def test_the_hash_moves_with_content_and_only_with_it() -> None:
    one = load_study("smoke").resolved()
    assert load_study("smoke").resolved() == one
    for change in ("load.rps=7", "seeds=3", "pool.changes={kv_blocks: 9000}", "report.title=other"):
        assert load_study("smoke", [change]).resolved()["content_hash"] != one["content_hash"]
    assert list(Study.model_fields) == [key for key in one if not key.endswith("_hash")]
