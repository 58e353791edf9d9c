"""What an arrival may say, and what every arrival keeps: one seed one result, a longer run only appends."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from workloads.arrivals import ARRIVALS, SHAPES, Arrivals, TraceClock, check_arrival, mean_factor, session_arrivals

SINE = {"shape": "sine", "period_s": 60, "amplitude": 0.8}
FLASH = {"shape": "flash_crowd", "k": 4, "at_s": 20, "rise_s": 2, "hold_s": 5, "decay_s": 10}
RAMP = {"shape": "ramp", "begin_s": 10, "for_s": 50, "start": 0.5, "end": 2}
STAIRS = {"shape": "staircase", "factors": [1, 2, 0, 1], "step_s": 15}
EVERY_SHAPE: list[dict[str, Any]] = [RAMP, STAIRS, SINE, FLASH, {"shape": "mmpp2"}, {"shape": "on_off", "on_s": 3, "off_s": 3}]
NESTED = {
    "concatenate": [
        {"process": "gamma", "cv": 3, "for_s": 30, "modulate": EVERY_SHAPE},
        {
            "superpose": [
                {"process": "trace", "share": 0.25},
                {"process": "trace", "scale": "compress", "share": 0.25},
                {"process": "mmpp2", "ratio": 9, "high_s": 2, "low_s": 5, "share": 0.5},
            ],
            "modulate": {"shape": "on_off", "on_s": 3, "off_s": 2},
        },
    ]
}
EVERY_ARRIVAL: list[dict[str, Any]] = [
    *({"process": name} for name in ARRIVALS),
    *({"process": "weibull", "modulate": [shape]} for shape in EVERY_SHAPE),
    {"process": "trace", "modulate": [SINE, RAMP]},
    {"process": "trace", "scale": "compress", "modulate": [FLASH]},
    NESTED,
]


def clock(n: int = 300, mean_gap_s: float = 0.4) -> TraceClock:
    return TraceClock.of(np.cumsum(np.random.default_rng(5).gamma(0.5, 2 * mean_gap_s, n)) + 1000.0)


def made(
    arrival: Mapping[str, Any], horizon_s: float = 100.0, seed: int = 1, rate_rps: float = 8.0, past_s: float = 25.0
) -> Arrivals:
    return session_arrivals(arrival, rate_rps, past_s, horizon_s, seed, clock(), 0.3)


@pytest.mark.parametrize("arrival", EVERY_ARRIVAL, ids=str)
def test_one_seed_makes_one_sequence_within_the_run(arrival: dict[str, Any]) -> None:
    one, again, other = made(arrival), made(check_arrival(arrival)), made(arrival, seed=2)
    for name in ("start_s", "place", "copy"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    assert len(one.start_s) > 100
    assert np.all(np.diff(one.start_s) >= 0)
    assert one.start_s[0] >= -25
    assert one.start_s[-1] < 100
    if arrival.get("process") != "trace":
        assert not np.array_equal(one.start_s, other.start_s)


@pytest.mark.parametrize("arrival", EVERY_ARRIVAL, ids=str)
@pytest.mark.parametrize("short_s", [37.3, 99.9])
def test_a_longer_run_only_appends(arrival: dict[str, Any], short_s: float) -> None:
    """Bit for bit, whatever is modulated: nothing may depend on where the run ends."""
    short, long = made(arrival, short_s), made(arrival, 400.0)
    assert 0 < len(short.start_s) < len(long.start_s)
    for name in ("start_s", "place", "copy"):
        assert np.array_equal(getattr(short, name), getattr(long, name)[: len(short.start_s)])
    assert long.start_s[len(short.start_s)] >= short_s


@pytest.mark.parametrize("arrival", EVERY_ARRIVAL, ids=str)
def test_no_session_of_the_trace_comes_twice_as_the_same_copy(arrival: dict[str, Any]) -> None:
    arrivals = made(arrival, 600.0)
    of_trace = arrivals.place >= 0
    pairs = np.stack([arrivals.place[of_trace], arrivals.copy[of_trace]])
    assert pairs.shape[1] == np.unique(pairs, axis=1).shape[1]
    assert of_trace.any() == ("trace" in str(arrival))
    assert not arrivals.copy[~of_trace].any()


@pytest.mark.parametrize("arrival", EVERY_ARRIVAL, ids=str)
def test_an_arrival_checks_to_itself_with_every_default(arrival: dict[str, Any]) -> None:
    checked = check_arrival(arrival)
    assert check_arrival(checked) == checked
    if "process" in arrival:
        assert set(ARRIVALS[arrival["process"]].parameters) <= set(checked)


def test_defaults_are_filled_in_at_every_depth() -> None:
    checked = check_arrival(
        {"superpose": [{"process": "gamma", "share": 0.5}, {"process": "poisson", "share": 0.5, "modulate": SINE}]}
    )
    assert checked["superpose"][0] == {"process": "gamma", "cv": 2.0, "share": 0.5}
    assert checked["superpose"][1]["modulate"] == [{**SINE, "phase": 0.0}]


def test_every_process_and_shape_is_tried_here() -> None:
    assert {shape["shape"] for shape in EVERY_SHAPE} == set(SHAPES)
    assert set(ARRIVALS) == {"constant", "poisson", "gamma", "weibull", "mmpp2", "on_off", "client_mix", "trace"}


def _loop() -> dict[str, Any]:
    node: dict[str, Any] = {}
    node["concatenate"] = [node]
    return node


@pytest.mark.parametrize(
    ("arrival", "message"),
    [
        (
            {"process": "poison"},
            "arrival.process is 'poison'; allowed: constant, poisson, gamma, weibull, mmpp2, on_off, client_mix, trace",
        ),
        ({"process": ["poisson"]}, "arrival.process is ['poisson']; allowed: constant"),
        ({}, "arrival has no process; expected exactly one of process, superpose, concatenate"),
        ({"process": "poisson", "superpose": []}, "arrival has process and superpose; expected exactly one of"),
        ({"process": "gamma", "cs": 2}, "arrival.cs is no parameter of 'gamma'; allowed: cv, modulate"),
        ({"process": "poisson", "cv": 2}, "arrival.cv is no parameter of 'poisson'; allowed: modulate"),
        ({"process": "poisson", "share": 1}, "arrival.share is no parameter of 'poisson'; allowed: modulate"),
        ({"process": "gamma", "cv": 0}, "arrival.cv is 0; expected a number > 0 and ≤ 100"),
        ({"process": "gamma", "cv": "two"}, "arrival.cv is 'two'; expected a number > 0"),
        ({"process": "gamma", "cv": True}, "arrival.cv is True; expected a number > 0"),
        ({"process": "gamma", "cv": float("nan")}, "arrival.cv is nan; expected a number > 0"),
        ({"process": "weibull", "cv": float("inf")}, "arrival.cv is inf; expected a number > 0"),
        ({"process": "trace", "scale": "stretch"}, "arrival.scale is 'stretch'; allowed: users, compress"),
        ({"process": "client_mix", "clients": 2.5}, "arrival.clients is 2.5; expected a whole number > 0"),
        ({"process": "mmpp2", "ratio": 1}, "arrival.ratio is 1; expected a number > 1"),
        ({"superpose": []}, "arrival.superpose is []; expected a list of arrivals, at least one"),
        ({"superpose": "poisson"}, "arrival.superpose is 'poisson'; expected a list"),
        ({"superpose": ["poisson"]}, "arrival.superpose[0] is 'poisson'; expected a mapping"),
        ({"superpose": [{"process": "poisson"}]}, "arrival.superpose[0].share is missing; expected a number > 0"),
        (
            {"superpose": [{"process": "poisson", "share": 0.5}, {"process": "gamma", "cv": -1, "share": 0.5}]},
            "arrival.superpose[1].cv is -1; expected a number > 0",
        ),
        (
            {"superpose": [{"process": "poisson", "share": 0.5}, {"process": "poisson", "share": 0.4}]},
            "arrival.superpose has shares that sum to 0.9; expected 1",
        ),
        ({"superpose": [{"process": "poisson", "share": 1}], "cv": 2}, "arrival.cv is unknown; allowed: superpose, modulate"),
        (
            {"concatenate": [{"process": "poisson"}, {"process": "poisson"}]},
            "arrival.concatenate[0].for_s is missing; expected a number > 0",
        ),
        ({"concatenate": [{"process": "poisson", "for_s": 3}]}, "arrival.concatenate[0].for_s is no parameter of 'poisson'"),
        ({"process": "poisson", "modulate": []}, "arrival.modulate is []; expected a list of shapes"),
        ({"process": "poisson", "modulate": {"shape": "saw"}}, "arrival.modulate.shape is 'saw'; allowed: ramp, staircase, sine"),
        ({"process": "poisson", "modulate": [SINE, 3]}, "arrival.modulate[1] is 3; expected a mapping with a shape"),
        (
            {"process": "poisson", "modulate": [{"shape": "sine"}]},
            "arrival.modulate[0].period_s is missing; expected a number > ",
        ),
        (
            {"process": "poisson", "modulate": {**SINE, "amplitude": 2}},
            "arrival.modulate.amplitude is 2; expected a number ≥ 0 and ≤ 1",
        ),
        (
            {"process": "poisson", "modulate": {**STAIRS, "factors": [1, -1]}},
            "arrival.modulate.factors is [1, -1]; expected a list of",
        ),
        (_loop(), "is nested deeper than 8 arrivals"),
    ],
)
def test_bad_arrivals_are_named(arrival: Mapping[str, Any], message: str) -> None:
    """One line that names the key's path, the value and what is allowed."""
    with pytest.raises(ValueError, match=r"^arrival") as error:
        check_arrival(arrival)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_trace_arrivals_need_a_clock_wherever_they_are() -> None:
    nested = {"superpose": [{"process": "poisson", "share": 0.5}, {"process": "trace", "share": 0.5}]}
    with pytest.raises(
        ValueError, match=r"arrival\.superpose\[1\]\.process is 'trace', but this trace has no timestamps; allowed: con"
    ):
        session_arrivals(nested, 1.0, 0.0, 10.0, 0, None)


@pytest.mark.parametrize(("rate_rps", "past_s", "horizon_s"), [(0, 0, 1), (float("nan"), 0, 1), (1, -1, 1), (1, 0, float("inf"))])
def test_bad_rates_and_windows_are_named(rate_rps: float, past_s: float, horizon_s: float) -> None:
    with pytest.raises(ValueError, match=r"^(rate_rps|past_s|horizon_s) is .*; expected a number"):
        session_arrivals({"process": "poisson"}, rate_rps, past_s, horizon_s, 0, None)


def test_a_modulation_too_fine_for_memory_is_refused() -> None:
    for shape in ({**SINE, "period_s": 0.001}, {"shape": "on_off", "on_s": 1e-9, "off_s": 1e-9}):
        with pytest.raises(ValueError, match="pieces in this run; at most"):
            mean_factor({"process": "poisson", "modulate": shape}, 0, 3600, 1)


def test_a_run_without_time_has_no_arrivals() -> None:
    assert [
        len(column) for column in (made({"process": "poisson"}, 0.0, past_s=0.0).start_s, made(NESTED, 0.0, past_s=0.0).place)
    ] == [0, 0]
