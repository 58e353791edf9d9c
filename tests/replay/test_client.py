"""The client population: patience, retries, budgets and sessions, each shown on a client with a recording driver."""

from dataclasses import dataclass, field, replace

import pytest

from replay.cell import SessionRule
from replay.client import Client, ClientAttempt
from replay.retry import RetryRule
from tests.replay.scenes import conversation, single_turns
from workloads.workload import Workload


@dataclass
class Driver:
    """Notes what the client asks for."""

    started: list[tuple[float, int, int]] = field(default_factory=list)  # (now_s, request, client attempt)
    given_up: list[tuple[float, int, bool]] = field(default_factory=list)
    attempts: list[ClientAttempt] = field(default_factory=list)

    def start(self, attempt: ClientAttempt, now_s: float) -> None:
        self.started.append((now_s, attempt.root.request.request_id, attempt.number))
        self.attempts.append(attempt)

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None:
        self.given_up.append((now_s, attempt.root.request.request_id, cancel))


def client_of(workload: Workload, rule: RetryRule, session: SessionRule | None = None) -> tuple[Client, Driver]:
    driver = Driver()
    return Client(workload, rule, session or SessionRule(), 1, driver), driver


def run_silent(client: Client, until_s: float) -> None:
    """Let time pass; nobody answers."""
    while client.next_wake_s() <= until_s:
        client.on_wake(client.next_wake_s())


def test_gives_up_at_the_ttft_timeout_and_backs_off_exponentially() -> None:
    rule = RetryRule("r", ttft_timeout_s=2.0, max_attempts=3, backoff_s=1.0, backoff_factor=2.0, jitter=0.0, cancel=False)
    client, driver = client_of(single_turns([0.0]), rule)
    run_silent(client, 100.0)
    assert driver.started == [(0.0, 0, 1), (3.0, 0, 2), (7.0, 0, 3)]  # 2 s patience + 1 s, then + 2 s
    assert driver.given_up == [(2.0, 0, False), (5.0, 0, False), (9.0, 0, False)]
    client.close()
    assert client.counts["failed"] == 1


def test_a_first_token_ends_the_ttft_timeout_but_not_the_total_one() -> None:
    rule = RetryRule("r", ttft_timeout_s=2.0, total_timeout_s=5.0, max_attempts=1)
    client, driver = client_of(single_turns([0.0]), rule)
    client.on_wake(0.0)
    client.on_first_token(driver.attempts[0].rid, 1.0)
    run_silent(client, 4.9)
    assert driver.given_up == []
    run_silent(client, 5.0)
    assert driver.given_up == [(5.0, 0, True)]


def test_jitter_is_a_function_of_seed_request_and_attempt() -> None:
    rule = RetryRule("r", backoff_s=1.0, jitter=0.5)
    waits = [rule.backoff_before(2, seed=s, request_id=r) for s in (1, 2) for r in range(200)]
    assert waits == [rule.backoff_before(2, seed=s, request_id=r) for s in (1, 2) for r in range(200)]
    assert len(set(waits)) == 400
    assert all(0.5 <= w <= 1.5 for w in waits)
    assert sum(waits) / 400 == pytest.approx(1.0, abs=0.05)


def test_a_budget_of_20_percent_allows_one_retry_for_five_requests() -> None:
    rule = RetryRule("r", ttft_timeout_s=0.5, max_attempts=None, backoff_s=0.1, jitter=0.0, budget=0.2, budget_burst=1.0)
    client, driver = client_of(single_turns([float(i) for i in range(100)]), rule)
    run_silent(client, 200.0)
    retries = sum(number > 1 for _, _, number in driver.started)
    assert retries == pytest.approx(20, abs=2)


def test_retry_for_ever_ends_at_the_deadline() -> None:
    workload = single_turns([0.0])
    workload = workload.sending((replace(workload.requests[0], deadline_s=10.0),))
    rule = RetryRule("r", ttft_timeout_s=2.0, max_attempts=None, backoff_s=1.0, backoff_factor=1.0, jitter=0.0)
    client, driver = client_of(workload, rule)
    run_silent(client, 100.0)
    assert [at for at, _, _ in driver.started] == [0.0, 3.0, 6.0, 9.0]
    assert driver.given_up[-1][0] == 10.0, "the deadline cuts the last attempt short"
    client.close()
    assert client.counts["failed"] == 1


@pytest.mark.parametrize("pause", [{"backoff_s": 0.0}, {"backoff_max_s": 0.0}, {"jitter": 1.0}])
def test_retry_for_ever_without_a_pause_is_refused(pause: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="backoff_s > 0"):
        RetryRule("r", max_attempts=None, **pause)  # type: ignore[arg-type]


def test_backoff_stays_at_its_limit_however_many_attempts() -> None:
    rule = RetryRule("r", backoff_s=1.0, backoff_factor=100.0, backoff_max_s=10.0, jitter=0.0)
    assert [rule.backoff_before(n, 1, 1) for n in (2, 3, 500, 100_000)] == [1.0, 10.0, 10.0, 10.0]


def test_a_retry_that_the_deadline_forbids_costs_no_budget() -> None:
    workload = single_turns([0.0, 0.0, 0.0])
    hopeless = [replace(r, deadline_s=1.0) for r in workload.requests[:2]]
    workload = workload.sending((*hopeless, workload.requests[2]))
    rule = RetryRule("r", ttft_timeout_s=0.9, max_attempts=2, backoff_s=1.0, jitter=0.0, budget=0.0, budget_burst=1.0)
    client, driver = client_of(workload, rule)
    run_silent(client, 10.0)
    assert [key for _, key, number in driver.started if number == 2] == [2], "the one token is left for the third request"


def test_every_turn_is_counted_once_however_it_ends() -> None:
    for horizon_s in (0.5, 3.0, 100.0):
        for rule in (RetryRule("r", ttft_timeout_s=1.0, max_attempts=1), RetryRule("r", ttft_timeout_s=None)):
            client, _ = client_of(conversation(5, think_s=1.0, horizon_s=horizon_s), rule)
            run_silent(client, 200.0)
            client.close()
            counts = client.counts
            assert counts["planned"] == sum(counts[k] for k in ("ok", "failed", "censored", "abandoned", "not_due")) == 5
            assert counts["planned"] == counts["scheduled"] + counts["not_due"]


def test_later_turns_are_due_think_time_after_the_answer() -> None:
    client, driver = client_of(conversation(3, think_s=4.0), RetryRule("r", ttft_timeout_s=None, max_attempts=1))
    client.on_wake(0.0)
    client.on_answer(driver.attempts[0].rid, True, 1.5)
    assert client.next_wake_s() == 5.5
    client.on_wake(5.5)
    assert driver.started[-1] == (5.5, 1, 1)


def test_a_lost_answer_leaves_the_traces_own_reply_in_the_next_prompt() -> None:
    rule = RetryRule("r", ttft_timeout_s=1.0, max_attempts=1)
    client, driver = client_of(conversation(3, think_s=1.0), rule)
    run_silent(client, 2.0)  # the first answer never comes: given up at 1 s, next turn at 2 s
    lost, second = driver.attempts[0].root.request.reply_id, driver.attempts[1].root
    assert [s.content_id for s in second.segments].count(lost) == 0
    assert second.prompt.tokens == second.request.prompt_tokens, "the same length, but content that no engine has generated"


def test_history_trace_never_carries_an_engines_reply() -> None:
    session = SessionRule(history="trace")
    client, driver = client_of(conversation(2), RetryRule("r", ttft_timeout_s=None, max_attempts=1), session)
    client.on_wake(0.0)
    client.on_answer(driver.attempts[0].rid, True, 1.0)
    client.on_wake(client.next_wake_s())
    assert driver.attempts[0].root.request.reply_id not in [s.content_id for s in driver.attempts[1].root.segments]


@pytest.mark.parametrize(("after_failure", "abandoned"), [("continue", 0), ("quit", 2)])
def test_after_a_failed_turn_a_session_goes_on_or_quits(after_failure: str, abandoned: int) -> None:
    session = SessionRule(after_failure=after_failure)
    client, _ = client_of(conversation(3), RetryRule("r", ttft_timeout_s=1.0, max_attempts=1), session)
    run_silent(client, 50.0)
    client.close()
    counts = client.counts
    assert counts["abandoned"] == len(client.abandoned) == abandoned
    assert counts["failed"] == 3 - abandoned


def test_turns_due_after_the_last_phase_are_not_due() -> None:
    workload = conversation(3, think_s=60.0, horizon_s=100.0)
    client, driver = client_of(workload, RetryRule("r", ttft_timeout_s=None, max_attempts=1))
    client.on_wake(0.0)
    client.on_answer(driver.attempts[0].rid, True, 1.0)
    client.on_wake(client.next_wake_s())
    client.on_answer(driver.attempts[1].rid, True, 62.0)  # the third would be due at 122 s
    client.close()
    assert (client.counts["ok"], client.counts["not_due"], client.counts["scheduled"]) == (2, 1, 2)
