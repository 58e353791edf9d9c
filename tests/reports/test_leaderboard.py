"""The leaderboard's numbers: ranks with ties, verdicts counted, censored values last."""

from pathlib import Path

import yaml

from reports.html_tables import Cell, ending, interval, normal_table, stampede_table
from reports.leaderboard import Interval, Stampede, normal_day_rows, phase_loads, ranked, stampede_rows
from reports.read_scene import open_results, read_scene

GOOD = Interval(1.0, 1.0, 1.0, 5)


HELD = {"a": 0.99, "b": 0.99, "c": 0.99, "d": 0.99}


def metrics(ttft_s: float | None) -> dict[str, Interval]:
    return {"ttft_p90_s": Interval(ttft_s, None, None, 5, ttft_s is None)}


def test_ties_share_the_first_place_and_the_next_place_counts_them() -> None:
    arms = {"a": metrics(0.5), "b": metrics(0.4), "c": metrics(0.9), "d": metrics(None)}
    assert ranked(arms, HELD, {"a", "b"}) == {"b": 1, "a": 1, "c": 3, "d": 4}


def test_no_place_without_the_slo() -> None:
    assert ranked({"a": metrics(0.1), "b": metrics(0.4)}, HELD | {"a": 0.94}, set()) == {"b": 1}


def test_a_tie_with_a_router_that_fails_the_slo_is_no_tie() -> None:
    arms = {"a": metrics(0.1), "b": metrics(0.4), "c": metrics(0.5)}
    assert ranked(arms, HELD | {"a": 0.5}, {"a", "c"}) == {"b": 1, "c": 2}


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


def test_an_arm_whose_runs_disagree_shows_counts() -> None:
    mixed = Stampede("r0", "c0", 5, 4, 3, {"unstable": 1, "recovered": 3, "slow": 1}, 0, 1, 1.0, 90.0, GOOD, GOOD)
    assert (ending(mixed).text, ending(mixed).tag) == ("3 recovered, 1 slow, 1 unstable", "warn")
