"""What happened to the pool: from cell.json to the table, the page's section and the charts' marks."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
import vl_convert
import yaml

from reports.charts.event_marks import MOST_LABELS, NARROWEST_PX, events
from reports.charts.timelines import timelines
from reports.event_tables import arm_table, event_table
from reports.event_words import long_words, short_words
from reports.page import build_page
from reports.pool_events import event_hits, missed
from reports.read_scene import open_results, read_scene
from reports.scene import PoolEvent, Scene, Stage, Trigger
from reports.tables import build_tables
from reports.theme import vega_config
from tests.reports.run_folder import CANCEL, EVENTS, Arm, make_run_folder

ARMS = [Arm(router, CANCEL, "recovered", trigger="kill") for router in ("random", "round_robin")]


@pytest.fixture
def results(events_run: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, Scene]]:
    with open_results(events_run / "results.duckdb") as con:
        yield con, read_scene(con, yaml.safe_load((events_run / "study.yaml").read_text()))


def test_a_row_an_event_and_cell(events_run: Path) -> None:
    with duckdb.connect(str(events_run / "results.duckdb"), read_only=True) as con:
        rows = con.execute("""SELECT number, t_s, kind, replica_id, for_s, is_trigger, parameters, hits, skipped FROM events
                              WHERE cell_id LIKE 'random%s2' ORDER BY number""").fetchall()
        triggers = con.execute("SELECT DISTINCT trigger_kind, trigger_words, k, d_s FROM verdicts").fetchall()
    assert [row[:6] for row in rows] == [
        (1, 20.0, "slow", None, 5.0, False),
        (2, 50.0, "kill", 0, 10.0, True),
        (3, 52.0, "flush", None, 0.0, False),
        (4, 165.0, "refuse", 1, 5.0, False),
    ]
    assert [json.loads(row[6]) for row in rows] == [{"factor": 3.0}, {}, {}, {"share": 0.5, "status": 429}]
    assert json.loads(rows[1][7]) == {"lost": 20, "refused": 40, "polls_lost": 10, "probes_lost": 0}
    assert [row[8] for row in rows] == [None, None, None, "ended at 160 s"]
    assert triggers == [("kill", "the loss of replica 0 for 10 s", None, 10.0)]


def test_a_record_that_lacks_a_key_is_named(tmp_path: Path) -> None:
    broken = [{key: value for key, value in EVENTS[0].items() if key != "kind"}]
    run = make_run_folder(tmp_path / "run", ARMS[:1], seeds=(1,), events=broken)
    with pytest.raises(ValueError, match=r"cell\.json: events: key 'kind' is missing"):
        build_tables(run)


def test_hits_are_means_and_ranges_over_runs(results: tuple[duckdb.DuckDBPyConnection, Scene]) -> None:
    con, scene = results
    hits = event_hits(con)
    assert [(e.number, e.kind, e.is_trigger) for e in scene.events] == [
        (1, "slow", False), (2, "kill", True), (3, "flush", False), (4, "refuse", False)]  # fmt: skip
    lost = hits[2, None, None]["lost"]
    assert (lost.mean, lost.low, lost.high, lost.n) == (15.0, 10.0, 20.0, 4)
    assert (hits[2, "c0", "r1"]["lost"].mean, hits[2, "c0", "r1"]["lost"].n) == (15.0, 2)
    assert missed(con) == {4: (4, 4)}
    assert not any(number == 4 for number, *_ in hits)


def test_the_table_says_what_when_where_and_what_it_hit(results: tuple[duckdb.DuckDBPyConnection, Scene]) -> None:
    con, scene = results
    table = event_table(scene, event_hits(con), missed(con))
    assert table is not None
    heads = ["Attempts lost", "Attempts refused", "Polls unanswered", "Cached tokens lost", "Attempts running"]
    assert [c.label for c in table.columns] == ["What happened", "From", "For", "Replica", *heads]  # no probe was ever lost
    cells = [[(cell.text, cell.between) for cell in row.cells] for row in table.rows]
    dead = "2. replica 0 dies with all it holds and comes back with a cold cache"
    assert [text for text, _ in cells[1]] == [dead, "50 s", "10 s", "0", "15", "30", "10", "–", "–"]
    assert [span for _, span in cells[1]][4:7] == ["10–20", "20–40", ""]
    assert cells[2][:4] == [("3. the prefix cache of every replica is emptied", ""), ("52 s", ""), ("at once", ""), ("every", "")]
    assert cells[2][7] == ("1,500", "1,000–2,000")
    assert {text for text, _ in cells[3][4:]} == {"–"}
    assert table.notes == ["Event 2 is the study’s trigger. Event 4: 4 of 4 runs ended before it."]
    by_router = arm_table(scene, event_hits(con))
    assert by_router is not None
    assert [(r.cells[0].text, r.cells[1].text) for r in by_router.rows] == [
        (router, event) for event in "123" for router in ("random", "round_robin")
    ]


def test_the_page_tells_it_in_words(events_run: Path) -> None:
    text = (events_run / "report.html").read_text(encoding="utf-8")
    head, rest = text.split("<main>")
    assert "After the loss of replica 0 for 10 s, every router comes back in every run, within 15 s of its end" in head
    assert "The normal day is not undisturbed: at 20 s every replica works 3× slower." in head
    assert 'href="#pool-events"' in head
    section = rest.split('<section id="pool-events"')[1].split("</section>")[0]
    assert "replica 0 dies with all it holds" in section
    assert "Coloured band: the loss of replica 0 for 10 s; the load stays at its base;" in rest
    for nothing in (">nan", ">None", "nan×", "None×", "> s<"):
        assert nothing not in text.split("<main>")[1].split("<script>")[0]


def test_a_run_without_events_shows_nothing_of_it(page_run: Path) -> None:
    text = (page_run / "report.html").read_text(encoding="utf-8").split("<script>")[0]
    assert "pool-events" not in text.split("</style>")[1]
    assert "What happens to the pool" not in text
    assert 'id="fidelity"' not in text
    with duckdb.connect(str(page_run / "results.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM events").fetchall() == [(0,)]


def test_marks_and_strip_are_drawn(results: tuple[duckdb.DuckDBPyConnection, Scene]) -> None:
    con, scene = results
    (figure,) = timelines(con, scene)
    assert "Dashed rules and bands: further events of the pool" in figure.caption
    svg = str(vl_convert.vegalite_to_svg(figure.to_vega_lite() | {"config": vega_config()}))
    assert "What happens to the pool" in svg
    for label in ("1. all replicas 3× slower", "2. replica 0 killed", "3. all caches emptied", "4. replica 1 refuses 50%"):
        assert f">{label}<" in svg
    panels = len(figure.chart.to_dict()["vconcat"]) - 1
    assert svg.count('stroke-dasharray="3,3"') == 3 * panels  # the trigger has its own band


def scene_of(*struck: tuple[float, float]) -> Scene:
    made = [PoolEvent(i + 1, t_s, "kill", 0, for_s, {}, False) for i, (t_s, for_s) in enumerate(struck)]
    return Scene("study", (), (), (Stage("steady", 0, 100, 1.0),), Trigger("placebo", 1, 20), {}, (1,), 4, tuple(made))


@pytest.mark.parametrize(
    "struck",
    [
        [(10.0, 5.0), (11.0, 5.0), (12.0, 0.0), (90.0, 20.0)],  # close together; beyond the end
        [(0.0, 100.0), (0.0, 100.0)],  # the whole run
        [(t, 1.0) for t in range(0, 100, 2)],  # too many for words
        [(99.0, 0.0), (1.0, 0.0)],
    ],
)
def test_labels_of_one_lane_do_not_touch(struck: list[tuple[float, float]]) -> None:
    rows = events(scene_of(*struck))["events"]
    assert rows.height == len(struck)
    per_s = NARROWEST_PX / 100
    for (lane,), group in rows.group_by("lane"):
        spans = []
        for row in group.iter_rows(named=True):
            need = len(row["label"]) * 6 / per_s
            left, right = (need if row["side"] == side else 0.0 for side in ("left", "right"))
            assert row["side"] != "inside" or row["end_s"] - row["start_s"] >= need
            spans.append((row["start_s"] - left, row["end_s"] + right))
        spans.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(spans)), lane
    labels = set(rows["label"])
    assert (str(len(struck)) in labels) == (len(struck) > MOST_LABELS)
    assert rows["end_s"].max() <= 100.0  # type: ignore[operator]


def test_no_event_no_data() -> None:
    assert events(scene_of()) == {}
    assert events(scene_of((100.0, 5.0))) == {}  # after the axis' end


@pytest.mark.parametrize("replica_id", [None, 3])
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("pause", {}), ("slow", {"factor": 2.5}), ("kill", {}), ("flush", {}), ("refuse", {"share": 0.25, "status": 503.0}),
     ("blackout", {}), ("earthquake", {})],
)  # fmt: skip
def test_every_kind_has_words(kind: str, parameters: dict[str, Any], replica_id: int | None) -> None:
    event = PoolEvent(1, 5.0, kind, replica_id, 2.0, parameters, False)
    for words in (long_words(event), short_words(event)):
        assert "None" not in words
        assert "{" not in words
        assert ("3" in words) == (replica_id == 3) or kind == "refuse"
    assert len(short_words(event)) <= 26 or kind == "earthquake"


def test_several_triggers_are_told_apart(tmp_path: Path) -> None:
    arms = [Arm("random", CANCEL, "recovered", trigger=kind) for kind in ("kill", "spike", "placebo")]
    run = make_run_folder(tmp_path / "run", arms, seeds=(1, 2))
    build_tables(run)
    with open_results(run / "results.duckdb") as con:
        scene = read_scene(con, yaml.safe_load((run / "study.yaml").read_text()))
        compared = con.sql("SELECT count(*) FROM comparisons").fetchall()
    assert [c.label for c in scene.conditions] == ["the loss of replica 0 for 10 s", "a placebo (no burst)", "a 3× burst of 10 s"]
    assert (scene.trigger.kind, scene.trigger.words) == ("several", "its trigger")
    assert compared == [(0,)]  # arms of different triggers are no choice of routers
    page = build_page(run).read_text(encoding="utf-8").split("<script>")[0]
    assert "Coloured band: the trigger, each setting with its own;" in page
    assert "None" not in page.split("</style>")[1]
