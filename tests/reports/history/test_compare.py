"""Two runs side by side: pairs, what only one side has, verdicts, settings."""

from pathlib import Path
from typing import Any

import pytest

from reports.history.compare_page import build_compare_page
from reports.history.compare_words import compare_markdown, how_paired, told
from reports.history.differences import Comparison, compare
from reports.history.sides import leaves, read_side
from tests.reports.history.run_folders import Recipe, write_night

SEEDS = (1, 2, 3, 4, 5)


def pair(folder: Path, base: dict[str, Any], other: dict[str, Any]) -> Comparison:
    same: dict[str, Any] = {"noise": 0.0, "seeds": SEEDS}
    runs = [write_night(folder, i, Recipe(**{**same, "seed": i, **one})) for i, one in enumerate((base, other))]
    return compare(read_side(runs[0], "A"), read_side(runs[1], "B"))


def test_one_router_slower_by_two_per_cent_is_sure_over_equal_workloads(tmp_path: Path) -> None:
    found = pair(tmp_path, {}, {"changes": {"round_robin": {"ttft_p99_s": 1.02}}})
    assert found.paired == SEEDS
    (sure,) = (f for f in found.figures if f.grade == "sure")
    assert (sure.arm[0], sure.metric.name, sure.test, sure.worse, sure.n) == ("round_robin", "ttft_p99_s", "paired", True, 5)
    assert sure.size is not None
    assert sure.low is not None
    assert sure.high is not None
    assert sure.low < 0.02 < sure.high
    assert sure.high - sure.low < 0.03
    assert told(found)[0].startswith("B against A: TTFT p99 of round_robin on a normal day is ")
    assert told(found)[0].endswith("worse, sure.")


def test_the_same_step_over_other_workloads_cannot_be_told_by_welch(tmp_path: Path) -> None:
    found = pair(tmp_path, {"jitter": 0.03}, {"jitter": 0.03, "workload": "v", "changes": {"round_robin": {"ttft_p99_s": 1.02}}})
    assert found.paired == ()
    assert {f.test for f in found.figures} == {"welch"}
    assert (
        how_paired(found) == "Not paired, since the workloads of their seeds differ: Welch’s t over seeds, which is less sharp."
    )
    assert [f for f in found.figures if f.grade == "sure"] == []


def test_equal_runs_are_equal_to_the_last_digit(tmp_path: Path) -> None:
    found = pair(tmp_path, {"jitter": 0.0}, {"jitter": 0.0})
    assert "are equal to the last digit" in told(found)[0]
    assert len(told(found)) == 1


def test_a_difference_under_half_a_per_cent_is_of_no_interest(tmp_path: Path) -> None:
    found = pair(tmp_path, {"jitter": 0.0}, {"jitter": 0.0, "changes": {"round_robin": {"ttft_p99_s": 1.001}}})
    (changed,) = (f for f in found.figures if f.size)
    assert changed.p_holm < 0.01
    assert changed.grade == ""


def test_repeats_of_a_seed_are_one_value_of_it(tmp_path: Path) -> None:
    found = pair(tmp_path, {"repeats": 3}, {"repeats": 3, "changes": {"round_robin": {"ttft_p99_s": 1.10}}})
    (sure,) = (f for f in found.figures if f.grade == "sure")
    assert (sure.metric.name, sure.n) == ("ttft_p99_s", len(SEEDS))


def test_the_verdict_of_a_seed_is_that_of_its_middle_run(tmp_path: Path) -> None:
    run = write_night(tmp_path, 0, Recipe(seeds=(1, 2), repeats=2, not_back={"round_robin": 1}))
    told_of = {arm[0]: verdicts for arm, verdicts in read_side(run, "A").verdicts.items()}
    assert told_of["round_robin"] == {1: "metastable", 2: "recovered"}


def test_censored_seeds_are_counted_and_have_no_size(tmp_path: Path) -> None:
    found = pair(tmp_path, {}, {"changes": {"round_robin": {"ttft_p99_s": None}}})
    (beyond,) = (f for f in found.figures if f.size is None)
    assert (beyond.censored, beyond.test, beyond.worse, beyond.grade) == ((0, 5), "fisher", True, "likely")
    assert any("beyond what was answered in 5 seeds instead of 0" in s for s in told(found))


def test_an_arm_that_does_not_come_back_is_named_with_fishers_p(tmp_path: Path) -> None:
    found = pair(tmp_path, {}, {"not_back": {"round_robin": 5}})
    (verdict,) = found.verdicts
    assert (verdict.old, verdict.new, verdict.worse) == ((5, 5), (0, 5), True)
    assert verdict.p == pytest.approx(2 / 252)
    assert any(
        "After the trigger, round_robin came back in 0 of 5 runs instead of 5 of 5 (now 5 metastable; before 5 recovered" in s
        for s in told(found)
    )


def test_what_only_one_side_has_is_said(tmp_path: Path) -> None:
    found = pair(
        tmp_path, {"routers": ("round_robin", "old"), "void": 1}, {"routers": ("round_robin", "new"), "seeds": (1, 2, 9)}
    )
    assert set(found.missing) == {
        "Only A has the arm old, none, 3 tries, 2 × p.",
        "Only B has the arm new, none, 3 tries, 2 × p.",
        "Only A has seeds 3, 4, 5.",
        "Only B has seed 9.",
        "1 of 10 cells of A are void (the load was not delivered) and left out.",
    }
    assert {f.arm[0] for f in found.figures} == {"round_robin"}


def test_another_pool_is_a_difference_and_no_other_arm(tmp_path: Path) -> None:
    found = pair(tmp_path, {}, {"pool": "4 × p", "changes": {"round_robin": {"ttft_p99_s": 0.8}}})
    assert found.missing == ("A ran on 2 × p, B on 4 × p.",)
    (sure,) = (f for f in found.figures if f.grade == "sure")
    assert (sure.arm[0], sure.metric.name, sure.worse) == ("round_robin", "ttft_p99_s", False)


def test_void_cells_are_not_compared(tmp_path: Path) -> None:
    found = pair(tmp_path, {"void": 1}, {})
    ns = {f.arm[0]: f.n for f in found.figures}
    assert ns == {"round_robin": 4, "least_outstanding": 5}


def test_runs_without_an_arm_in_common_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no arm in common"):
        pair(tmp_path, {"routers": ("a",)}, {"routers": ("b",)})


def test_settings_that_differ_are_listed_and_equal_ones_are_not(tmp_path: Path) -> None:
    found = pair(tmp_path, {}, {"code": "b" * 16, "study": {"slo": {"ttft_s": 3.0}}})
    assert set(found.settings) == {("code_hash", "a" * 16, "b" * 16), ("study.slo.ttft_s", "2", "3")}


def test_items_of_a_list_are_called_by_their_names() -> None:
    listed = {"routers": [{"name": "a", "parameters": {"x": 1}}, {"label": "b", "name": "a"}], "seeds": [1, 2], "none": None}
    assert leaves(listed, "study") == [
        ("study.routers[a].name", "a"),
        ("study.routers[a].parameters.x", "1"),
        ("study.routers[b].label", "b"),
        ("study.routers[b].name", "a"),
        ("study.seeds", "1, 2"),
    ]


def test_names_with_markup_are_shown_as_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>|"
    found = pair(tmp_path, {"routers": (evil,)}, {"routers": (evil,), "changes": {evil: {"ttft_p99_s": 2.0}}})
    page = build_compare_page([found], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert "<img" not in compare_markdown([found]).replace("\\<", "")
