"""What the manifest says of the traffic: compared with the trace, or why it was not."""

from pathlib import Path

import pytest

from flows import manifest
from flows.load_study import load_study
from flows.workload_plan import read_trace, synthesize_workload


def test_a_plan_is_compared_with_its_trace(tmp_path: Path) -> None:
    study = load_study("smoke")
    trace = read_trace(study)
    planned = synthesize_workload(trace, study, 6.0, 2, tmp_path)
    facts = manifest.fidelity_facts(trace, planned.path, planned.requests, 2)
    assert facts["seed"] == 2
    rows = {row["metric"]: row for row in facts["rows"]}
    assert rows["sessions a second"]["verdict"] == "by design"  # the study asks for a load of its own
    assert rows["output tokens: mean"]["source"] == pytest.approx(float(trace.reply_tokens.mean()), rel=0.2)
    assert sum(row["verdict"] == "same" for row in facts["rows"]) >= 0.8 * len(rows) - 5


@pytest.mark.parametrize(
    ("most", "said"),
    [(100, "the trace has {turns:,} turns, and at most 100 are compared"), (None, "the plan of one seed has 9,999,999 requests")],
)
def test_what_is_too_long_is_left_out_with_a_word(
    most: int | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if most is not None:
        monkeypatch.setattr(manifest, "MAX_COMPARED", most)
    trace = read_trace(load_study("smoke"))
    facts = manifest.fidelity_facts(trace, tmp_path / "never read.parquet", 9_999_999, 1)
    assert set(facts) == {"seed", "skipped"}
    assert facts["skipped"].startswith(said.format(turns=trace.turn_count))
