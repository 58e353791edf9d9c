"""The tables of live runs: who stood in front, what was void and why, repeats within their seed, twins, gaps in what was seen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reports.page import build_page
from reports.tables import build_tables
from tests.reports.live_folder import ARMS, SGLANG, TWIN, VLLM, LiveArm, make_live_run

Connection = duckdb.DuckDBPyConnection
ONE = LiveArm("round_robin")


@pytest.fixture(scope="module")
def tables(live_run: Path) -> Iterator[Connection]:
    with duckdb.connect(str(live_run / "results.duckdb"), read_only=True) as con:
        yield con


def opened(run: Path) -> Connection:
    return duckdb.connect(str(build_tables(run)), read_only=True)


def test_a_cell_says_what_stood_in_front_and_who_served_it(tables: Connection) -> None:
    found = tables.execute("""SELECT DISTINCT router, gateway, arm, driver, pool_engine, pool FROM cells
                              WHERE router LIKE 'nginx%' OR policy = 'cache_aware' ORDER BY ALL""").fetchall()
    assert found == [
        ("cache_aware", "", "", "virtual", "simulated", TWIN),
        ("cache_aware", "", "", "wall", "vllm", VLLM),
        ("nginx: round_robin", "nginx", "default", "wall", "vllm", VLLM),
    ]
    assert tables.execute("SELECT DISTINCT repeat FROM cells WHERE driver = 'wall' ORDER BY 1").fetchall() == [(0,), (1,)]


def test_repeats_are_averaged_within_their_seed_before_seeds_are_compared(tables: Connection) -> None:
    """2 seeds × 2 repeats are 2 values: of the 4 runs the interval would be too narrow."""
    arm = "router = 'direct' AND pool = '4 × vllm' AND phase = 'steady'"
    n, mean, low = tables.execute(f"SELECT n_seeds, mean, low FROM arms WHERE {arm} AND metric = 'ttft_p50_s'").fetchall()[0]
    a, b = (v for (v,) in tables.execute(f"SELECT avg(ttft_p50_s) FROM cells WHERE {arm} GROUP BY seed ORDER BY seed").fetchall())
    assert n == 2
    assert mean == pytest.approx((a + b) / 2)
    assert low == pytest.approx((a + b) / 2 - 12.7062 * abs(a - b) / 2, rel=1e-4)  # t of one degree of freedom


def test_shares_of_runs_count_a_seeds_repeats_once(tables: Connection) -> None:
    """4 of 4 runs came back, but there are 2 seeds: Wilson's interval for 2 of 2 begins at 34%."""
    shares = tables.execute("SELECT DISTINCT n_seeds, mean, round(low, 2) FROM arms WHERE metric = 'recovered_share'").fetchall()
    assert shares == [(2, 1.0, 0.34)]


def test_repeats_differ_by_what_was_put_into_them(tmp_path: Path) -> None:
    """One seed, the second run 10 ms later in every first token: the medians differ by 10 ms more or less."""
    with opened(make_live_run(tmp_path / "run", [replace(ONE, noise_s=0.0)], seeds=(1,), repeats=1)) as con:
        assert con.execute("SELECT count(*) FROM repeats").fetchall() == [(0,)]
    with opened(make_live_run(tmp_path / "twice", [ONE], seeds=(1,), repeats=3)) as con:
        rows = con.execute("""SELECT other_value - value, relative, value, other_value FROM repeats
                              WHERE metric = 'ttft_p50_s' AND phase = 'steady'""").fetchall()
        pairs = con.execute("SELECT DISTINCT cell_id, other_id FROM repeats ORDER BY ALL").fetchall()
    assert [(a[-2:], b[-2:]) for a, b in pairs] == [("r0", "r1"), ("r0", "r2"), ("r1", "r2")]
    for difference, relative, value, other in rows:
        assert relative == pytest.approx(abs(difference) / ((value + other) / 2))
        assert 0 < abs(difference) < 0.1


def test_a_void_live_run_counts_nowhere(tmp_path: Path) -> None:
    name = "4×vllm-round_robin--s1-r1"
    late = {"senders": [{"read_lag_p50_s": 0.01, "read_lag_p99_s": 0.2, "facts": {}}]}
    run = make_live_run(tmp_path / "run", [ONE], seeds=(1, 2), changes={name: late})
    with opened(run) as con:
        reason = con.execute("SELECT reason FROM certificates WHERE void").fetchall()
        seeds = dict(con.execute("SELECT seed, ttft_p50_s FROM cells WHERE phase = 'steady' AND repeat = 0").fetchall())
        mean_2 = con.execute("SELECT avg(ttft_p50_s) FROM cells WHERE phase = 'steady' AND seed = 2").fetchall()[0][0]
        arm = con.execute("SELECT mean FROM arms WHERE phase = 'steady' AND metric = 'ttft_p50_s'").fetchall()[0][0]
        verdict = con.execute("SELECT verdict, cause FROM verdicts WHERE cell_id = ?", [name]).fetchall()
        paired = con.execute("SELECT count(*) FROM repeats WHERE seed = 1").fetchall()
    assert reason == [("the sender read too late: p99 read lag 200 ms, 50 ms allowed",)]
    assert arm == pytest.approx((seeds[1] + mean_2) / 2)
    assert verdict == [("void", reason[0][0])]
    assert paired == [(0,)]


def test_each_live_run_has_the_twin_of_its_own_pool(tables: Connection) -> None:
    found = tables.execute("""
        SELECT l.pool, s.pool, count(*), bool_and(l.router = s.router AND l.seed = s.seed)
        FROM twins t JOIN cell_facts l USING (cell_id) JOIN cell_facts s ON s.cell_id = t.twin_id GROUP BY ALL""").fetchall()
    assert found == [(VLLM, TWIN, 12, True)]  # 3 routers × 2 seeds × 2 repeats; the gateway has none


def test_a_twin_belongs_to_the_longest_label_that_fits(tmp_path: Path) -> None:
    """`4 × vllm, remote, simulated` is no twin of `4 × vllm`."""
    pools = (VLLM, f"{VLLM}, remote", f"{VLLM}, remote, simulated")
    run = make_live_run(tmp_path / "run", [replace(ONE, pool=pool) for pool in pools], seeds=(1,), repeats=1)
    with opened(run) as con:
        found = con.execute("SELECT pool FROM twins JOIN cell_facts USING (cell_id)").fetchall()
    assert found == [(f"{VLLM}, remote",)]


def test_prefix_hits_are_those_that_the_engines_count(tables: Connection) -> None:
    found = tables.execute("""
        SELECT router, driver, round(sum(hit_tokens) / sum(query_tokens), 3) FROM prefix_hits JOIN cell_facts USING (cell_id)
        WHERE router = 'cache_aware' GROUP BY ALL ORDER BY ALL""").fetchall()
    assert found == [("cache_aware", "virtual", 0.6), ("cache_aware", "wall", 0.8)]


def test_gateways_that_tell_no_replica_and_engines_that_tell_no_queue_age(tables: Connection) -> None:
    told = tables.execute("""SELECT bool_or(replica_id IS NOT NULL), bool_or(router_try IS NOT NULL) FROM attempts
                             JOIN cell_facts USING (cell_id) WHERE gateway = 'nginx' AND attempt > 0""").fetchall()
    assert told == [(False, False)]
    ages = tables.execute("""SELECT driver, count(queue_age_s) > 0, count(waiting) > 0
                             FROM seconds JOIN cell_facts USING (cell_id) GROUP BY driver ORDER BY driver""").fetchall()
    assert ages == [("virtual", True, True), ("wall", False, True)]
    verdicts = tables.execute("SELECT DISTINCT verdict FROM verdicts WHERE gateway = 'nginx'").fetchall()
    assert verdicts == [("recovered",)]
    balance = tables.execute("SELECT count(imbalance) FROM cells WHERE gateway = 'nginx'").fetchall()
    assert balance == [(0,)]


def test_pairs_that_cannot_be_verified_are_not_called_verified(tmp_path: Path) -> None:
    run = make_live_run(tmp_path / "run", [replace(ONE, pairs=True)], seeds=(1,), repeats=1)
    with opened(run) as con:
        assert con.execute("SELECT resets_verified, replicas, void FROM certificates").fetchall() == [(0, 4, False)]
    page = build_page(run).read_text(encoding="utf-8")
    assert "In 1 of 1 measured run it was not proved of every replica" in page
    assert "Before 0 of 1 measured run each" in page


def test_samples_that_nobody_took_leave_empty_tables(tmp_path: Path) -> None:
    run = make_live_run(tmp_path / "run", [ONE], seeds=(1,), repeats=1, samples=False)
    empty = {"t_us": pa.array([], pa.int64())}
    pq.write_table(pa.table(empty), next(run.glob("cells/*/cell.json")).with_name("gateway_samples.parquet"))
    with opened(run) as con:
        for table in ("gateway_samples", "gpu_samples"):
            assert con.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
    assert "Not sampled: the gateway’s processors and memory and GPUs." in build_page(run).read_text(encoding="utf-8")


def test_a_gateways_processors_are_the_growth_of_its_time(tables: Connection) -> None:
    first, *rest = tables.execute("""SELECT cores FROM gateway_samples JOIN cell_facts USING (cell_id)
                                     WHERE cell_id = '4×vllm-nginxround_robin-default-s1-r0' ORDER BY t_s""").fetchall()
    assert first == (None,)
    assert {round(cores, 6) for (cores,) in rest} == {0.2}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"engines": [{"replica_id": 0}]}, r"cell\.json: engines: cannot be read \(KeyError: 'engine'\)"),
        ({"prefix": {"x": {"hit_tokens": 1, "query_tokens": 1}}}, r"cell\.json: prefix: cannot be read"),
        ({"flushed": [3]}, r"cell\.json: gateway, senders, scrape, flushed: cannot be read"),
        ({"gateway": "nginx"}, r"cell\.json: gateway, senders, scrape, flushed: cannot be read"),
    ],
)
def test_what_has_another_shape_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    run = make_live_run(tmp_path / "run", [ONE], seeds=(1,), repeats=1, changes={"4×vllm-round_robin--s1-r0": change})
    with pytest.raises(ValueError, match=named):
        build_tables(run)


def test_a_sample_file_without_its_columns_is_named(tmp_path: Path) -> None:
    run = make_live_run(tmp_path / "run", [ONE], seeds=(1,), repeats=1, samples=False)
    file = next(run.glob("cells/*/cell.json")).with_name("gpu_samples.parquet")
    pq.write_table(pa.table({"t_us": [1], "card": ["0"]}), file)
    with pytest.raises(ValueError, match=r"gpu_samples\.parquet: column busy is missing; allowed: t_us, card, busy"):
        build_tables(run)


def test_a_live_cell_that_says_nothing_of_itself_is_still_read(tmp_path: Path) -> None:
    """As the sender alone writes it: no gateway, no engines, no reset."""
    run = make_live_run(tmp_path / "run", [ONE], seeds=(1,), repeats=1)
    file = next(run.glob("cells/*/cell.json"))
    facts = json.loads(file.read_text())
    for key in ("gateway", "flushed", "scrape", "prefix", "engines", "senders"):
        del facts[key]
    file.write_text(json.dumps(facts))
    with opened(run) as con:
        assert con.execute("SELECT void, read_lag_p99_s, resets_verified, scrapes_missed FROM certificates").fetchall() == [
            (False, None, None, None)
        ]
    assert "does not say how late it read answers" in build_page(run).read_text(encoding="utf-8")


def test_the_fixture_has_every_kind_of_arm() -> None:
    assert {arm.pool for arm in ARMS} == {VLLM, TWIN, SGLANG}
