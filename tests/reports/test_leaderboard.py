"""The leaderboard's numbers: ranks with ties, verdicts counted, censored values last."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from reports.html_tables import Cell, ending, interval, normal_table, stampede_table
from reports.leaderboard import Interval, NormalDay, Stampede, normal_day_rows, phase_loads, ranked, stampede_rows
from reports.read_scene import cast_conditions, cast_routers, open_results, read_scene
from reports.verdict import holds_slo

GOOD = Interval(1.0, 1.0, 1.0, 5)


HELD = {"a", "b", "c", "d"}


def metrics(ttft_s: float | None) -> dict[str, Interval]:
    return {"ttft_p90_s": Interval(ttft_s, None, None, 5, ttft_s is None)}


def test_ties_share_the_first_place_and_the_next_place_counts_them() -> None:
    arms = {"a": metrics(0.5), "b": metrics(0.4), "c": metrics(0.9), "d": metrics(None)}
    assert ranked(arms, HELD, {"a", "b"}) == {"b": 1, "a": 1, "c": 3, "d": 4}


def test_no_place_without_the_slo() -> None:
    assert ranked({"a": metrics(0.1), "b": metrics(0.4)}, HELD - {"a"}, set()) == {"b": 1}


def test_a_tie_with_a_router_that_fails_the_slo_is_no_tie() -> None:
    arms = {"a": metrics(0.1), "b": metrics(0.4), "c": metrics(0.5)}
    assert ranked(arms, HELD - {"a"}, {"a", "c"}) == {"b": 1, "c": 2}


def test_the_slo_is_held_unless_it_is_missed_beyond_chance() -> None:
    """135 of 145 is 93.1% with a 95% interval of 87.8–96.2%; 930 of 1,000 ends at 94.4%."""
    assert holds_slo(135, 145)
    assert not holds_slo(930, 1000)
    assert [holds_slo(met, 145) for met in (133, 132)] == [True, False]


def test_rows_of_a_study(page_run: Path) -> None:
    study = yaml.safe_load((page_run / "study.yaml").read_text())
    with open_results(page_run / "results.duckdb") as con:
        scene = read_scene(con, study)
        normal, stampede, loads = normal_day_rows(con, scene), stampede_rows(con, scene), phase_loads(con)
        steady = con.sql("""SELECT avg(ttft_p90_s) FROM cells JOIN players USING (cell_id)
                            WHERE players.router = 'r0' AND condition = 'c0' AND phase = 'steady'""").fetchall()[0][0]
    assert [r.reference for r in scene.routers] == [False, False, True]
    assert len(normal) == len(stampede) == 6
    assert abs((normal[0].ttft_p90.mean or 0) - steady) < 1e-12
    assert [r.rank for r in normal if r.router == scene.routers[-1].key] == [None, None]
    found = {(scene.router(r.router).label[:6], scene.condition(r.condition).client): r for r in stampede}
    dead, latent = found["least_", "retry for ever, orphaned"], found["<img s", "retry for ever, cancelled"]
    assert (dead.back, dead.judged, dead.down, dead.recovery_s, dead.observed_s) == (0, 3, 3, None, 90.0)
    assert (latent.back, latent.verdicts, latent.recovery_s) == (3, {"latent": 3}, 15.0)
    assert [r["phase"] for r in loads] == ["warmup", "steady", "trigger", "recovery"]
    assert [r["planned"] for r in loads] == [12, 12, 36, 12]
    table = stampede_table(scene, stampede)
    assert {len(row.cells) for row in table.rows} == {len(table.columns)}
    table = normal_table(scene, normal, "c0")
    assert {len(row.cells) for row in table.rows} == {len(table.columns)} == {sum(g.span for g in table.groups)}
    assert table.rows[-1].reference


def test_censored_values_read_as_beyond_the_timeout_and_sort_after_numbers() -> None:
    censored = interval(Interval(None, None, None, 5, censored=True), "time", limit=10.0)
    assert censored.text == "> 10 s"
    assert float(censored.sort) > float(interval(Interval(1e9, None, None, 5), "time").sort)
    assert interval(None, "time") == Cell("–", "")


def test_only_ttft_is_bounded_by_the_patience_for_a_first_token(page_run: Path) -> None:
    """An E2E p90 of 27 s beside a p99 of "> 10 s" would be nonsense."""
    with open_results(page_run / "results.duckdb") as con:
        scene = read_scene(con, yaml.safe_load((page_run / "study.yaml").read_text()))
    beyond = {f"{name}_p99_s": Interval(None, None, None, 5, censored=True) for name in ("ttft", "tpot", "e2e")}
    row = NormalDay(scene.routers[0].key, scene.conditions[0].key, beyond, 1, 10.0)
    (shown,) = normal_table(scene, [row], scene.conditions[0].key).rows
    assert [cell.text for cell in shown.cells[2:11]] == ["–", "–", "> 10 s", "–", "–", "no answer", "–", "–", "no answer"]


def test_an_interval_stays_within_what_its_metric_can_be() -> None:
    """The busiest replica has at least the mean, a request at least one attempt; lost goodput may be negative."""
    assert interval(Interval(1.1, 0.7, 1.5, 5), "ratio").between == "1–1.5"
    assert interval(Interval(0.1, -0.1, 0.3, 5), "").between == "0–0.3"
    assert interval(Interval(2.0, -9.0, 13.0, 5), "count").between == "-9–13"


def test_ratios_are_shown_from_one_on(page_run: Path) -> None:
    with open_results(page_run / "results.duckdb") as con:
        scene = read_scene(con, yaml.safe_load((page_run / "study.yaml").read_text()))
        stampede = stampede_rows(con, scene)[0]
    wide = Interval(1.1, 0.2, 2.0, 3)
    (shown,) = normal_table(scene, [NormalDay("r0", "c0", {"imbalance": wide}, 1, 10.0)], "c0").rows
    assert shown.cells[-1].between == "1–2"
    (shown,) = stampede_table(scene, [replace(stampede, amplification=wide)]).rows
    assert shown.cells[5].between == "1–2"


def test_abandoned_turns_are_shown_where_there_are_any(page_run: Path) -> None:
    with open_results(page_run / "results.duckdb") as con:
        scene = read_scene(con, yaml.safe_load((page_run / "study.yaml").read_text()))
        rows = stampede_rows(con, scene)
    assert {r.abandoned for r in rows} == {2.0}  # each made-up cell has two
    table = stampede_table(scene, rows)
    assert table.columns[-1].label == "Abandoned turns, a run"
    assert {row.cells[-1].text for row in table.rows} == {"2"}
    none = stampede_table(scene, [replace(r, abandoned=0.0) for r in rows])
    assert none.columns[-1].label == "Lost goodput, requests"
    assert {len(row.cells) for row in none.rows} == {len(none.columns)}


TRIGGERS: list[dict[str, Any]] = [
    {"trigger_kind": "spike", "k": 10.0, "d_s": 20.0, "trigger_words": None},  # an older run does not say it in words
    {"trigger_kind": "placebo", "k": 1.0, "d_s": 20.0, "trigger_words": "a placebo (no burst)"},
    {"trigger_kind": "kill", "k": None, "d_s": 20.0, "trigger_words": "the loss of replica 0"},
    {"trigger_kind": "spike", "k": 3.0, "d_s": 20.0, "trigger_words": "a 3× burst of 20 s"},
]


def test_loads_are_ordered_as_numbers() -> None:
    cells = pl.DataFrame(
        [{"client": "c", "guard": "g", "engine": "e", "pool": "p", "workload": "w", "load_rps": load, **trigger}
         for load in (100.0, 9.0, 20.0) for trigger in TRIGGERS]
    )  # fmt: skip
    cast, _ = cast_conditions(cells, {})
    assert [c.label for c in cast] == [
        f"{load} req/s, {trigger}"
        for load in (9, 20, 100)
        for trigger in ("the loss of replica 0", "a placebo (no burst)", "a 3× burst of 20 s", "a 10× burst of 20 s")
    ]


def test_every_oracle_is_drawn_last_grey_and_unlike_the_others() -> None:
    cast = cast_routers(["truth", "a", "oracle", "truth 2"], {"truth", "truth 2"})
    assert [(r.key, r.label, r.reference) for r in cast] == [
        ("r0", "a", False), ("r1", "oracle", False), ("r2", "truth", True), ("r3", "truth 2", True)
    ]  # fmt: skip
    assert cast[2].colour == cast[3].colour == "var(--oracle)"
    assert cast[2].dash != cast[3].dash


def test_an_arm_whose_runs_disagree_shows_counts() -> None:
    mixed = Stampede("r0", "c0", 5, 4, 3, {"unstable": 1, "recovered": 3, "slow": 1}, 0, 1, 1.0, 90.0, GOOD, GOOD)
    assert (ending(mixed).text, ending(mixed).tag) == ("3 recovered, 1 slow, 1 unstable", "warn")
