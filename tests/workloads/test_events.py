"""What an event may be, and what the reader of a study is told when it is not."""

from typing import Any

import pytest

from workloads.events import EVENTS, Event, check_event, event_of

WHICH = "allowed: a whole number from 0, or null for every replica"
DEFAULTS: dict[str, dict[str, Any]] = {
    "pause": {"for_s": 10.0},
    "slow": {"for_s": 10.0, "factor": 2.0},
    "kill": {"for_s": 10.0},
    "flush": {},
    "refuse": {"for_s": 10.0, "status": 503, "share": 1.0},
    "blackout": {"for_s": 10.0},
}


@pytest.mark.parametrize("kind", EVENTS)
def test_a_kind_alone_is_an_event_at_every_replica_with_its_defaults(kind: str) -> None:
    checked = check_event({"kind": kind}, "events[0]")
    assert checked == {"kind": kind, "replica_id": None, **DEFAULTS[kind]}
    event = event_of(checked, 7.5)
    assert (event.at_s, event.kind, event.replica_id, event.parameters()) == (7.5, kind, None, DEFAULTS[kind])


def test_what_is_given_stands() -> None:
    given = {"kind": "refuse", "replica_id": 3, "for_s": 4, "status": 429, "share": 0.25}
    assert check_event(given, "events[0]") == given
    assert event_of(given, 1.0) == Event(1.0, "refuse", 3, for_s=4, status=429, share=0.25)
    assert event_of(given, 1.0).until_s == 5.0


def test_a_checked_event_is_checked_again_without_change() -> None:
    for kind in EVENTS:
        checked = check_event({"kind": kind, "replica_id": 0}, "events[0]")
        assert check_event(checked, "events[0]") == checked


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({}, "events[2].kind is None; allowed: pause, slow, kill, flush, refuse, blackout"),
        ({"kind": "explode"}, "events[2].kind is 'explode'; allowed: pause, slow, kill, flush, refuse, blackout"),
        ({"kind": ["pause"]}, "events[2].kind is ['pause']; allowed: pause, slow, kill, flush, refuse, blackout"),
        ({"kind": "pause", "for": 3}, "events[2].for is no key of 'pause'; allowed: kind, replica_id, for_s"),
        ({"kind": "flush", "for_s": 3}, "events[2].for_s is no key of 'flush'; allowed: kind, replica_id"),
        ({"kind": "pause", "for_s": 0}, "events[2].for_s is 0; allowed: a number from 0.001 to 1e+06"),
        ({"kind": "pause", "for_s": float("nan")}, "events[2].for_s is nan; allowed: a number from 0.001 to 1e+06"),
        ({"kind": "pause", "for_s": True}, "events[2].for_s is True; allowed: a number from 0.001 to 1e+06"),
        ({"kind": "kill", "for_s": "10 s"}, "events[2].for_s is '10 s'; allowed: a number from 0.001 to 1e+06"),
        ({"kind": "slow", "factor": 0.5}, "events[2].factor is 0.5; allowed: a number from 1 to 1000"),
        ({"kind": "refuse", "status": 500}, "events[2].status is 500; allowed: 429 or 503"),
        ({"kind": "refuse", "share": 1.5}, "events[2].share is 1.5; allowed: a number from 0 to 1"),
        ({"kind": "kill", "replica_id": -1}, f"events[2].replica_id is -1; {WHICH}"),
        ({"kind": "kill", "replica_id": 1.0}, f"events[2].replica_id is 1.0; {WHICH}"),
        ({"kind": "kill", "replica_id": True}, f"events[2].replica_id is True; {WHICH}"),
    ],
)
def test_a_bad_event_is_refused_in_one_line(data: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 (the whole line is compared)
        check_event(data, "events[2]")
    assert str(told.value) == line


@pytest.mark.parametrize("at_s", [-0.1, float("inf"), float("nan")])
def test_an_event_has_a_time(at_s: float) -> None:
    with pytest.raises(ValueError, match=r"at_s of a pause is .*; allowed: seconds"):
        Event(at_s, "pause", for_s=1.0)


def test_an_event_has_a_known_kind_and_good_parameters() -> None:
    with pytest.raises(ValueError, match="event kind is 'explode'; allowed: pause"):
        Event(1.0, "explode")
    with pytest.raises(ValueError, match=r"for_s of a pause is 0\.0; allowed: a number from 0\.001"):
        Event(1.0, "pause")
    with pytest.raises(ValueError, match="status of a refuse is 500; allowed: 429 or 503"):
        Event(1.0, "refuse", for_s=1.0, status=500)
    assert Event(1.0, "flush").until_s == 1.0
