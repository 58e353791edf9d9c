"""Stationary point processes of mean rate 1 in operational time, with independent gaps. They do not know seconds or rates."""

from collections.abc import Callable, Mapping
from math import exp, gamma, log, log1p, pi, sqrt
from typing import Any

import numpy as np

from workloads.arrivals.intensity import Floats
from workloads.arrivals.parameters import Number, Parameter
from workloads.arrivals.two_state import Draw

_BLOCK = 1024
CV: Mapping[str, Parameter] = {"cv": Number(2.0, most=100)}


def constant(parameters: Mapping[str, Any], until: float, draw: Draw) -> Floats:
    """Gaps of exactly 1; the first time is uniform in [0, 1)."""
    times = np.arange(draw().random(), until, 1.0, dtype=np.float64)
    return times[times < until]


def poisson(parameters: Mapping[str, Any], until: float, draw: Draw) -> Floats:
    """Exponential gaps, none clipped: CV 1, index of dispersion 1."""
    stream = draw()
    return _renewal(stream.exponential(1.0), lambda n: stream.exponential(1.0, n), until)


def gamma_gaps(parameters: Mapping[str, Any], until: float, draw: Draw) -> Floats:
    """Gamma gaps of mean 1 and coefficient of variation `cv`: shape 1/cv², scale cv².

    The first gap has the equilibrium law (density 1 − F): a uniform share of a length-biased gap, which is
    Gamma(shape + 1). So the process is stationary from its beginning on (Cox, Renewal Theory, 1962, ch. 5).
    """
    stream, cv = draw(), parameters["cv"]
    shape, scale = cv**-2, cv**2
    first = stream.random() * stream.gamma(shape + 1, scale)
    return _renewal(first, lambda n: stream.gamma(shape, scale, n), until)


def weibull_gaps(parameters: Mapping[str, Any], until: float, draw: Draw) -> Floats:
    """Weibull gaps of mean 1 and coefficient of variation `cv`; the first gap has the equilibrium law, as in `gamma_gaps`.

    If X is a length-biased Weibull(c, 1), X^c is Gamma(1 + 1/c).
    """
    stream, shape = draw(), weibull_shape(parameters["cv"])
    scale = 1 / gamma(1 + 1 / shape)
    first = stream.random() * scale * stream.gamma(1 + 1 / shape) ** (1 / shape)
    return _renewal(first, lambda n: scale * stream.weibull(shape, n), until)


def weibull_shape(cv: float) -> float:
    """The c with cv² = Γ(1 + 2/c) / Γ(1 + 1/c)² − 1, for 0 < cv ≤ 100."""
    if cv < 1e-5:  # c → ∞, where the gammas cancel: the logarithm of a Weibull is Gumbel, of standard deviation π/√6 / c
        return pi / (sqrt(6) * cv)
    from scipy.optimize import brentq
    from scipy.special import gammaln

    def excess(log_shape: float) -> float:
        inverse = exp(-log_shape)
        return float(gammaln(1 + 2 * inverse) - 2 * gammaln(1 + inverse)) - log1p(cv**2)

    return exp(float(brentq(excess, log(0.05), log(1e6), xtol=1e-12)))


def _renewal(first: float, gaps: Callable[[int], Floats], until: float) -> Floats:
    """Times of a renewal process; gaps are drawn in blocks of one size, so a longer run only appends."""
    times = [np.array([first])]
    while times[-1][-1] < until:
        times.append(times[-1][-1] + np.cumsum(gaps(_BLOCK)))
    joined = np.concatenate(times)
    return np.asarray(joined[joined < until])
