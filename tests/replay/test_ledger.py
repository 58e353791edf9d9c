"""The books where both retry loops and a router's queue meet: no row lost, none doubled."""

from dataclasses import replace

from replay.retry import RetryRule
from replay.rows import Attempt
from tests.replay.scenes import cell, single_turns
from tests.replay.test_virtual import replayed

PATIENT = RetryRule("patient", ttft_timeout_s=None, max_attempts=1)
ORPHANS = RetryRule("orphans", ttft_timeout_s=1.0, max_attempts=2, backoff_s=60.0, backoff_max_s=60.0, cancel=False)
FULL = {"max_running": 1, "max_queued": 2}  # one runs, one waits


def retry(backoff_s: float) -> tuple[str, dict[str, object]]:
    return "retry", {"backoff_s": backoff_s, "backoff_max_s": 100.0, "jitter": 0.0}


def told(rows: list[Attempt]) -> list[tuple[int, int, int | None, str, str]]:
    return [(r.attempt, r.client_attempt, r.router_try, r.outcome, r.error) for r in rows]


def of_request(rows: list[Attempt], request_id: int) -> list[Attempt]:
    return [r for r in rows if r.request_id == request_id]


def test_what_waits_between_two_router_tries_at_the_end_is_censored() -> None:
    workload = single_turns([0.0, 0.1, 0.2], output_tokens=100)
    rows, run = replayed(cell(client=PATIENT, guards=(retry(90.0),), replicas=1, changes=FULL), workload)
    assert run.client.counts["censored"] == 1
    assert told(of_request(rows, 2)) == [
        (1, 1, 1, "refused", "engine queue full"),
        (2, 0, 0, "censored", "held in the router"),  # not an attempt of its own
    ]


def test_a_client_that_gives_up_between_two_router_tries_is_no_further_attempt() -> None:
    rule = replace(ORPHANS, max_attempts=1, cancel=True)
    workload = single_turns([0.0, 0.1, 0.2], output_tokens=30)
    rows, _ = replayed(cell(client=rule, guards=(retry(5.0),), replicas=1, changes=FULL), workload)
    assert told(of_request(rows, 2)) == [(1, 1, 1, "refused", "engine queue full"), (2, 0, 0, "timeout", "client gave up")]


def test_an_attempt_that_is_sent_after_its_client_gave_up_is_one_row() -> None:
    workload = single_turns([0.0, 0.1], output_tokens=500)
    rows, run = replayed(cell(client=replace(ORPHANS, max_attempts=1), guards=(("queue", {"cap": 1}),), replicas=1), workload)
    assert run.client.counts["failed"] == 1
    (late,) = of_request(rows, 1)
    assert told([late]) == [(1, 1, 1, "timeout", "client gave up before it was sent")]
    assert late.sent_us is not None
    assert late.ended_us == 1_100_000 < late.sent_us
    assert late.decoded_tokens == 500, "its work is on its row"


def test_a_try_made_up_for_an_orphan_between_two_tries_is_one_row() -> None:
    workload = single_turns([0.0, 0.1, 0.2], output_tokens=50)
    rule = replace(ORPHANS, max_attempts=1)
    rows, _ = replayed(cell(client=rule, guards=(retry(5.0),), replicas=1, changes=FULL), workload)
    assert told(of_request(rows, 2)) == [
        (1, 1, 1, "refused", "engine queue full"),
        (2, 1, 2, "timeout", "client gave up before it was sent"),
    ]
