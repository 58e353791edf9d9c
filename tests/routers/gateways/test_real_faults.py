"""The shipped study of gateways' faults against the real programs: a release that mends one turns its test red, and the study's
claim with it."""

from pathlib import Path

import pytest

from flows.fault_study import FaultStudy, load_fault_study
from flows.gateway_faults import played

STUDY = load_fault_study("gateway-faults")
CASES = [(place, name) for place, fault in enumerate(STUDY.faults) for name in fault.gateways]


@pytest.mark.gateway
@pytest.mark.slow
@pytest.mark.parametrize(("place", "name"), CASES)
def test_what_the_study_expects_is_seen(place: int, name: str, tmp_path: Path) -> None:
    fault = STUDY.faults[place].model_copy(update={"gateways": [name]})
    rows = list(played(FaultStudy(faults=[fault]), tmp_path))
    assert len(rows) == len(fault.policies)
    for row in rows:
        wrong = {arm: [e for e in seen["expected"] if not e["held"]] for arm, seen in row["arms"].items()}
        assert row["as_expected"], f"{row['failed']} {wrong}"
        assert row["version"]
        assert set(row["arms"]) == set(fault.expect)
    assert list(tmp_path.rglob("gateway.log")), "logs are kept"


def test_the_known_faults_are_all_there() -> None:
    assert {1, 2, 3, 4, 5, 8} <= {fault.number for fault in STUDY.faults if fault.kind == "fault"}
    for number in (1, 2, 3, 5):
        gateways = {name for fault in STUDY.faults if fault.number == number for name in fault.gateways}
        assert gateways == {"sglang_router", "vllm_router"}
    assert all({"default", "bare"} == set(fault.expect) for fault in STUDY.faults if fault.kind == "fault")
