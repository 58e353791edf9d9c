"""What a probe writes into results.duckdb comes back as it was, and SQL can read it."""

from dataclasses import fields, replace
from typing import Any, get_type_hints

import duckdb
import pytest

from reports.probe.asks import Answer, Ask
from reports.probe.findings import FalseAlarms, Findings, FrontierPoint
from reports.probe.tables import column_type, read_answers, read_findings, write_answers, write_findings
from tests.reports.probe.conftest import Probed

ARM = ('a router’s "name"', "none")
POINT = FrontierPoint(
    ARM, 0.7, 20.0, 20.0, True, None, 1.5, None, ((1.25, True), (2.0, False)), ((1.25, 0.1, 0.1 + 0.2, 0.3),), ("x", "y")
)
EMPTY = Findings(29.5, FalseAlarms(1, 20, 0.0, 0.2))
ANSWER = Answer(
    Ask("staircase", *ARM, "", 20.0, '{"kind": "spike", "k": 3}', ((0.5, 30.0), (1.0, 30.0)), 3), "id", "calm", None, None, None,
    300.0, "", None, None, 10, (1.0, None), None, None, 2.0, None, None, None, None, None, None, 0, 100, 1.0, "cells/id.parquet",
)  # fmt: skip


def test_all_findings_come_back(probed_scene: Probed) -> None:
    findings = probed_scene[1].findings
    assert all(getattr(findings, f.name) for f in fields(Findings))
    with duckdb.connect() as con:
        write_findings(con, findings)
        assert read_findings(con) == findings


def test_empty_findings_have_their_tables(probed_scene: Probed) -> None:
    with duckdb.connect() as con:
        write_findings(con, EMPTY)
        assert read_findings(con) == EMPTY
        assert con.sql("SELECT arm.router, tries FROM frontier").fetchall() == []


def test_pairs_have_names_in_sql() -> None:
    with duckdb.connect() as con:
        write_findings(con, replace(EMPTY, frontier=(POINT,)))
        found = con.sql("SELECT arm.router, tries[1].k, tries[2].recovered, recovery[1].mean, cells[2] FROM frontier").fetchall()
    assert found == [(ARM[0], 1.25, False, 0.1 + 0.2, "y")]


def test_answers_come_back_in_order() -> None:
    answers = [replace(ANSWER, cell_id=str(i), ask=replace(ANSWER.ask, seed=9 - i)) for i in range(5)]
    with duckdb.connect() as con:
        write_answers(con, answers)
        assert read_answers(con) == answers
        assert con.sql("SELECT pieces[2].for_s, router FROM answers LIMIT 1").fetchall() == [(30.0, ARM[0])]


@pytest.mark.parametrize("row_type", [Ask, Answer, FrontierPoint, Findings])
def test_every_field_has_a_type_in_sql(row_type: Any) -> None:
    hints = get_type_hints(row_type)
    assert all(column_type(hints[f.name], f.name) for f in fields(row_type) if f.name != "ask")


def test_infinite_numbers_and_missing_tables_are_named() -> None:
    with duckdb.connect() as con:
        with pytest.raises(ValueError, match="table frontier: a number that is not finite"):
            write_findings(con, replace(EMPTY, frontier=(replace(POINT, high=float("inf")),)))
        with pytest.raises(ValueError, match="allowed: the tables that `stampede probe` writes"):
            read_answers(con)
