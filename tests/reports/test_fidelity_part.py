"""Is the traffic what the trace said: what the report makes of the manifest's rows."""

import json
from pathlib import Path
from typing import Any

from reports.fidelity_part import UNEXPLAINED, fidelity_part
from reports.page import build_page
from reports.tables import build_tables
from tests.reports.run_folder import CANCEL, Arm, make_run_folder


def compared(metric: str, verdict: str, why: str = "", **values: Any) -> dict[str, Any]:
    numbers = {
        "source": 100.0,
        "synthesized": 104.0,
        "unit": "tokens",
        "distance": 0.04,
        "distance_kind": "relative",
        "noise": 0.1,
    }
    return {"metric": metric, "verdict": verdict, "why": why, **numbers, **values}


ROWS = [
    compared("sessions a second", "by design", "load asked for: 6 requests/s", source=None, distance=None, noise=None),
    compared("input tokens: mean", "same"),
    compared("input tokens: p50", "same"),
    compared("input tokens: p99", "differs", "135 of 8,000 sessions are sent"),
    compared("input tokens: whole distribution", "same", source=None, synthesized=None, distance_kind="KS"),
    compared("input tokens: whole distribution, over the mean", "same", source=None, synthesized=None, distance_kind="W"),
    compared("think time: mean", "differs"),
]


def test_what_differs_comes_first_and_is_explained() -> None:
    part = fidelity_part({"seed": 3, "rows": ROWS})
    assert part is not None
    assert part.table is not None
    assert part.agreeing is not None
    shown = [(row.cells[0].text, row.cells[5].text, row.cells[5].tag, row.cells[6].text) for row in part.table.rows]
    assert shown[:3] == [
        ("input tokens: p99", "differs", "bad", "135 of 8,000 sessions are sent"),
        ("think time: mean", "differs", "bad", UNEXPLAINED),
        ("sessions a second", "by design", "plain", "load asked for: 6 requests/s"),
    ]
    assert [name for name, *_ in shown[3:]] == ["input tokens: mean", "input tokens: whole distribution"]
    assert [row.cells[0].text for row in part.agreeing.rows] == [
        "input tokens: p50",
        "input tokens: whole distribution, over the mean",
    ]
    assert part.table.key != part.agreeing.key
    assert part.sentence.startswith("The plan of seed 3 was compared with the trace: 4 of 6 comparisons agree")
    assert "Not the same in every respect: input tokens and think time. Of 6 comparisons one or two may differ" in part.sentence


def test_where_all_agree_nothing_is_excused() -> None:
    part = fidelity_part({"seed": 1, "rows": [row for row in ROWS if row["verdict"] != "differs"]})
    assert part is not None
    assert "4 of 4 comparisons agree" in part.sentence
    assert "Not the same" not in part.sentence


def test_what_was_not_compared_says_why() -> None:
    part = fidelity_part({"seed": 1, "skipped": "the trace has 3,000,000 turns, and at most 2,000,000 are compared"})
    assert part is not None
    assert part.table is None
    assert part.sentence == "This was not compared: the trace has 3,000,000 turns, and at most 2,000,000 are compared."
    assert fidelity_part(None) is None  # a run older than the comparison


def test_the_page_shows_it_with_its_provenance_and_not_twice(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run", [Arm("random", CANCEL, "recovered")], seeds=(1, 2))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "fidelity": {"seed": 1, "rows": ROWS}}))
    build_tables(run)
    text = build_page(run).read_text(encoding="utf-8").split("<script>")[0]
    part = text.split('<section id="provenance"')[1].split("Run it again")[0]
    assert "Is the traffic what the trace said?" in part
    assert '<span class="tag bad">differs</span>' in part
    assert text.count(">135 of 8,000 sessions are sent<") == 1
    assert "2 more comparisons" in part
    assert "<dt>traffic and trace</dt>" in text
