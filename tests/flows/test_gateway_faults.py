"""A study of gateways' faults: what a bad one says, and a whole run before a gateway that has none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import fault_study, gateway_faults
from flows.fault_study import FaultStudy, bounds_of, holds_faults, load_fault_study
from flows.fault_words import done_words
from flows.gateway_faults import is_fault_run, rebuild_fault_page, run_gateway_faults
from flows.study import StudyError
from routers.gateways.faults import playing
from routers.gateways.programs import MissingProgram
from tests.routers.gateways.specs import PassingBytes

TEXT = """
name: mine
faults:
  - number: 1
    title: Healthy replicas are refused
    gateways: [passing]
    policies: [in_turn]
    replicas: 2
    steps:
      - {name: burst, requests: 4, at_once: 4, behaviour: {status: 503}}
      - {name: after, requests: 2, behaviour: {status: 200}}
    expect:
      default: {burst.status_503: 4, after.answered: 2}
      bare: {after.answered: [1, null]}
"""


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gateway passes bytes on."""

    def find(name: str) -> PassingBytes:
        return PassingBytes()

    for module in (fault_study, gateway_faults, playing):
        monkeypatch.setattr(module, "find_gateway", find)


@pytest.fixture
def study(tmp_path: Path, passing: None) -> Callable[[str, str], Path]:
    """A file with TEXT, one part of which is replaced."""

    def written(old: str = "", new: str = "") -> Path:
        assert old in TEXT
        (tmp_path / "mine.yaml").write_text(TEXT.replace(old, new, 1) if old else TEXT)
        return tmp_path / "mine.yaml"

    return written


def test_a_run_leaves_its_numbers_its_logs_and_a_page(
    study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_gateway_faults(str(study()), out=str(out), sets=[]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(out / "report.html")
    (row,) = json.loads((out / "faults.json").read_text())
    assert (row["reproduced"], row["in_bare"], row["as_expected"], row["version"]) == (True, True, True, "scripted 1")
    assert row["arms"]["default"]["steps"]["burst"]["status_503"] == 4
    assert [e["value"] for e in row["arms"]["default"]["expected"]] == [4, 2]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["ended_utc"] >= manifest["started_utc"]
    assert load_fault_study(str(out / "study.yaml")) == load_fault_study(str(study()))
    assert len(list(out.rglob("gateway.log"))) == 2
    page = (out / "report.html").read_text()
    assert "1 of 1 known faults were reproduced in scripted 1." in page
    assert "burst: 4 requests, 4 at once; 2 replicas answer 503" in page
    assert "<script" not in page


def test_the_page_can_be_made_anew(study: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_gateway_faults(str(study()), out=str(out), sets=[])
    before = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert is_fault_run(out)
    assert rebuild_fault_page(out) == out / "report.html"
    assert (out / "report.html").read_text() == before
    assert not is_fault_run(tmp_path)


def test_what_is_seen_otherwise_ends_with_1_and_names_it(
    study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study("after.answered: 2}", "after.answered: 0}")
    assert run_gateway_faults(str(path), out=str(tmp_path / "run"), sets=[]) == 1
    said = capsys.readouterr().err
    assert "1 of 1 were seen otherwise than the study expects: fault 1 of passing with in_turn" in said
    (row,) = json.loads((tmp_path / "run" / "faults.json").read_text())
    assert (row["reproduced"], row["in_bare"]) == (False, False)
    assert "not reproduced" in (tmp_path / "run" / "report.html").read_text()


def test_a_missing_program_is_skipped_and_nothing_but_that_fails(
    study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> object:
        raise MissingProgram("gateway program 'python3' was not found")

    monkeypatch.setattr(gateway_faults, "play", missing)
    assert run_gateway_faults(str(study()), out=str(tmp_path / "run"), sets=[]) == 1
    assert "nothing was run: no gateway's program was found" in capsys.readouterr().err
    (row,) = json.loads((tmp_path / "run" / "faults.json").read_text())
    assert (row["skipped"], row["as_expected"]) == ("its program python3 was not found", None)
    assert "passing was not tried: its program python3 was not found." in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("number: 1", "numbr: 1", "mine.yaml:4: faults.0.numbr = 1: unknown key; allowed: number, title, kind"),
        ("[in_turn]", "[herd]", "policies: 'herd' is no rule of passing; allowed: in_turn"),
        ("at_once: 4,", "atonce: 4,", "mine.yaml:10: faults.0.steps.0.atonce = 4: unknown key; allowed: name, requests"),
        ("status: 503}", "status: 99}", "mine.yaml:10: faults.0.steps.0.behaviour.status = 99: must be greater than"),
        ("burst.status_503: 4", "birst.status_503: 4", "expect: 'birst.status_503' must be step.quantity; steps: burst, after"),
        ("burst.status_503: 4", "burst.latency: 4", "unknown quantity 'latency'; allowed: answered, lost, attempts"),
        ("[1, null]", "[null, null]", "after.answered = [None, None] is not allowed; a number, or [least, most]"),
        ("[1, null]", "[3, 1]", "after.answered = [3, 1] is not allowed; the least comes first"),
        ("default: {", "naked: {", "faults.0.expect"),
        ("requests: 2,", "requests: 2, warm: 2,", "warm = 2 is not allowed; it must be from 0 to 1"),
    ],
)
def test_a_bad_study_says_where_and_what_is_allowed(study: Callable[..., Path], old: str, new: str, said: str) -> None:
    with pytest.raises(StudyError) as raised:
        load_fault_study(str(study(old, new)))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_gateway_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    with pytest.raises(
        StudyError, match=r"mine.yaml:6: faults.0.gateways = \['passing'\]: unknown gateway 'passing'; allowed: envoy"
    ):
        load_fault_study(str(tmp_path / "mine.yaml"))


def test_a_parameter_that_the_gateway_refuses_is_said_before_it_is_started(tmp_path: Path) -> None:
    text = TEXT.replace("[passing]", "[vllm_router]").replace("[in_turn]", "[cache_aware]")
    (tmp_path / "mine.yaml").write_text(text.replace("replicas: 2", "parameters: {cb_timeout: 4}"))
    with pytest.raises(StudyError, match=r"mine.yaml:4: faults\.0: .*vllm_router.*cb_timeout.*cb_timeout_duration_secs"):
        load_fault_study(str(tmp_path / "mine.yaml"))


def test_options_that_mean_nothing_here_are_refused(study: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--seed 3: a study of gateways' faults has no use for it"):
        run_gateway_faults(str(study()), out=str(tmp_path / "run"), sets=[], refused={"--processes": None, "--seed": 3})
    assert not (tmp_path / "run").exists()


def test_a_key_is_changed_from_the_command_line(study: Callable[..., Path]) -> None:
    changed = load_fault_study(str(study()), ["faults.0.steps.1.requests=7", "name=other"])
    assert (changed.name, changed.faults[0].steps[1].requests) == ("other", 7)
    with pytest.raises(StudyError, match=r"faults\.0\.steps\.1\.requests"):
        load_fault_study(str(study()), ["faults.0.steps.1.requests=many"])


def test_which_studies_are_of_this_kind() -> None:
    assert holds_faults("gateway-faults")
    assert not holds_faults("quickstart")
    assert not holds_faults("no such study")


@pytest.mark.parametrize(
    ("written", "meant"), [(3, (3, 3)), (0.5, (0.5, 0.5)), ([1, None], (1, float("inf"))), ([None, 2], (-float("inf"), 2))]
)
def test_bounds_as_written(written: object, meant: tuple[float, float]) -> None:
    assert bounds_of("s.attempts", written) == meant


@pytest.mark.parametrize("written", [True, "3", None, [1], [1, 2, 3], [None, None], float("nan"), ["1", 2]])
def test_what_is_no_bound(written: object) -> None:
    with pytest.raises(ValueError, match=r"^s\.attempts = "):
        bounds_of("s.attempts", written)


def test_steps_in_words() -> None:
    given: dict[str, Any] = {"number": 1, "title": "t", "gateways": ["nginx"], "policies": ["round_robin"]}
    steps = [
        {"name": "fill", "requests": 40, "at_once": 40, "behaviour": {"first_s": 30.0}, "replicas": [0], "stays_open": True},
        {"name": "again", "again": "fill", "form": "token_ids", "wait_s": 2.0},
        {"name": "left", "leave_after_s": 0.5, "behaviour": {"gap_s": 0.05, "chunks": 400}},
    ]
    given |= {"gateways": ["sglang_router"], "parameters": {"queue_size": 4}, "tells_load": True}
    study = FaultStudy.model_validate({"faults": [{**given, "steps": steps, "expect": {"default": {"left.hang_up_s": [0, 1]}}}]})
    assert done_words(study.faults[0]) == [
        "set: queue_size = 4, replicas tell their load at /get_load",
        "fill: 40 requests, 40 at once; left open; replica 0 answers after 30 s",
        "again: 40 requests, one by one; the prompts of fill again; prompts as token ids; then 2 s of rest",
        "left: one request; hung up after 0.5 s; 3 replicas answer at once, 400 chunks 0.05 s apart",
    ]
