"""The tables of a history's page: what changed, and every run. It computes nothing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from reports.history.nights import Night, Skipped, dates
from reports.history.trends import History, Shift
from reports.history.words import commit_words, level_words, limits_words, size_words
from reports.html_tables import Cell, Column, Row, Table, words


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the index: `link` is the page beside it, relative to the index, empty where there is none."""

    date: str
    name: str
    link: str
    study: str
    commit: str
    code: str
    cells: str
    void: int
    why: str


def shift_table(history: History, key: str, worse: bool) -> Table | None:
    """All changes for the worse (or the better) of a history; None where there is none."""
    found = [s for s in history.shifts if s.worse is worse]
    if not found:
        return None
    columns = [
        Column("Router", text=True),
        Column("Metric", text=True),
        Column("Change"),
        Column("95% interval"),
        Column("Since"),
        Column("Level before → since", text=True),
        Column("How sure", text=True, hint="sure: beyond chance among all figures that are watched"),
        Column("Guard", text=True),
        Column("Client", text=True),
        Column("First new run against the last old one", text=True),
    ]
    what = "got worse" if worse else "got better"
    return Table(key, f"What {what}, and since when; sizes compare all nights of both levels.", columns, _rows(history, found))


def _rows(history: History, found: Sequence[Shift]) -> list[Row]:
    called = dates(history.nights)
    rows = []
    for shift in found:
        router, guard, client, pool = shift.arm
        several = len({t.arm[3] for t in history.trends}) > 1
        old, new = history.nights[shift.before], history.nights[shift.since]
        sure = "likely" if shift.settled is None else f"sure ({called[shift.settled]})"
        rows.append(
            Row(
                [
                    words(f"{router} on {pool}" if several else router),
                    words(shift.metric.words),
                    Cell(size_words(shift.metric, shift.size), repr(1e300 if shift.size is None else shift.size)),
                    Cell(limits_words(shift.metric, shift.low, shift.high) or "–", "" if shift.low is None else repr(shift.low)),
                    Cell(called[shift.since], called[shift.since]),
                    words(f"{level_words(shift.metric, shift.old)} → {level_words(shift.metric, shift.new)}"),
                    Cell(
                        sure if shift.stands else "undone since",
                        sure,
                        css="text",
                        tag=_tag(shift),
                    ),
                    words(guard),
                    words(client),
                    words(_runs(old, new), "text runs"),
                ]
            )
        )
    return rows


def _tag(shift: Shift) -> str:
    if not shift.stands:
        return "plain"
    if not shift.worse:
        return "good"
    return "bad" if shift.settled is not None else "warn"


def _runs(old: Night, new: Night) -> str:
    """`night-21 (9e0819d, code 29ec46b3) after night-20 (dedee6e, code 92cfd042)`, or that the code is the same."""
    if old.code == new.code:
        return f"{new.run.name} after {old.run.name}: the same code ({new.code[:8]}, {commit_words(new.commit)})"
    return (
        f"{new.run.name} ({commit_words(new.commit)}, code {new.code[:8]}) after {old.run.name}"
        f" ({commit_words(old.commit)}, code {old.code[:8]})"
    )


def index_of(nights: Sequence[Night], skipped: Sequence[Skipped], page: Path) -> list[Run]:
    """Every run, the newest first, then the folders that were left out with the reason. `page`: where the index will lie."""
    runs = []
    for night, date in reversed(list(zip(nights, dates(nights), strict=True))):
        report = night.run / "report.html"
        link = quote(os.path.relpath(report.absolute(), page.absolute().parent)) if report.is_file() else ""
        commit = commit_words(night.commit)
        runs.append(Run(date, night.run.name, link, night.study, commit, night.code[:8], f"{night.cells:,}", night.void, ""))
    return [*runs, *(Run("–", s.run.name, "", "–", "–", "–", "–", 0, s.why) for s in skipped)]
