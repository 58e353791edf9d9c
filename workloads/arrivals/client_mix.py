"""Many clients of unequal rates, each bursty in its own way, as one process of mean rate 1. It knows no seconds, no tenants."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from workloads.arrivals.intensity import Floats
from workloads.arrivals.parameters import Number, Parameter
from workloads.arrivals.renewal import gamma_gaps, weibull_gaps
from workloads.arrivals.two_state import Draw

# Defaults after ServeGen's published client windows (arXiv 2505.09999; data Apache-2.0):
# - clients: its 12 models have 29 to 162 active ones; m-small 43, mm-image 35.
# - zipf: shares ∝ 1/rank^zipf. Its top 10 clients send 63–93% of requests, which fits exponents of 1.0 to 1.6 over each model's
#   own number of clients; 1.0 over 40 clients gives the top 10 68%.
# - cv_median: a client's median CV is 1.0 to 1.4 by model.
# - cv_sigma: the logarithm of a client's CV has standard deviation 0.75 to 1.07 by model (day 0). The mean CV is then 1.8; the
#   published rate-weighted one goes up to 3.45, as a model's largest clients may be its burstiest. Here rate and CV are
#   independent.
# - weibull_share: Weibull fits best in 16–30% of the windows, Gamma in the others.
CLIENT_MIX: Mapping[str, Parameter] = {
    "clients": Number(40, whole=True, most=100_000),
    "zipf": Number(1.0, from_zero=True, most=10),
    "cv_median": Number(1.2, most=10),
    "cv_sigma": Number(0.9, from_zero=True, most=2),
    "weibull_share": Number(0.23, from_zero=True, most=1),
}
_MOST_CV = 100.0


def client_mix(parameters: Mapping[str, Any], until: float, draw: Draw) -> Floats:
    """The superposition of independent renewal processes, one a client: Zipf shares, log-normal CVs, Gamma or Weibull gaps.

    The clients themselves are drawn by the seed.
    """
    shares, cvs, weibull = drawn_clients(parameters, draw)
    times = [np.empty(0)]
    for client, (share, cv, is_weibull) in enumerate(zip(shares.tolist(), cvs.tolist(), weibull.tolist(), strict=True), 1):
        make = weibull_gaps if is_weibull else gamma_gaps
        times.append(make({"cv": cv}, until * share, partial(draw, client)) / share)
    joined = np.sort(np.concatenate(times))
    return joined[joined < until]


def drawn_clients(parameters: Mapping[str, Any], draw: Draw) -> tuple[Floats, Floats, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Share of the rate, CV and whether Weibull, for each client, the largest first."""
    count, stream = parameters["clients"], draw()
    weights = np.arange(1, count + 1, dtype=np.float64) ** -parameters["zipf"]
    cvs = parameters["cv_median"] * np.exp(parameters["cv_sigma"] * stream.standard_normal(count))
    return weights / weights.sum(), np.minimum(cvs, _MOST_CV), stream.random(count) < parameters["weibull_share"]
