"""A watched run: the watcher sees every second, changes nothing by looking, and may end the run early with its books balanced."""

from dataclasses import astuple, replace

from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.virtual import VirtualRun
from replay.virtual_cell import check_conservation
from replicas.profile import EngineProfile
from tests.replay.scenes import cell, conversation, single_turns
from workloads.draws import generator
from workloads.workload import Workload

STUBBORN = RetryRule("for ever", ttft_timeout_s=1.0, max_attempts=None, backoff_s=0.5, cancel=False)


class Watched:
    """A run whose watcher notes the seconds it sees, and at one of them ends arrivals and, `for_s` later, the run."""

    def __init__(self, workload: Workload, stop_s: float | None = None, for_s: float = 10.0, watch: bool = True) -> None:
        a_cell = replace(cell("power_of_two", client=STUBBORN, changes={"max_running": 8}), drain_s=60.0)
        self.recorder, self.seen = Recorder(), list[float]()
        self._stop_s, self._for_s = stop_s, for_s
        profile = EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes)
        self.run = VirtualRun(a_cell, workload, profile, self.recorder, watch=self._look if watch else None)
        self.ended_s = self.run.run()
        check_conservation(self.run.client.counts, self.recorder)

    def _look(self, now_s: float) -> None:
        self.seen.append(now_s)
        if now_s == self._stop_s:
            self.run.client.admit_no_more(now_s)
            self.run.end_by(now_s + self._for_s)

    def first_due_s(self) -> list[float]:
        """When each request that came was first due."""
        return [(row.scheduled_us or 0) / 1e6 for row in self.recorder.attempts if row.attempt == 1]

    @property
    def rows(self) -> list[tuple[object, ...]]:
        return [astuple(row) for row in self.recorder.attempts] + [astuple(sample) for sample in self.recorder.samples]


def burst(n: int = 300, span_s: float = 6.0) -> Workload:
    return single_turns(sorted(generator(1, "test burst").uniform(0, span_s, n).tolist()), output_tokens=60)


def test_looking_changes_no_row() -> None:
    assert Watched(burst()).rows == Watched(burst(), watch=False).rows


def test_the_watcher_sees_every_second_once() -> None:
    watched = Watched(burst())
    assert watched.seen == [float(t) for t in range(int(watched.ended_s) + 1)]


def test_nobody_arrives_after_the_end_of_arrivals_and_what_began_goes_on() -> None:
    whole, watched = Watched(burst()), Watched(burst(), stop_s=3.0)
    due = watched.first_due_s()
    assert max(due) <= 3.0
    assert due == [at_s for at_s in whole.first_due_s() if at_s <= 3.0]
    assert watched.run.client.counts["not_due"] == 300 - len(due)
    assert watched.run.client.counts["ok"] > 0
    assert watched.ended_s > 3.0


def test_the_run_ends_where_the_watcher_says_and_what_is_open_is_censored() -> None:
    watched = Watched(burst(), stop_s=3.0, for_s=0.5)
    assert watched.ended_s == 3.5
    assert watched.run.client.counts["censored"] > 0
    assert watched.run.in_engines > 0


def test_a_turn_that_waits_for_its_think_time_is_not_due_any_more() -> None:
    watched = Watched(conversation(6, think_s=4.0), stop_s=6.0, for_s=30.0)
    counts = watched.run.client.counts
    assert (counts["ok"], counts["not_due"], counts["censored"]) == (2, 4, 0)
    assert watched.ended_s < 10.0, "it drained"
