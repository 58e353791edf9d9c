"""The router gives tries up, in both clocks: aborted or orphaned, retried elsewhere, and every row says so."""

import asyncio

import pytest

from replay.retry import RetryRule
from tests.replay.scenes import cell
from tests.replay.test_live_faults import replay
from tests.replay.test_virtual import burst, replayed

ONCE = RetryRule("one try", ttft_timeout_s=None, max_attempts=1)


@pytest.mark.parametrize("orphan", [True, False])
def test_a_try_that_is_given_up_ends_its_row_and_a_retry_has_its_own(orphan: bool) -> None:
    guards = (("retry", {"max_attempts": 2, "exclude": "last"}), ("timeout", {"first_token_s": 1.1, "orphan": orphan}))
    rows, run = replayed(cell("round_robin", guards, ONCE, changes={"max_running": 8}), burst(1, 200))
    given_up = [r for r in rows if r.error == "router gave up"]
    assert len(given_up) > 5
    assert {(r.outcome, r.status) for r in given_up} == {("timeout", 504)}
    assert all(r.first_token_us is None for r in given_up)
    assert any(r.router_try == 2 and r.outcome == "ok" for r in rows)
    orphans_work = sum(r.decoded_tokens for r in given_up) == 60 * len(given_up)
    assert orphans_work is orphan, "to its end, or not"
    assert run.router.open_requests == 0


def test_orphans_keep_an_overloaded_pool_down_where_aborted_tries_let_it_recover() -> None:
    """The same burst and patience: with orphans no retry is ever in time, without them half of them are."""

    def saved(orphan: bool) -> int:
        guards = (("retry", {"max_attempts": 2, "exclude": "last"}), ("timeout", {"first_token_s": 0.8, "orphan": orphan}))
        rows, _ = replayed(cell("round_robin", guards, ONCE, changes={"max_running": 8}), burst(1, 200))
        return sum(r.router_try == 2 and r.outcome == "ok" for r in rows)

    assert (saved(True), saved(False) > 20) == (0, True)


@pytest.mark.parametrize("orphan", [True, False])
def test_live_a_late_try_is_given_up_and_its_connection_is_kept_or_closed(orphan: bool) -> None:
    hung_up = []

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/metrics" not in head:
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            try:
                hung_up.append(await asyncio.wait_for(reader.read(), 0.5) == b"")
            except TimeoutError:
                hung_up.append(False)
        writer.close()

    guards = (("retry", {"max_attempts": 2, "backoff_s": 0.0}), ("timeout", {"first_token_s": 0.2, "orphan": orphan}))
    recorder, counts = replay(late, guards=guards)
    assert [(r.router_try, r.outcome, r.status) for r in recorder.attempts] == [(1, "timeout", 504), (2, "timeout", 504)]
    assert {r.error for r in recorder.attempts} == {"router gave up"}
    assert (hung_up, counts["failed"]) == ([not orphan] * 2, 1)
