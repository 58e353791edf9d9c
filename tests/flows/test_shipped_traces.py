"""Traces that presets use by name: what is shipped is what the generator makes, and a file of one's own comes first."""

from pathlib import Path

import pytest

from flows import shipped_traces as shipped
from flows.load_study import load_study
from flows.workload_plan import read_trace, read_trace_file


def test_what_is_shipped_is_what_the_generator_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {name: read_trace_file(name).provenance for name in shipped.shipped_traces()}
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    made = {path.stem: read_trace_file(str(path)).provenance for path in shipped.write_shipped()}
    assert {name: told["sha256"] for name, told in made.items()} == {name: told["sha256"] for name, told in here.items()}
    assert all(told["synthetic"] is True for told in here.values())


def test_small_chats_fit_a_tiny_model_and_share_prefixes() -> None:
    trace = read_trace(load_study("live-served"))
    assert trace.turn_count / len(trace) > 4
    assert int(trace.reply_tokens.max()) < 100
    assert len(set(trace.tenant.tolist())) == 8


def test_a_file_of_that_name_comes_first_and_other_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped.trace_file("small-chats").endswith("small-chats.parquet")
    assert shipped.trace_file("synthetic") == "synthetic"
    assert shipped.trace_file("a/small-chats") == "a/small-chats"
    monkeypatch.chdir(tmp_path)
    Path("small-chats").touch()
    assert shipped.trace_file("small-chats") == "small-chats"
