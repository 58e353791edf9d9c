"""Arrivals come in order of time, with the prompts that they would have one by one, and nothing is due earlier than is said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.arrivals import planned_arrivals
from replay.cell import SessionRule
from replay.client import Client, ClientAttempt
from replay.prompts import prompts_alone
from replay.retry import RetryRule
from tests.replay.scenes import conversation, single_turns
from workloads.draws import generator
from workloads.request import Prompt, Request, Segment
from workloads.request_table import RequestTable

ids = st.integers(-(1 << 63), (1 << 63) - 1)
segments = st.lists(st.builds(Segment, ids, st.integers(1, 1000)), max_size=6).map(tuple)


@given(st.lists(segments, max_size=60), st.integers(1, 3))
def test_prompts_made_all_at_once_are_those_made_one_by_one(prompts: list[tuple[Segment, ...]], step: int) -> None:
    requests = [Request(i, i, 0, 0.0, None, s, 1, 1, 0) for i, s in enumerate(prompts)]
    chosen = list(range(0, len(prompts), step))
    made = prompts_alone(RequestTable.of(requests), np.array(chosen, dtype=np.int64))
    assert made == [Prompt.of(prompts[i]) for i in chosen]
    assert all(type(n) is int for prompt in made for n in (*prompt.keys, *prompt.ends))


def test_arrivals_come_by_time_and_then_by_id_and_late_ones_apart() -> None:
    table = single_turns([3.0, 1.0, 7.0, 1.0, 9.0, 5.0]).table
    arrivals, too_late = planned_arrivals(table, np.zeros(6, np.int64), horizon_s=7.0)
    assert [(due_s, facts[0]) for due_s, facts, *_ in arrivals] == [(1.0, 1), (1.0, 3), (3.0, 0), (5.0, 5)]
    assert too_late.tolist() == [2, 4]


def test_a_turn_that_waits_for_the_one_before_is_no_arrival() -> None:
    arrivals, too_late = planned_arrivals(conversation(3).table, np.array([2, 1, 0]), horizon_s=100.0)
    ((due_s, (request_id, *_, waiting), prompt, alone),) = arrivals
    assert (due_s, request_id, waiting, prompt.tokens, alone) == (0.0, 0, 2, 64 + 50, False)
    assert too_late.size == 0


class Silent:
    """A driver that notes what was started and does nothing."""

    def __init__(self) -> None:
        self.open: list[ClientAttempt] = []

    def start(self, attempt: ClientAttempt, now_s: float) -> None:
        self.open.append(attempt)

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None:
        self.open.remove(attempt)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_due_earlier_than_the_client_says(seed: int) -> None:
    """`due_s` may be too early, never too late: whoever waits for it misses no timer, whatever was answered meanwhile."""
    draw = generator(seed, "test due")
    sessions = [replace(r, deadline_s=float(d)) for r, d in zip(conversation(6).requests, draw.uniform(1, 9, 6), strict=True)]
    alone = single_turns(sorted(draw.uniform(0, 20, 80).round(1).tolist())).requests
    workload = conversation(1).sending(
        (*sessions, *(replace(r, request_id=6 + i, session_id=1 + i) for i, r in enumerate(alone)))
    )
    driver = Silent()
    client = Client(workload, RetryRule("r", 1.5, None, 4.0, None, 0.3), SessionRule(), seed, driver)
    now_s, early = 0.0, 0
    client.on_wake(now_s)
    while (now_s := client.next_wake_s()) < 200.0:
        client.on_wake(now_s)
        for attempt in [a for a in driver.open if draw.random() < 0.2]:
            driver.open.remove(attempt)
            client.on_first_token(attempt.rid, now_s)
            client.on_answer(attempt.rid, bool(draw.random() < 0.5), now_s)
        due_s, exact_s = client.due_s, client.next_wake_s()
        assert due_s <= exact_s
        early += due_s < exact_s
    assert early, "or the bound would cost what the exact time costs"
    assert client.open_attempts == 0
    client.close()
    assert client.counts["planned"] == 86 == sum(client.counts[k] for k in ("ok", "failed", "censored", "abandoned", "not_due"))
