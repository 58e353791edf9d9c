"""The tables against numbers worked out by hand, and what a run folder must not be able to do to them."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from replay.rows import Attempt, DecisionRow, ReplicaSample
from reports.cell_facts import finished_cells
from reports.tables import build_tables
from tests.reports import small_cell
from tests.reports.run_folder import CANCEL, EVENTS, Arm, make_run_folder
from tests.reports.small_cell import ok, rows, small_run, timeout, waiting

DESIGN = {
    "attempts": """cell_id request_id attempt replica_id scheduled_s sent_s first_token_s ended_s max_gap_s prompt_tokens
        cached_tokens output_tokens outcome status error""",
    "requests": """cell_id request_id session_id turn phase scheduled_s ttft_s tpot_s e2e_s attempts outcome slo_met prompt_tokens
        cached_tokens output_tokens replica_id""",
    "cells": """cell_id router guard engine pool workload load_rps seed phase n success goodput_rps ttft_p50_s ttft_p90_s
        ttft_p99_s tpot_p50_s tpot_p99_s e2e_p50_s e2e_p99_s cache_hit imbalance attempts_per_request work_waste""",
    "seconds": "cell_id t_s scheduled succeeded in_flight waiting attempts goodput",
    "samples": "cell_id t_s replica_id running waiting kv_used",
    "verdicts": "cell_id router verdict recovery_s censored_s cause",
    "certificates": "cell_id scheduled sent send_lag_p50_s send_lag_p99_s conserved void",
    "events": "cell_id t_s kind replica_id for_s hits",
    "decisions": "cell_id t_s request_id replica_id reason scores in_flight",
    "arms": "arm_id router guard client phase metric n_seeds mean low high",
}
OF_LIVE_RUNS = {"live_cells", "engines", "prefixes", "flushes", "gateway_samples", "gpu_samples", "twins", "repeats"}
Connection = duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with duckdb.connect(str(build_tables(small_run(tmp_path_factory.mktemp("small")))), read_only=True) as con:
        yield con


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("grid"), events=EVENTS)


def one(con: Connection, query: str) -> Any:
    """The only row of a query; its only value if it has one."""
    (row,) = con.execute(query).fetchall()
    return row[0] if len(row) == 1 else row


def columns(con: Connection, table: str) -> list[str]:
    return [name for name, *_ in con.execute(f"DESCRIBE {table}").fetchall()]


@pytest.mark.parametrize("table", DESIGN)
def test_every_column_of_the_design_is_there(small: Connection, table: str) -> None:
    assert set(DESIGN[table].split()) <= set(columns(small, table))


@pytest.mark.parametrize(("table", "row"), [("attempts", Attempt), ("samples", ReplicaSample), ("decisions", DecisionRow)])
def test_a_rows_fields_are_the_tables_columns(small: Connection, table: str, row: Any) -> None:
    wanted = [f.name.removesuffix("_us") + "_s" if f.name.endswith("_us") else f.name for f in fields(row)]
    assert [name for name in columns(small, table) if name not in ("cell_id", "phase")] == wanted


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [  # outcome, attempts, TTFT, TPOT, E2E, SLO met
        (0, ("ok", 1, 0.5, 0.1, 1.5, True)),
        (1, ("ok", 2, 6.5, 0.1, 7.5, False)),  # from the first attempt's schedule; TPOT of the successful one
        (2, ("timeout", 2, None, None, None, False)),
        (3, ("censored", 1, None, None, None, False)),
        (4, ("ok", 1, 0.25, None, 0.25, True)),  # one token: TPOT is NULL and passes
        (5, ("ok", 1, 1.0, 0.1, 2.0, True)),  # exactly at the limits
        (6, ("ok", 1, 0.5, 0.2, 2.5, False)),
        (7, ("refused", 1, None, None, None, False)),
        (8, ("abandoned", 0, None, None, None, False)),
    ],
)
def test_a_request_is_its_attempts(small: Connection, request_id: int, expected: tuple[Any, ...]) -> None:
    columns = "outcome, attempts, ttft_s, tpot_s, e2e_s, slo_met"
    assert one(small, f"SELECT {columns} FROM requests WHERE request_id = {request_id}") == expected


def test_phase_and_place_in_the_session(small: Connection) -> None:
    assert one(small, "SELECT phase, session_id, turn FROM requests WHERE request_id = 2") == (
        "steady",
        1,
        0,
    )  # not where it ended
    assert one(small, "SELECT phase, session_id, turn FROM requests WHERE request_id = 7") == ("trigger", 3, 1)
    assert one(small, "SELECT phase, scheduled_s, prompt_tokens FROM requests WHERE request_id = 8") == (None, None, 100)


def test_failures_rank_above_every_answer(small: Connection) -> None:
    """TTFT of the seven: .25 .5 .5 [1.0] 6.5 ∞ ∞; TPOT of the six with one: .1 .1 [.1 .2] ∞ ∞."""
    ttft = "ttft_p50_s, ttft_p50_s_censored, ttft_p90_s, ttft_p90_s_censored"
    assert one(small, f"SELECT {ttft} FROM cells WHERE phase = 'steady'") == (1.0, False, None, True)
    assert one(small, "SELECT tpot_p50_s, e2e_p50_s FROM cells WHERE phase = 'steady'") == pytest.approx((0.15, 2.5))
    assert one(small, "SELECT ttft_p50_s, ttft_p50_s_censored FROM cells WHERE phase = 'trigger'") == (None, True)
    assert one(small, "SELECT n, ttft_p50_s, ttft_p50_s_censored FROM cells WHERE phase = 'recovery'") == (0, None, False)


def test_shares_of_a_phase(small: Connection) -> None:
    n, success, answered, goodput = one(small, "SELECT n, success, answered, goodput_rps FROM cells WHERE phase = 'steady'")
    assert (n, success, answered, goodput) == pytest.approx((7, 3 / 7, 5 / 7, 0.3))
    attempts, waste, hit, imbalance = one(
        small, "SELECT attempts_per_request, work_waste, cache_hit, imbalance FROM cells WHERE phase = 'steady'"
    )
    computed = 9 * 60 + 4 * 5 + 4 * 11 + 1  # nine attempts prefilled; four decoded for nobody, four 11 tokens, one a single token
    assert attempts == pytest.approx(9 / 7)
    assert waste == pytest.approx(1 - (5 * 60 + 4 * 11 + 1) / computed)
    assert hit == pytest.approx(0.4)
    assert imbalance == pytest.approx((computed - 65) / (computed / 4))  # replica 1 did 65, replicas 2 and 3 nothing


def test_seconds_by_cohort_and_by_the_clock(small: Connection) -> None:
    by_cohort = "scheduled, ok, slo_met, succeeded, cohort_attempts"
    assert one(small, f"SELECT {by_cohort} FROM seconds WHERE t_s = 2") == (1, 1, 0, 0, 2)
    assert one(small, "SELECT scheduled, attempts FROM seconds WHERE t_s = 9") == (0, 1)  # a retry starts, nothing is due
    assert one(small, "SELECT goodput, engine_ended FROM seconds WHERE t_s = 8") == (1, 1)  # request 5 ends
    assert one(small, "SELECT count(*), sum(scheduled), sum(slo_met), sum(goodput) FROM seconds") == (25, 8, 3, 3)
    assert one(small, "SELECT phase FROM seconds WHERE t_s = 20") == "drain"


def test_gauges_of_the_pool(small: Connection) -> None:
    gauges = "in_flight, waiting, waiting_max, queue_age_s, hit_rate"
    assert one(small, f"SELECT {gauges} FROM seconds WHERE t_s = 2") == (7, 4, 2, 1.0, 0.25)  # 1+2 running, 2+2 waiting
    assert one(small, f"SELECT {gauges} FROM seconds WHERE t_s = 3") == (None,) * 5  # not sampled is not zero


def test_a_sound_cell_gets_its_certificate(small: Connection) -> None:
    counts = "scheduled, sent, ok, failed, abandoned, censored, send_lag_p99_s"
    assert one(small, f"SELECT {counts} FROM certificates") == (9, 7, 5, 2, 1, 1, 0.0)
    assert one(small, "SELECT conserved, void, reason FROM certificates") == (True, False, None)


def late(by_us: int) -> list[Attempt]:
    return [replace(r, sent_us=None if r.sent_us is None else r.sent_us + by_us) for r in rows()]


def sender(read_lag_p99_s: float, no_socket: int = 0) -> dict[str, Any]:
    """What one sender of a live run says of itself."""
    return {"read_lag_p50_s": 0.001, "read_lag_p99_s": read_lag_p99_s, "facts": {"no_socket": no_socket}}


COUNTS = small_cell.facts()["counts"]
LOST = "requests lost or counted twice"
HELD = {"router": {"name": "random"}, "guards": [{"name": "queue"}]}
FAIR = {"router": {"name": "fair_vtc"}, "guards": []}


@pytest.mark.parametrize(
    ("attempts", "changes", "reason"),
    [
        (rows()[1:], {}, LOST),  # a request has no row
        ([*rows(), rows()[0]], {}, LOST),  # a row twice
        ([*rows(), ok(0, 2, 3.0, 0.1, 0.2)], {}, LOST),  # two answers
        ([r for r in rows() if (r.request_id, r.attempt) != (1, 1)], {}, LOST),  # a first attempt is missing
        ([*rows(), replace(rows()[0], request_id=77)], {}, LOST),  # nobody planned it
        (rows(), {"counts": {**COUNTS, "ok": 6, "failed": 1}}, LOST),
        (rows(), {"counts": {**COUNTS, "planned": 11}}, LOST),
        (rows(), {"conserved": False}, LOST),
        (late(150_000), {}, "the sender fell behind"),
        (late(150_000), {"driver": "wall", "spec": HELD}, "the sender fell behind: p99 send lag 150 ms, 50 ms allowed"),
        (late(60_000), {}, None),  # virtual time has its own limit
        (late(60_000), {"driver": "wall"}, "the sender fell behind: p99 send lag 60 ms, 50 ms allowed"),
        (late(40_000), {"driver": "wall"}, None),
        (
            rows(),
            {"driver": "wall", "senders": [sender(0.01), sender(0.08)]},
            "the sender read too late: p99 read lag 80 ms, 50 ms allowed",
        ),
        (rows(), {"driver": "wall", "senders": [sender(0.01, no_socket=3)]}, "the machine had no socket left for 3 attempts"),
        (late(150_000), {"driver": "wall", "void": "sender 0: its own reason"}, "sender 0: its own reason"),
        (late(150_000), {"spec": HELD}, None),  # held by a guard in virtual time
        (late(150_000), {"spec": FAIR}, None),  # held by the rule's own queue
        (late(50_000), {}, None),
        (rows(), {"counts": {**COUNTS, "failed": 1, "censored": 2}}, LOST),
        ([*rows(), waiting(2, 3, 23.0)], {"counts": {**COUNTS, "failed": 1, "censored": 2}}, None),  # not due at the end
        (rows(), {"counts": {**COUNTS, "failed": 3, "censored": 0}}, LOST),
    ],
)
def test_a_cell_that_does_not_add_up_is_void(
    tmp_path: Path, attempts: list[Attempt], changes: dict[str, Any], reason: str | None
) -> None:
    with duckdb.connect(str(build_tables(small_run(tmp_path, attempts, **changes))), read_only=True) as con:
        assert one(con, "SELECT void, reason FROM certificates") == (reason is not None, reason)
        assert (one(con, "SELECT verdict FROM verdicts") == "void") == (reason is not None)


OPEN = {"ended_us": None, "engine_ended_us": None, "outcome": "censored"}


@pytest.mark.parametrize(
    ("first_token_s", "decoded", "undecided"),
    [(4.5, 206, 1), (4.5, 200, 0), (5.5, 206, 0), (None, 0, 0)],  # streaming in time; too slowly; first token late; not at all
)
def test_an_answer_still_streaming_in_time_is_undecided(
    tmp_path: Path, first_token_s: float | None, decoded: int, undecided: int
) -> None:
    first = {"first_token_us": None if first_token_s is None else int(first_token_s * 1e6), "decoded_tokens": decoded}
    attempts = [timeout(3, 1, 4.0, 0.0, **OPEN, **first) if r.request_id == 3 else r for r in rows()]
    with duckdb.connect(str(build_tables(small_run(tmp_path, attempts))), read_only=True) as con:
        second = one(con, "SELECT undecided, succeeded, computed_tokens - useful_tokens FROM seconds WHERE t_s = 4")
        assert second == (undecided, 0, 0 if undecided else 60 + decoded)
        assert one(con, "SELECT outcome, slo_met, useful_tokens FROM requests WHERE request_id = 3") == ("censored", False, 0)


def test_a_request_is_open_though_the_router_goes_on_with_an_older_attempt_of_it(tmp_path: Path) -> None:
    """Attempt 1 was given up, attempt 2 is open at the end, and row 3 is a further router try for attempt 1."""
    orphan = timeout(3, 3, 4.0, 9.0, client_attempt=1, router_try=2)
    attempts = [*(r for r in rows() if r.request_id != 3), timeout(3, 1, 4.0, 6.0), timeout(3, 2, 7.0, 0.0, **OPEN), orphan]
    with duckdb.connect(str(build_tables(small_run(tmp_path, attempts))), read_only=True) as con:
        assert one(con, "SELECT outcome, attempts FROM requests WHERE request_id = 3") == ("censored", 3)
        assert one(con, "SELECT conserved FROM certificates") is True


def test_no_limit_means_every_answer_counts(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    (run / "study.yaml").write_text("slo: {ttft_s: null}\n")
    with duckdb.connect(str(build_tables(run)), read_only=True) as con:
        assert one(con, "SELECT count(*) FROM requests WHERE slo_met") == 5


def test_building_twice_gives_the_same_tables(grid: Path) -> None:
    first = build_tables(grid).rename(grid / "first.duckdb")
    with duckdb.connect(str(build_tables(grid)), read_only=True) as con:
        con.execute(f"ATTACH '{first}' AS first (READ_ONLY)")
        tables = [
            name for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'results'").fetchall()
        ]
        assert len(tables) >= len(DESIGN)
        for table in tables:
            assert one(con, f"SELECT count(*) FROM (FROM results.{table} EXCEPT ALL FROM first.{table})") == 0, table
            rows = one(con, f"SELECT count(*) FROM results.{table}")
            assert rows == one(con, f"SELECT count(*) FROM first.{table}")
            assert (rows == 0) == (table in OF_LIVE_RUNS), table


def test_arms_hold_the_mean_over_seeds(grid: Path) -> None:
    with duckdb.connect(str(build_tables(grid)), read_only=True) as con:
        for metric in ("success", "ttft_p90_s", "goodput_rps"):
            assert one(
                con,
                f"""SELECT count(*), max(abs(arms.mean - cells.mean)) FROM arms JOIN (
                    SELECT arm_id, phase, avg({metric}) AS mean FROM cells GROUP BY ALL) AS cells USING (arm_id, phase)
                WHERE metric = '{metric}' AND n_seeds = 3 AND n_censored = 0 AND low <= arms.mean AND arms.mean <= high""",
            ) == (pytest.approx(24, abs=12), pytest.approx(0, abs=1e-12)), metric
        dead = "arm_id LIKE 'least%orphaned%' AND phase = 'recovery'"
        assert one(con, f"SELECT n_censored, mean FROM arms WHERE metric = 'ttft_p99_s' AND {dead}") == (3, None)
        assert one(con, f"SELECT mean, n_seeds FROM arms WHERE metric = 'recovered_share' AND {dead}") == (0.0, 3)
        assert one(con, f"SELECT n_censored, mean FROM arms WHERE metric = 'recovery_s' AND {dead}") == (3, None)


def test_routers_are_compared_seed_by_seed(grid: Path) -> None:
    with duckdb.connect(str(build_tables(grid)), read_only=True) as con:
        found = one(
            con,
            """SELECT pairs, difference, p, p_holm FROM comparisons WHERE metric = 'success' AND phase = 'recovery'
            AND against = 'reference' AND router = 'cache_aware' AND client LIKE '%orphaned'""",
        )
        gap = one(
            con,
            """SELECT avg(success) FILTER (router = 'cache_aware') - avg(success) FILTER (router = 'least_outstanding')
            FROM cells WHERE phase = 'recovery' AND client LIKE '%orphaned'""",
        )
        assert found[:2] == (3, pytest.approx(gap))
        assert found[2] < found[3] < 0.01
        assert one(con, "SELECT count(*) FROM comparisons WHERE router = other") == 0


def test_an_oracle_is_a_reference_under_any_name_and_a_name_makes_no_oracle(tmp_path: Path) -> None:
    arms = [
        Arm("Oracle (ttft)", CANCEL, "healthy", policy="oracle"),
        Arm("Oracle (e2e)", CANCEL, "healthy", policy="oracle"),
        Arm("oracle", CANCEL, "healthy", policy="random"),
        Arm("LO", CANCEL, "dead", policy="least_outstanding"),
    ]
    with duckdb.connect(str(build_tables(make_run_folder(tmp_path, arms))), read_only=True) as con:
        for table in ("cells", "arms", "verdicts"):
            marks = con.execute(f"SELECT DISTINCT router, policy FROM {table} WHERE reference ORDER BY 1").fetchall()
            assert marks == [("Oracle (e2e)", "oracle"), ("Oracle (ttft)", "oracle")], table
        others = con.execute(
            "SELECT against, list_sort(list_distinct(list(other))) FROM comparisons GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert others == [("best", ["LO", "oracle"]), ("reference", ["LO"])]
        assert one(con, "SELECT count(*) > 0 FROM comparisons WHERE reference") is True  # compared, never compared with


def test_a_cell_without_its_cell_json_is_not_finished(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    (run / "cells" / "half").mkdir()
    (run / "cells" / "half" / "attempts.parquet").write_bytes(b"PAR1")
    with duckdb.connect(str(build_tables(run)), read_only=True) as con:
        assert one(con, "SELECT count(*) FROM certificates") == 1


def break_json(run: Path) -> None:
    (run / "cells/arm-s1/cell.json").write_text('{"cell_id": "x",\n nonsense')


def drop_key(run: Path) -> None:
    file = run / "cells/arm-s1/cell.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "drain_s"}))


def cut_parquet(run: Path) -> None:
    file = run / "cells/arm-s1/attempts.parquet"
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda run: (run / "cells/arm-s1/cell.json").unlink(), r"no finished cell"),
        (lambda run: (run / "study.yaml").unlink(), r"study\.yaml: missing"),
        (lambda run: (run / "study.yaml").write_text("name: x\n"), r"slo: None; allowed: a mapping"),
        (lambda run: (run / "study.yaml").write_text("slo: {ttft_s: -1}\n"), r"slo\.ttft_s: -1; allowed"),
        (lambda run: (run / "study.yaml").write_text("slo: {ttft: 1}\n"), r"slo\.ttft: unknown; allowed"),
        (lambda run: (run / "study.yaml").write_text("slo: {ttft_s: 1\n"), r"study\.yaml:2: not YAML"),
        (lambda run: (run / "workloads/small.parquet").unlink(), r"small\.parquet: missing"),
        (lambda run: (run / "cells/arm-s1/samples.parquet").unlink(), r"samples\.parquet: missing"),
        (break_json, r"cell\.json:2: not JSON"),
        (drop_key, r"cell\.json: key 'drain_s' is missing"),
        (cut_parquet, r"cannot be read: .*attempts\.parquet"),
    ],
)
def test_a_broken_run_is_one_clear_line_and_leaves_the_old_tables(tmp_path: Path, harm: Any, says: str) -> None:
    run = small_run(tmp_path)
    old = build_tables(run).read_bytes()
    harm(run)
    with pytest.raises(ValueError, match=says) as raised:
        build_tables(run)
    assert "\n" not in str(raised.value)
    assert (run / "results.duckdb").read_bytes() == old
    assert not [p for p in run.iterdir() if p.name.startswith(".results")]


def test_a_cell_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    run = small_run(tmp_path, rows())
    whole = finished_cells(run)
    aside = whole[0].with_name(f".{whole[0].name}.4711")
    aside.mkdir()
    (aside / "cell.json").write_text((whole[0] / "cell.json").read_text())
    assert finished_cells(run) == whole
