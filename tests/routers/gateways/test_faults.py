"""Scenarios before a gateway that only passes bytes on, whose conduct is known: what is seen is what was done."""

from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from routers.gateways.ask import Answer
from routers.gateways.faults import playing
from routers.gateways.faults.scenario import Scenario, Step
from routers.gateways.faults.seen import QUANTITIES, Seen, meaning_of, value_of
from routers.gateways.gateway import Gateway
from routers.gateways.stub import Asked, Behaviour
from tests.routers.gateways.specs import PassingBytes

Numbers = dict[str, dict[str, float]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Numbers]:
    """Plays steps before the gateway that passes bytes on, connection by connection in turn; their numbers."""

    def passing(name: str) -> Gateway:
        return PassingBytes()

    def played(*steps: Step, replicas: int = 2) -> Numbers:
        return playing.play(Scenario("any", "in_turn", steps, replicas=replicas), tmp_path).steps

    monkeypatch.setattr(playing, "find_gateway", passing)
    return played


def test_a_burst_and_what_follows_are_counted_apart(play: Callable[..., Numbers]) -> None:
    seen = play(
        Step("burst", 6, at_once=6, behaviour=Behaviour(status=503)),
        Step("after", 4, behaviour=Behaviour()),
    )
    burst, after = seen["burst"], seen["after"]
    assert (burst["status_503"], burst["answered"], burst["attempts"], burst["replicas_tried"]) == (6, 0, 6, 2)
    assert burst["slowest_refusal_s"] < 5
    assert (after["answered"], after["attempts"], value_of(after, "status_503")) == (4, 4, 0)
    assert after["busiest"] == 4, "one kept connection is one replica here"


def test_requests_left_open_are_at_their_replica_and_others_pass_by(play: Callable[..., Numbers]) -> None:
    seen = play(
        Step("fill", 1, behaviour=Behaviour(first_s=60.0), replicas=(0,), stays_open=True, wait_s=0.3),
        Step("short", 3),
    )
    assert (seen["fill"]["attempts"], seen["fill"]["replica_0"]) == (1, 1)
    assert "answered" not in seen["fill"]
    assert (seen["short"]["answered"], seen["short"]["replica_1"]) == (3, 3)


def test_a_hang_up_reaches_the_replica(play: Callable[..., Numbers]) -> None:
    seen = play(Step("leave", behaviour=Behaviour(gap_s=0.05, chunks=400), leave_after_s=0.2))
    assert 0 <= seen["leave"]["hang_up_s"] < 2


def test_it_goes_on_until_one_is_answered_or_patience_ends(play: Callable[..., Numbers]) -> None:
    seen = play(
        Step("never", behaviour=Behaviour(status=503), until_answered_s=0.2),
        Step("soon", behaviour=Behaviour(), until_answered_s=5.0),
    )
    assert seen["never"]["first_answer_s"] == inf
    assert seen["never"]["status_503"] > 1
    assert (seen["soon"]["answered"], value_of(seen["soon"], "status_503")) == (1, 0)
    assert seen["soon"]["first_answer_s"] < 2


def test_prompts_sent_again_return_or_not(play: Callable[..., Numbers]) -> None:
    seen = play(Step("first", 4, at_once=2), Step("again", again="first", at_once=2), Step("piled", again="first"))
    assert seen["again"]["returned"] == 4, "two connections, two replicas, the same order"
    assert seen["piled"]["returned"] == 2, "all on one replica"


def test_what_a_gateway_adds_is_the_difference_of_medians(play: Callable[..., Numbers]) -> None:
    paced = Behaviour(first_s=0.02, chunks=2, headers_first=True)
    seen = play(Step("paced", 6, warm=2, direct=True, behaviour=paced), replicas=1)["paced"]
    assert seen["attempts"] == 6, "those sent straight are not the gateway's"
    assert 0.02 <= seen["ttft_p50_s"] < 0.2
    assert -0.02 < seen["added_ttft_s"] < 0.1


def test_numbers_of_a_step_are_those_of_its_answers() -> None:
    def asked(place: int, at_s: float) -> tuple[int, Asked]:
        return place, Asked("/v1/completions", {}, b'{"prompt": "p%d"}' % place, at_s)

    seen = Seen(
        answers=[Answer(200, first_s=9.0), Answer(200, first_s=0.2, max_gap_s=0.05), Answer(408, ended_s=0.5), Answer()],
        straight=[Answer(200, first_s=9.0), Answer(200, first_s=0.1)],
        attempts=[asked(0, 1.0), asked(2, 1.5), asked(0, 3.0)],
        had={"p0": 0, "p2": 1},
    )
    numbers = seen.numbers(Step("s", 4, warm=1, again="r"))
    reached = {"attempts": 3, "replicas_tried": 2, "busiest": 2, "span_s": 2.0, "replica_0": 2, "replica_2": 1}
    answered = {"answered": 2, "lost": 1, "status_408": 1, "slowest_refusal_s": 0.5, "returned": 1}
    assert numbers == reached | answered | {"ttft_p50_s": 0.2, "added_ttft_s": 0.1, "added_gap_s": 0.05}
    assert (value_of(numbers, "replica_1"), value_of(numbers, "status_503"), value_of(numbers, "hang_up_s")) == (0, 0, None)


def test_every_quantity_has_its_words() -> None:
    assert {meaning_of(name) for name in QUANTITIES} == set(QUANTITIES.values())
    assert meaning_of("status_503") == "requests answered with HTTP 503"
    assert meaning_of("replica_12") == "requests that reached replica 12"
    with pytest.raises(ValueError, match=r"^unknown quantity 'status_99'; allowed: answered, .*, status_NNN, replica_N$"):
        meaning_of("status_99")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Step("a b"), "name = 'a b'"),
        (lambda: Step("a", requests=0), "requests = 0"),
        (lambda: Step("a", requests=2, warm=2), "warm = 2"),
        (lambda: Step("a", form="words"), "form = 'words'"),
        (lambda: Step("a", direct=True, stays_open=True), "at most one of stays_open"),
        (lambda: Scenario("g", "p", ()), "steps = ()"),
        (lambda: Scenario("g", "p", (Step("a"), Step("a"))), "'a' appears twice"),
        (lambda: Scenario("g", "p", (Step("a", again="b"),)), "a.again = 'b'"),
        (lambda: Scenario("g", "p", (Step("a", replicas=(3,)),)), r"a.replicas = \[3\]"),
        (lambda: Scenario("g", "p", (Step("a"),), arm="naked"), "arm = 'naked'"),
    ],
)
def test_what_cannot_be_played_is_said(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("()", r"\(\)")):
        wrong()
