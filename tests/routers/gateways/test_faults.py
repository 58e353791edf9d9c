"""The known faults of the real gateways, held: a release that mends one turns its test red, and the study's claim with it."""

from pathlib import Path

import pytest

from routers.gateways.faults import FAULTS, chosen_faults, measure_faults

MEASUREMENTS = [(fault, name) for fault, known in FAULTS.items() for name in known.gateways]


@pytest.mark.gateway
@pytest.mark.slow
@pytest.mark.parametrize(("fault", "name"), MEASUREMENTS)
def test_a_known_fault_is_still_there(fault: str, name: str, tmp_path: Path) -> None:
    rows = measure_faults([name], [fault], tmp_path)
    assert rows
    assert {(r.fault, r.gateway) for r in rows} == {(fault, name)}
    assert [r for r in rows if r.reproduced is False] == []
    if name in ("sglang_router", "vllm_router") and (fault, name) != ("added_ttft", "vllm_router"):
        assert any(r.reproduced for r in rows), "a fault of the wheels makes a claim"
    assert list(tmp_path.rglob("gateway.log")), "logs are kept"


@pytest.mark.gateway
@pytest.mark.slow
@pytest.mark.parametrize("name", ["haproxy"])
def test_a_hang_up_that_never_comes_is_infinite_not_long(name: str, tmp_path: Path) -> None:
    values = {r.quantity: r.value for r in measure_faults([name], ["hang_up_cancels"], tmp_path)}
    assert values["hang-up before its first chunk reaches the replica after"] == float("inf")
    assert values["hang-up in the stream reaches the replica after"] < 1.0


def test_faults_are_measured_on_the_gateways_they_are_about() -> None:
    assert chosen_faults(["vllm_router", "nginx"], ["retry_storm", "added_ttft"]) == [
        ("retry_storm", "vllm_router"),
        ("added_ttft", "vllm_router"),
        ("added_ttft", "nginx"),
    ]


@pytest.mark.parametrize(
    ("gateways", "faults", "said"),
    [
        (["nginx"], ["thundering"], "unknown gateway fault 'thundering'; allowed: breaker_lockout, retry_storm"),
        (["traefik"], ["retry_storm"], "unknown gateway 'traefik'"),
        (["nginx"], ["retry_storm"], "none of the faults"),
    ],
)
def test_what_cannot_be_measured_is_said(gateways: list[str], faults: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"unknown|none") as raised:
        chosen_faults(gateways, faults)
    assert str(raised.value).startswith(said)
