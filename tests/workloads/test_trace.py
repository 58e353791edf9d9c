"""Traces by name and by file; each mistake is one clear line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workloads.traces import blocks, chat, trace_of
from workloads.conversation import Conversation, Turn
from workloads.description import describe
from workloads.sources import SOURCES
from workloads.trace import import_trace, load_trace


def test_every_source_says_what_it_is() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.about
        assert source.licence
        assert source.citation


def test_unknown_names_and_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    calls: list[tuple[Callable[[], object], str]] = [
        (
            lambda: load_trace("sharegtp"),
            "sharegtp: no such trace: neither a file nor a source's name; sources: synthetic, sharegpt",
        ),
        (lambda: load_trace(str(tmp_path)), "not recognised as any of"),
        (lambda: load_trace(str(tmp_path / "notes.txt")), "notes.txt: not recognised as any of synthetic, sharegpt"),
        (lambda: load_trace(str(tmp_path / "cut.parquet")), "cut.parquet: not a whole Parquet file"),
        (lambda: load_trace("synthetic", "nope"), "no trace source 'nope'; allowed: synthetic"),
        (lambda: load_trace(str(tmp_path / "notes.txt"), "azure_llm_2023"), "notes.txt:1: expected the header"),
        (lambda: load_trace(str(tmp_path / "notes.txt"), "mooncake"), "notes.txt:1: not JSON"),
        (lambda: import_trace("nope", None, tmp_path / "o"), "no trace source 'nope'"),
        (lambda: import_trace("sharegpt", tmp_path / "no.json", tmp_path / "o"), "no.json: no such file"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "o").exists()


def test_a_failed_import_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": []}\n')
    with pytest.raises(ValueError, match="hash_ids has 0 blocks"):
        import_trace("mooncake", tmp_path / "bad.jsonl", tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.jsonl"]


def test_reuse_by_arithmetic() -> None:
    """Second prompt of a chat: 10+20 of 10+20+30 tokens are cached. A shared block counts from its second use on."""
    assert describe(trace_of(chat("a", (10, 20), (30, 5))))["prefix_reuse"] == pytest.approx(30 / 70)
    shared = trace_of(*(Conversation(n, (Turn(1024, 1, blocks(7, b)),)) for n, b in (("a", 8), ("b", 9), ("c", 8))))
    assert describe(shared)["prefix_reuse"] == pytest.approx((512 + 1024) / 3072)


def test_a_block_behind_another_prefix_is_not_reused() -> None:
    trace = trace_of(Conversation("a", (Turn(1024, 1, blocks(1, 2)),)), Conversation("b", (Turn(1024, 1, blocks(3, 2)),)))
    assert describe(trace)["prefix_reuse"] == 0.0


def test_a_trace_without_a_clock_has_no_arrival_statistics() -> None:
    facts = describe(trace_of(chat("a", (1, 1), think_s=2.0), chat("b", (1, 1), (1, 1), tenant=4)))
    assert facts["arrivals"] is None
    assert (facts["sessions"], facts["turns"], facts["tenants"]) == (2, 3, 2)
