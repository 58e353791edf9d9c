"""Fits the coefficients that sweeps of lone steps show: decode steps and lone prefills. It knows no Poisson run, no engine."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, nnls

from replicas.fitting.measurements import DecodeRows, Floats, PrefillRows
from replicas.profile import StepTime

_SCALE = np.array([1e-3, 1e-5, 1e-10, 1e-2, 1e-6])  # of the fitted fields of a PrefillFit, for the solver
_LEAST = np.array([-20.0, 0.0, 0.0, 0.0, 0.0])
_START = np.array([-1.0, 2.4, 7.0, 1.2, 2.0])


@dataclass(frozen=True, slots=True)
class DecodeFit:
    """Seconds of a decode step = base_s + sequence_s·batch + kv_s·Σ kv."""

    base_s: float
    sequence_s: float
    kv_s: float

    def seconds(self, rows: DecodeRows) -> Floats:
        return self.base_s + self.sequence_s * rows.batch + self.kv_s * rows.batch * rows.context_tokens


@dataclass(frozen=True, slots=True)
class PrefillFit:
    """TTFT of a lone request = outside_s + max(base_s + max(0, work), floor_s) + token_s·prompt, with
    work = intercept_s + prefill_s·new + attention_s·new·context.

    `outside_s` is what a lone request spends in the front end and before its launch, and is known; `intercept_s` is less than 0
    where the GPU reads the weights while it computes; `floor_s` is the launch.
    """

    outside_s: float
    intercept_s: float
    prefill_s: float
    attention_s: float
    floor_s: float
    token_s: float

    def seconds(self, rows: PrefillRows, base_s: float) -> Floats:
        new = rows.prompt_tokens - rows.cached_tokens
        context = rows.cached_tokens + new / 2
        work = self.intercept_s + self.prefill_s * new + self.attention_s * new * context
        return self.outside_s + np.maximum(base_s + np.maximum(work, 0.0), self.floor_s) + self.token_s * rows.prompt_tokens


def fit_decode(rows: DecodeRows) -> DecodeFit:
    """Non-negative least squares on relative errors (Lawson & Hanson)."""
    columns = np.stack([np.ones_like(rows.batch), rows.batch, rows.batch * rows.context_tokens], axis=1)
    found, _ = nnls(columns / rows.step_s[:, None], np.ones_like(rows.step_s))
    return DecodeFit(*(float(x) for x in found))


def joined(a: DecodeRows, b: DecodeRows) -> DecodeRows:
    return DecodeRows(
        np.concatenate([a.batch, b.batch]),
        np.concatenate([a.context_tokens, b.context_tokens]),
        np.concatenate([a.step_s, b.step_s]),
        (*a.dropped, *b.dropped),
    )


def fit_prefill(rows: PrefillRows, base_s: float, outside_s: float, known: tuple[float, float] | None = None) -> PrefillFit:
    """Bounded least squares on relative errors, with `known` intercept_s and prefill_s if given; a soft L1 loss beyond 5%,
    because some rows met a slow host."""
    given = np.array(known or ()) / _SCALE[: len(known or ())]

    def fit_of(free: Floats) -> PrefillFit:
        return PrefillFit(outside_s, *(float(x) for x in np.concatenate([given, free]) * _SCALE))

    def errors(free: Floats) -> Floats:
        return fit_of(free).seconds(rows, base_s) / rows.ttft_s - 1.0

    free = slice(len(given), None)
    found = least_squares(errors, _START[free], bounds=(_LEAST[free], np.inf), loss="soft_l1", f_scale=0.05)
    return fit_of(found.x)


def mixed_sequence_s(decode: DecodeFit, prefill: PrefillFit, saturated_rps: float) -> float:
    """`prefill_sequence_s` such that a full batch of 256 completes `saturated_rps` requests of 512 in / 128 out (at least 0).

    There each step prefills 256/128 = 2 prompts beside 254 decodes of 512 + 64 tokens on average, so a step lasts
    2/saturated_rps.
    """
    work = StepTime(decode.base_s, prefill.intercept_s, prefill.prefill_s, prefill.attention_s, decode.sequence_s, decode.kv_s)
    return max(0.0, (2.0 / saturated_rps - work.seconds(1024, 256, 254, 254 * 576)) / 254)


def cross_validate_prefill(
    rows: PrefillRows, base_s: float, outside_s: float, known: tuple[float, float] | None = None
) -> Floats:
    """Relative errors of each row when its whole configuration (tag) was left out of the fit."""
    errors: list[Floats] = []
    for tag in dict.fromkeys(rows.tags):
        left = rows.only(tag)
        errors.append(fit_prefill(rows.without(tag), base_s, outside_s, known).seconds(left, base_s) / left.ttft_s - 1.0)
    return np.concatenate(errors)


def cross_validate_decode(rows: DecodeRows) -> Floats:
    """Relative errors of each (batch, context) when it was left out of the fit."""
    errors = []
    for i in range(len(rows.step_s)):
        keep = np.arange(len(rows.step_s)) != i
        fit = fit_decode(DecodeRows(rows.batch[keep], rows.context_tokens[keep], rows.step_s[keep], ()))
        errors.append(float((fit.seconds(rows) / rows.step_s - 1.0)[i]))
    return np.array(errors)
