"""Turns compared: tokens, turns a session, think times, against the trace cut as the run cuts it. It knows no arrivals."""

from typing import Any

import numpy as np

from workloads.fidelity.rows import CHANCE, distance_row, explained, row
from workloads.fidelity.samples import Sample, error_scale, ks_distance, wasserstein
from workloads.fidelity.scene import Floats, Ints, Scene

_QUANTILES = (0.5, 0.9, 0.99)
_STRETCHES = 8
_FEWEST_BEYOND = 5
"""Sessions that must lie beyond a quantile before it is worth a word."""


def turn_rows(scene: Scene) -> list[dict[str, Any]]:
    """Mean, quantiles and two-sample distances of each quantity. Sessions, not turns, count as independent observations."""
    lengths, table = scene.lengths, scene.workload.table
    of_all = [
        ("input tokens", lengths.prompt, table.prompt_tokens),
        ("output tokens", lengths.output, table.output_tokens),
    ]
    rows = _left_out(scene)
    for name, own, made in of_all:
        rows += _compared(scene, name, "tokens", own[scene.flat], scene.sent_weight, made[scene.sent])
    if int(lengths.turns.max()) > 1:
        known = ~scene.sent_begins | (scene.sent_turn == 0)
        new = scene.sent_new_tokens[known]
        rows += _compared(scene, "new prompt tokens a turn", "tokens", scene.turn_new_tokens, scene.followed_weight, new)
        rows += [*_turn_count_rows(scene), *_pause_rows(scene)]
    return rows


def _left_out(scene: Scene) -> list[dict[str, Any]]:
    """Turns of the trace that the plan's context does not hold."""
    beyond = scene.lengths.counts["turns_beyond_context"]
    if not beyond:
        return []
    limit = f"prompt and answer exceed max_context_tokens = {scene.plan.max_context_tokens}, or a turn before did"
    return [row("turns left out, share of the trace’s", 0.0, beyond / scene.trace.turn_count, design=limit)]


def _turn_count_rows(scene: Scene) -> list[dict[str, Any]]:
    """Turns sent by each session that starts in the run."""
    begun = scene.sent_turn[scene.sent_begins] == 0
    sent = np.bincount(np.cumsum(scene.sent_begins) - 1, minlength=len(begun))[begun] if len(begun) else np.zeros(0)
    return _compared(scene, "turns sent by sessions that start in the run", "", scene.turn_number + 1, scene.last_weight, sent)


def _pause_rows(scene: Scene) -> list[dict[str, Any]]:
    """Think times; in absolute mode the seconds between two turns' starts."""
    table, later = scene.workload.table, ~scene.sent_begins
    weights = np.where(scene.turn_number > 0, scene.followed_weight, 0.0)
    if scene.plan.mode == "absolute":
        sent = np.diff(table.arrival_us[scene.sent], prepend=0)[later] / 1e6
        return _compared(scene, "seconds between turns", "s", scene.turn_due_s - scene.turn_before_s, weights, sent)
    drawn, taken = scene.lengths.counts["think_drawn"], scene.lengths.counts["think_from_gaps"]
    design = f"{drawn:,} of the trace’s think times are unknown: drawn, log-normal, as the plan says" if drawn else ""
    why = "what the trace’s gaps leave after the nominal answer" if taken else ""
    sent = table.think_us[scene.sent][later] / 1e6
    return _compared(scene, "think time", "s", scene.lengths.think_s[scene.flat], weights, sent, design, why)


def _compared(
    scene: Scene, name: str, unit: str, own: Ints | Floats, weights: Floats, made: Ints | Floats, design: str = "", why: str = ""
) -> list[dict[str, Any]]:
    """The rows of one quantity: the trace's values, weighted, beside those that are sent."""
    one, other = Sample.of(own, len(scene.lengths.index), weights), Sample.of(made, scene.fresh_sessions)
    if one is None or other is None:
        return []
    root = error_scale(one, other)
    mean = one.mean()
    noise = CHANCE * one.deviation() * root / mean if mean else None
    whole = f"{name}: whole distribution"
    known = [share for share in _QUANTILES if (1 - share) * min(one.independent, other.independent) >= _FEWEST_BEYOND]
    rows = [
        row(f"{name}: mean", mean, other.mean(), unit=unit, noise=noise, design=design, why=why),
        *(_quantile_row(f"{name}: p{share * 100:g}", unit, share, one, other, root, mean, design) for share in known),
        distance_row(whole, "KS", *ks_distance(one, other), design=design),
        distance_row(f"{whole}, over the mean", "Wasserstein-1", *wasserstein(one, other), design=design),
    ]
    return explained(rows, lambda: _drift(scene, own, weights))


def _quantile_row(
    name: str, unit: str, share: float, one: Sample, other: Sample, root: float, mean: float, design: str
) -> dict[str, Any]:
    """Chance moves a quantile within those of the shares ± 2.6·√(p(1−p)(1/n+1/m))."""
    at, got = one.quantile(share), other.quantile(share)
    width = CHANCE * (share * (1 - share)) ** 0.5 * root
    low, high = one.quantile(max(share - width, 0.0)), one.quantile(min(share + width, 1.0))
    scale = abs(at) or abs(mean) or 1.0
    side = high - at if got >= at else at - low
    return row(name, at, got, unit=unit, noise=side / scale, scale=scale, design=design)


def _drift(scene: Scene, own: Ints | Floats, weights: Floats) -> str:
    """How far stretches of the trace with as many sessions are from the whole of it."""
    size, sessions = scene.fresh_sessions, len(scene.lengths.index)
    whole = Sample.of(own, sessions, weights)
    if size >= sessions or whole is None:
        again = int(scene.number("sessions_reused"))
        return f"{again:,} of {sessions:,} sessions are sent more than once" if again else ""
    edges = np.concatenate([[0], np.cumsum(scene.lengths.turns)])
    found = []
    for begin in np.linspace(0, sessions - size, _STRETCHES).astype(int).tolist():
        inside = slice(int(edges[begin]), int(edges[begin + size]))
        part = Sample.of(own[inside], size, weights[inside])
        if part is not None:
            found.append(ks_distance(whole, part)[0])
    apart = float(np.median(found))
    return f"{size:,} of {sessions:,} sessions are sent; stretches of the trace that long are {apart:.2g} from it (KS, median)"
