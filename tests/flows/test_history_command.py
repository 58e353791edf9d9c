"""`stampede history` and `compare` as commands: exit codes, last line, files."""

from pathlib import Path

import pytest

from flows.cli import main
from tests.reports.history.run_folders import Recipe, write_night


@pytest.fixture(autouse=True)
def without_chart_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.history.page.chart_library", str)


def code(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten nights; from the eighth on one router's TTFT is 40% up: an alarm and sure in the last nights."""
    folder = tmp_path_factory.mktemp("worse")
    for night in range(10):
        changes = {"round_robin": {"ttft_p99_s": 1.4 if night >= 8 else 1.0}}
        write_night(folder, night, Recipe(seed=night, noise=0.01, changes=changes))
    return folder


def test_the_gate_is_red_for_a_regression_of_the_last_night_and_the_last_line_is_the_page(
    worse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code("history", worse) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == str(worse / "history.html")
    assert (worse / "history.html").is_file()


def test_the_gate_can_be_off(worse: Path, tmp_path: Path) -> None:
    assert code("history", worse, "--gate", "none", "--out", tmp_path / "h.html") == 0


def test_a_regression_that_the_last_night_did_not_find_is_old_news(worse: Path, tmp_path: Path) -> None:
    later = tmp_path / "runs"
    later.mkdir()
    for run in worse.glob("night-*"):
        (later / run.name).symlink_to(run)
    for night in range(10, 13):
        changes = {"round_robin": {"ttft_p99_s": 1.4}}
        write_night(later, night, Recipe(seed=night, noise=0.01, changes=changes))
    assert code("history", later, "--gate", "likely") == 0
    assert code("history", later, "--gate", "likely", "--since", "4") == 1


def test_quiet_nights_are_green_and_the_summary_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for night in range(9):
        write_night(tmp_path, night, Recipe(seed=night, noise=0.0, jitter=0.0))
    summary = tmp_path / "summary.md"
    assert code("history", tmp_path, "--gate", "likely", "--summary", summary, "--markdown") == 0
    assert "Nothing changed beyond noise" in summary.read_text()
    assert "Nothing changed beyond noise" in capsys.readouterr().out


def test_only_the_last_nights_are_looked_at(worse: Path, tmp_path: Path) -> None:
    assert code("history", worse, "--nights", "2", "--out", tmp_path / "h.html") == 0


def test_bad_usage_is_exit_code_2_in_one_line(tmp_path: Path, worse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = next(worse.glob("night-*"))
    for arguments in (
        ("history", tmp_path / "nowhere"),
        ("history", tmp_path),
        ("history", worse, "--gate", "maybe"),
        ("history", worse, "--out", tmp_path / "no" / "h.html"),
        ("history", worse, "--summary", tmp_path / "no" / "s.md"),
        ("compare", run),
        ("compare", run, tmp_path),
    ):
        assert code(*arguments) == 2, arguments
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said


def test_compare_gates_on_the_worse_run_and_not_on_the_better_one(worse: Path, tmp_path: Path) -> None:
    first, *_, last = sorted(worse.glob("night-*"))
    page, summary = tmp_path / "c.html", tmp_path / "c.md"
    assert code("compare", first, last, "--out", page, "--summary", summary) == 1
    assert page.is_file()
    assert "TTFT p99 of round" in summary.read_text()
    assert code("compare", first, first, "--out", page) == 0
    assert code("compare", first, last, "--gate", "none", "--out", page) == 0
