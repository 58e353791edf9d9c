"""Several senders' parts make one cell: every request once, counted again, in one order."""

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from replay.retry import RetryRule
from replay.send.merge import merge_parts, write_merged
from replay.send.part import FACTS, play
from replay.send.sender import Sender
from replay.send.share import rule_of, share_of
from replay.send.spec import SendSpec
from replay.virtual_cell import NotConserved
from tests.replay.scenes import conversation, single_turns
from tests.replay.send.scripted import CLOSE, Asked, Script, send_cell, server, well
from workloads.workload import Workload


def sometimes(asked: Asked) -> Script:
    number, _, attempt = asked.headers["x-stampede-request"].partition(".")
    return [CLOSE] if (int(number) + int(attempt)) % 3 == 0 else well(asked)


def parts_of(workload: Workload, folder: Path, senders: int) -> list[Path]:
    a_cell = send_cell(RetryRule("r", max_attempts=2, backoff_s=0.01))
    parts = []
    with server(sometimes) as (url, _):
        for number in range(senders):
            spec = SendSpec(a_cell, (url,), str(folder), sender=number, senders=senders)
            play(spec, Sender(spec, workload), time.monotonic() + 0.05)
            parts.append(spec.part)
    return parts


ARRIVALS = [0.01 * i for i in range(30)]


def test_three_senders_play_every_session_once(tmp_path: Path) -> None:
    workload = single_turns(ARRIVALS)
    parts = parts_of(workload, tmp_path, 3)
    random.Random(1).shuffle(parts)
    merged = merge_parts(parts)
    rows = merged.table.to_pylist()
    assert [(r["request_id"], r["attempt"]) for r in rows] == sorted((r["request_id"], r["attempt"]) for r in rows)
    assert {r["request_id"] for r in rows} == set(range(30))
    assert merged.counts["planned"] == merged.counts["scheduled"] == 30
    assert merged.counts["ok"] == sum(r["outcome"] == "ok" for r in rows)
    assert merged.counts["ok"] + merged.counts["failed"] == 30
    assert [s["counts"]["planned"] for s in merged.senders] == [10, 10, 10]
    facts = merged.facts()
    assert (facts["driver"], facts["conserved"], facts["attempts"]) == ("wall", True, len(rows))


def test_one_sender_and_three_say_the_same(tmp_path: Path) -> None:
    outcomes = [
        [(r["request_id"], r["attempt"], r["outcome"], r["scheduled_us"] if r["attempt"] == 1 else 0) for r in table.to_pylist()]
        for table in (merge_parts(parts_of(single_turns(ARRIVALS), tmp_path / str(n), n)).table for n in (1, 3))
    ]
    assert outcomes[0] == outcomes[1]


def test_the_merged_cell_is_written_whole(tmp_path: Path) -> None:
    merged = merge_parts(parts_of(single_turns(ARRIVALS[:4]), tmp_path, 2))
    write_merged(merged, {"cell_id": merged.cell_id, "load_rps": 5.0}, tmp_path)
    facts = json.loads((tmp_path / "cell.json").read_text())
    assert facts["load_rps"] == 5.0
    assert facts["counts"]["planned"] == 4
    assert facts["send_lag_p99_s"] >= 0


@pytest.mark.parametrize("which", [[0], [0, 0], []])
def test_a_part_that_is_missing_or_twice_is_said(tmp_path: Path, which: list[int]) -> None:
    parts = parts_of(single_turns(ARRIVALS[:4]), tmp_path, 2)
    with pytest.raises(ValueError, match="parts: senders"):
        merge_parts([parts[i] for i in which])


def test_a_part_that_is_not_whole_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no whole part"):
        merge_parts([tmp_path])


def test_a_lost_request_is_noticed(tmp_path: Path) -> None:
    (part,) = parts_of(single_turns(ARRIVALS[:4]), tmp_path, 1)
    facts = json.loads((part / FACTS).read_text())
    facts["counts"]["ok"] += 1
    (part / FACTS).write_text(json.dumps(facts))
    with pytest.raises(NotConserved):
        merge_parts([part])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"send_lag_p99_s": 0.2}, "sender 0: the sender fell behind"),
        ({"read_lag_p99_s": 0.2}, "sender 0: the sender read too late"),
        ({"facts": {"no_socket": 3}}, "no socket left for 3"),
    ],
)
def test_a_run_that_does_not_count_says_so(tmp_path: Path, change: dict[str, object], why: str) -> None:
    (part,) = parts_of(single_turns(ARRIVALS[:4]), tmp_path, 1)
    facts = json.loads((part / FACTS).read_text()) | {"lag_limit_s": 0.1} | change
    (part / FACTS).write_text(json.dumps(facts))
    void = merge_parts([part]).facts()["void"]
    assert (why in void) if why else void == ""


def test_a_share_keeps_ids_and_a_part_of_the_budget() -> None:
    workload = single_turns(ARRIVALS)
    share, own = share_of(workload, 1, 4)
    assert own == 8
    assert (share.table.arrival_us >= 0).nonzero()[0].tolist() == list(range(1, 30, 4))
    whole, _ = share_of(conversation(3), 0, 1)
    assert whole.table.equals(conversation(3).table)
    rule = RetryRule("r", budget=0.1, budget_burst=10.0)
    assert [rule_of(rule, n).budget_burst for n in (1, 4, 40)] == [10.0, 2.5, 1.0]
    assert rule_of(replace(rule, budget_burst=0.5), 2).budget_burst == 0.5
