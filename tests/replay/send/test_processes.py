"""Several sender processes on one epoch: all get ready, play their shares, and none is left over."""

from dataclasses import replace
from pathlib import Path

import pytest

from replay.send.merge import merge_parts
from replay.send.processes import SenderFailed, ready_senders
from replay.send.spec import SendSpec
from tests.replay.scenes import single_turns
from tests.replay.send.scripted import send_cell, server, well
from workloads.storage import write_workload


def specs_of(folder: Path, url: str, senders: int = 2, drain_s: float = 3.0) -> list[SendSpec]:
    workload = single_turns([0.05 * i for i in range(8)])
    a_cell = replace(send_cell(drain_s=drain_s), workload=str(write_workload(workload, folder)))
    return [SendSpec(a_cell, (url,), str(folder), sender=i, senders=senders) for i in range(senders)]


def test_two_senders_on_one_epoch(tmp_path: Path) -> None:
    with server(well) as (url, asked), ready_senders(specs_of(tmp_path, url), tmp_path) as senders:
        epoch_s = senders.begin(lead_s=0.3)
        parts = senders.wait()
    merged = merge_parts(parts)
    assert merged.counts["ok"] == merged.counts["planned"] == 8
    due = {int(a.headers["x-stampede-request"].partition(".")[0]): a.at_s - epoch_s for a in asked}
    assert [due[i] for i in range(8)] == pytest.approx([0.05 * i for i in range(8)], abs=0.5)
    assert sorted(a.at_s for a in asked)[0] >= epoch_s
    assert (tmp_path / "sender-1.log").read_text() == ""


def test_one_that_cannot_start_fails_all(tmp_path: Path) -> None:
    good, bad = specs_of(tmp_path, "http://127.0.0.1:1")
    bad = replace(bad, cell=replace(bad.cell, workload="nowhere.parquet"))
    why = r"sender 1 ended before it was ready: .*nowhere\.parquet: no such workload file"
    with pytest.raises(SenderFailed, match=why), ready_senders([good, bad], tmp_path):
        pass


def test_one_that_does_not_end_is_said_and_gone(tmp_path: Path) -> None:
    def silent(asked: object) -> list[float]:
        return [9.0]

    with server(silent) as (url, _), ready_senders(specs_of(tmp_path, url, 1, drain_s=5.0), tmp_path) as senders:
        senders.begin()
        with pytest.raises(SenderFailed, match="sender 0 did not end in time"):
            senders.wait(margin_s=-6.0)
        (one,) = senders._senders
        assert one.process.poll() is None
    assert one.process.poll() is not None


def test_one_that_is_killed_is_said(tmp_path: Path) -> None:
    with ready_senders(specs_of(tmp_path, "http://127.0.0.1:1"), tmp_path) as senders:
        senders.begin()
        senders._senders[1].process.kill()
        with pytest.raises(SenderFailed, match="sender 1 ended with code -9"):
            senders.wait()
