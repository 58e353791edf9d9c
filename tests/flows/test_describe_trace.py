"""`trace describe` in its three forms: tables, JSON, a page; each mistake is one clear line and leaves nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.describe_trace import Comparison, describe_trace


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four hundred rows of the Azure format, by hand: one every 250 ms, except that every eighth comes with the one before."""
    path = tmp_path_factory.mktemp("azure") / "trace.csv"
    rows = []
    for i in range(400):
        ms = 250 * (i - (i % 8 == 7))
        stamp = f"2023-11-16 18:{15 + ms // 60_000:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}0000"
        rows.append(f"{stamp},{100 + 7 * (i % 90)},{20 + i % 60}")
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\r\n" + "\r\n".join(rows))
    return str(path)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Chats without a clock."""
    path = tmp_path_factory.mktemp("chats") / "chats.json"
    said = [{"from": role, "value": f"some words {i} " * (i % 9 + 1)} for i in range(4) for role in ("human", "gpt")]
    path.write_text(json.dumps([{"id": f"c{i}", "conversations": said[: 2 + 2 * (i % 4)]} for i in range(40)]))
    return str(path)


def test_tables_for_people(azure: str, capsys: pytest.CaptureFixture[str]) -> None:
    describe_trace(azure)
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("azure_llm_2023 · trace.csv · licence: CC-BY-4.0 · from 2023-11-16 18:15 UTC")
    assert "400 requests over 99.5 s, 4.02 a second" in said
    assert "input tokens (whole prompt)" in said
    assert "index of dispersion, 10 s" in said
    assert "Synthesized" not in said
    assert max(len(line) for line in said.splitlines() if line.startswith(" ")) <= 130


def test_json_for_machines(azure: str, capsys: pytest.CaptureFixture[str]) -> None:
    describe_trace(azure, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["source"], facts["sessions"]) == ("azure_llm_2023", 400)
    assert "fidelity" not in facts
    describe_trace(azure, as_json=True, against=Comparison())
    rows = json.loads(capsys.readouterr().out)["fidelity"]
    assert {r["verdict"] for r in rows if r["metric"].startswith(("input", "output", "sessions, made"))} == {"same"}


def test_a_page_is_named_last(azure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    describe_trace(azure, html=str(page), against=Comparison(load_rps=3.0, seconds=60.0, arrival="poisson", seed=2))
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == str(page)
    assert "arrivals asked for: poisson" in said
    text = page.read_text(encoding="utf-8")
    assert "<title>The trace trace.csv</title>" in text
    assert 'id="fidelity-table"' in text


def test_a_study_brings_its_own_plan_and_selection(chats: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: mine\nworkload: {trace: synthetic, select: {turns: [2, null]}}\nload: {rps: 5.0}\n"
        "phases: {warmup_s: 10, steady_s: 60, recovery_s: 60}\nrouters: [round_robin]\npool: {replicas: 1}\n"
    )
    describe_trace(chats, against=Comparison(study=str(study)), as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["sessions"] == 30
    planned = {r["metric"]: r for r in facts["fidelity"]}["sessions a second"]
    assert planned["why"].startswith("load asked for: 5 requests/s")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"file": "gone.csv"}, "gone.csv: no such trace"),
        ({"html": "page.html", "as_json": True}, "--json and --html are two forms of one answer"),
        ({"html": "no/such/page.html"}, "--html no/such/page.html: no folder no/such"),
        ({"html": "."}, "--html .: is a folder; name a file"),
        ({"against": Comparison()}, "--load is missing: the trace 'sharegpt' has no clock"),
        ({"against": Comparison(load_rps=-1.0)}, "load_rps is -1.0; expected a number > 0"),
        ({"against": Comparison(load_rps=1.0, seconds=0.0)}, "--seconds is 0; expected a number > 0"),
        ({"against": Comparison(load_rps=1.0, arrival="poison")}, "arrival.process is 'poison'; allowed: "),
        ({"against": Comparison(load_rps=1.0, arrival="trace")}, "this trace has no timestamps"),
        ({"against": Comparison(study="quickstart")}, "--load is missing: load.fraction of quickstart is a share"),
        (
            {"against": Comparison(study="quickstart", seconds=5.0)},
            "--seconds and --arrival belong to a comparison",
        ),
        ({"against": Comparison(study="gone")}, "gone"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_mistakes_are_one_line(
    chats: str, arguments: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"[a-z]") as raised:
        describe_trace(**{"file": chats, **arguments})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
