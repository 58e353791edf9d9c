"""Histories of real small run folders: what is found, what stays quiet, what is left out and said."""

from pathlib import Path
from typing import Any

import pytest

from reports.history.markdown import markdown
from reports.history.nights import by_kind, read_nights
from reports.history.page import build_history_page
from reports.history.trends import History, history_of, news
from reports.history.words import noise_sentence, titles, verdict, void_note
from tests.reports.history.run_folders import Recipe, write_night

NIGHTS, AT = 60, 56


@pytest.fixture(autouse=True)
def without_chart_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.history.page.chart_library", str)


def histories(folder: Path) -> list[History]:
    return [history_of(nights) for nights in by_kind(read_nights(folder)[0]).values()]


def write(folder: Path, nights: int, **same: Any) -> None:
    for night in range(nights):
        write_night(folder, night, Recipe(seed=night, **same))


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 nights, TTFT of round_robin 8% up from night 56 on with new code; night 20 missing, night 45 void and far off."""
    folder = tmp_path_factory.mktemp("stepped")
    for night in range(NIGHTS):
        if night == 20:
            continue
        new = night >= AT
        factor = 5.0 if night == 45 else 1.08 if new else 1.0
        changes = {"round_robin": {"ttft_p99_s": factor}}
        code: dict[str, Any] = {"code": "b" * 16, "commit": "2" * 40} if new else {}
        write_night(folder, night, Recipe(seed=night, noise=0.02, changes=changes, void=int(night == 45), **code))
    return folder


def test_a_step_of_eight_per_cent_is_named_with_router_phase_metric_size_interval_and_night(stepped: Path) -> None:
    (history,) = histories(stepped)
    worse = [s for s in history.shifts if s.worse and s.stands]
    assert [(s.arm[0], s.arm[2], s.metric.phase, s.metric.name) for s in worse] == [
        ("round_robin", "3 tries", "steady", "ttft_p99_s")
    ]
    (shift,) = worse
    assert shift.size is not None
    assert shift.low is not None
    assert shift.high is not None
    assert 0.05 < shift.size < 0.11
    assert shift.low < 0.08 < shift.high
    assert history.nights[shift.since].run.name.startswith("night-20261027"), "the first night with the new code"
    assert "TTFT p99 of round_robin on a normal day is" in (said := verdict(history, since=4)[0])
    assert "higher since 2026-10-27 (95%" in said


def test_the_page_names_the_first_new_commit_and_the_last_old_one(stepped: Path, tmp_path: Path) -> None:
    page = build_history_page(histories(stepped), [], tmp_path / "page.html", title="t", since=4).read_text(encoding="utf-8")
    assert "(2222222222, code bbbbbbbb) after night-20261026T020000 (1111111111, code aaaaaaaa)" in page


def test_a_void_night_is_left_out_of_judging_and_said(stepped: Path) -> None:
    (history,) = histories(stepped)
    (trend,) = (t for t in history.trends if t.arm[0] == "round_robin" and t.metric.name == "ttft_p99_s")
    void = next(i for i, night in enumerate(history.nights) if night.void)
    assert trend.figures[void] is not None
    assert void not in trend.outliers
    assert (trend.levels[0].high or 9.9) < 0.7, "the void night's 2.5 s is in no level"
    assert "2026-10-16 was void" in void_note(history)


def test_a_missing_night_is_no_change(stepped: Path) -> None:
    (history,) = histories(stepped)
    assert len(history.nights) == NIGHTS - 1
    assert all(s.since > 30 for s in history.shifts)


def test_equal_nights_differ_by_nothing_and_say_so(tmp_path: Path) -> None:
    write(tmp_path, 12, noise=0.0, jitter=0.0)
    (history,) = histories(tmp_path)
    assert history.shifts == ()
    assert noise_sentence(history).startswith("11 pairs of nights ran the same code on the same workloads")
    assert "equal to the last digit" in noise_sentence(history)
    assert verdict(history, 1) == ["Nothing changed beyond noise in the night of 2026-09-12."]


def test_noisy_nights_of_one_code_are_quiet_and_their_noise_is_the_floor(tmp_path: Path) -> None:
    write(tmp_path, 30, noise=0.03)
    (history,) = histories(tmp_path)
    assert [s for s in history.shifts if s.settled is not None] == []
    (metric,) = {t.metric for t in history.trends if t.metric.name == "ttft_p99_s"}
    assert 0.015 < history.noise.floor(metric) < 0.06, "from A/A pairs, around the 3% that they were drawn with"


def test_nights_of_other_workloads_are_no_pairs(tmp_path: Path) -> None:
    for night in range(4):
        write_night(tmp_path, night, Recipe(seed=night, workload=f"w{night}-"))
    (history,) = histories(tmp_path)
    assert history.noise.pairs == ()
    assert noise_sentence(history).startswith("No two nights ran the same code on the same workloads")


def test_one_night_is_too_few_and_says_how_many_it_takes(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (history,) = histories(tmp_path)
    assert verdict(history, 1) == ["1 night so far, the last of 2026-09-01: a change can be told from 8 on."]
    build_history_page([history], [], tmp_path / "page.html", title="t", since=1)


def test_broken_folders_are_named_and_not_fatal(tmp_path: Path) -> None:
    write(tmp_path, 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "study.yaml").write_text("name: x")
    running = write_night(tmp_path, 3, Recipe())
    (running / "manifest.json").write_text('{"started_utc": "2026-09-04T02:00:00+00:00", "ended_utc": null}')
    torn = write_night(tmp_path, 4, Recipe())
    (torn / "results.duckdb").write_bytes(b"no database")
    nights, skipped = read_nights(tmp_path)
    why = {s.run.name: s.why for s in skipped}
    assert len(nights) == 2
    assert set(why) == {"half", running.name, torn.name}, "a folder without any file of a run is none"
    assert "results.duckdb is missing" in why["half"]
    assert "did not finish" in why[running.name]
    page = build_history_page([history_of(nights)], skipped, tmp_path / "page.html", title="t", since=1)
    assert all(name in page.read_text(encoding="utf-8") for name in why)


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished run"):
        read_nights(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        read_nights(tmp_path / "nowhere")


def test_a_percentile_beyond_the_answered_is_worse_and_has_no_size(tmp_path: Path) -> None:
    for night in range(14):
        changes = {"round_robin": {"ttft_p99_s": None if night >= 11 else 1.0}}
        write_night(tmp_path, night, Recipe(seed=night, changes=changes))
    (history,) = histories(tmp_path)
    (shift,) = (s for s in history.shifts if s.worse)
    assert shift.metric.name == "ttft_p99_s"
    assert shift.size is None
    assert shift.new.censored == 3
    assert "beyond what was answered" in verdict(history, 3)[0]
    text = markdown([history], [], 3)
    assert "| beyond the answered |" in text
    page = build_history_page([history], [], tmp_path / "page.html", title="t", since=3).read_text(encoding="utf-8")
    assert '"beyond"' in page, "drawn as a mark of its own"


def test_arms_that_stop_coming_back_are_found(tmp_path: Path) -> None:
    for night in range(14):
        write_night(tmp_path, night, Recipe(seed=night, not_back={"round_robin": 3 if night >= 11 else 0}))
    (history,) = histories(tmp_path)
    found = {s.metric.name: s for s in news(history, 3) if s.worse}
    assert {"recovered_share", "lost_goodput"} <= set(found)
    assert found["recovered_share"].size == pytest.approx(-1.0)
    assert any("Runs back of round_robin after the trigger are 100 points lower" in s for s in verdict(history, 3))


def test_a_change_that_was_undone_does_not_stand(tmp_path: Path) -> None:
    for night in range(24):
        factor = 1.5 if 8 <= night < 17 else 1.0
        write_night(tmp_path, night, Recipe(seed=night, changes={"round_robin": {"tpot_p50_s": factor}}))
    (history,) = histories(tmp_path)
    stands = {s.worse: s.stands for s in history.shifts if s.metric.name == "tpot_p50_s" and s.settled is not None}
    assert stands == {True: False, False: True}


def test_other_questions_are_other_histories_with_what_they_ask_in_their_titles(tmp_path: Path) -> None:
    write_night(tmp_path, 0, Recipe())
    write_night(tmp_path, 1, Recipe(study={"load": {"rps": 9.0}}))
    write_night(tmp_path, 2, Recipe(study={"events": [], "session": None}))  # newer code writes more keys that say nothing
    found = histories(tmp_path)
    assert [len(h.nights) for h in found] == [2, 1]
    assert titles(found) == ["nightly (load.rps 6), 2 nights", "nightly (load.rps 9), 1 night"]


def test_names_with_markup_are_shown_as_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)></script>|`\"'"
    for night in range(12):
        changes = {evil: {"ttft_p99_s": 2.0 if night >= 9 else 1.0}}
        write_night(tmp_path, night, Recipe(routers=(evil, "plain"), seed=night, changes=changes, title=evil))
    found = histories(tmp_path)
    page = build_history_page(found, [], tmp_path / "page.html", title=evil, since=3).read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    text = markdown(found, [], 3)
    assert "<img" not in text.replace("\\<", "")
    assert "\\|\\`" in text
