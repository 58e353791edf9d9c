"""A million arrivals cost at most half a second of CPU."""

import time
from typing import Any

import pytest

from workloads.arrivals import session_arrivals


@pytest.mark.benchmark
@pytest.mark.parametrize(
    "arrival",
    [
        {"process": "poisson"},
        {"process": "gamma"},
        {"process": "poisson", "modulate": {"shape": "sine", "period_s": 60, "amplitude": 0.9}},
    ],
    ids=str,
)
def test_a_million_arrivals(arrival: dict[str, Any]) -> None:
    began_s = time.process_time()
    arrivals = session_arrivals(arrival, 1000.0, 0.0, 1000.0, 1, None)
    took_s = time.process_time() - began_s
    print(f"\n{arrival}: {len(arrivals.start_s)} arrivals in {took_s:.3f} s CPU")
    assert len(arrivals.start_s) > 900_000
    assert took_s <= 0.5
