"""A world whose truth is known: it answers what a probe asks, with noise, from a few functions of the arm. No simulation."""

import json
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reports.probe.asks import ATTRIBUTION, CURE, ESCAPE, FRONTIER, PULSE, STAIRCASE, Answer, Ask
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.protocol import next_asks

NEVER, ALWAYS = 0.01, 1000.0
"""Survived sizes beyond all that is tried."""


@dataclass
class World:
    """`survives(arm, variant, load_rps, length_s)`: the k at which a run recovers in half of the cases (recovery is logistic in
    ln k with width `slope`); `capacity_rps(arm)`: where SLO success crosses 95%; `hidden_rps(arm)`: from which load a stuck arm
    heals; `cost(arm)`: (goodput rps, TTFT p99 s) that a guard set costs on a normal day; `void` of all cells say nothing."""

    survives: Callable[[Arm, str, float, float], float]
    capacity_rps: Callable[[Arm], float] = lambda arm: 30.0
    hidden_rps: Callable[[Arm], float] = lambda arm: 15.0
    cost: Callable[[Arm], tuple[float, float]] = lambda arm: (0.0, 0.0)
    slope: float = 0.08
    noise: float = 0.003
    void: float = 0.0
    alarms: float = 0.03
    seed: int = 1
    asked: list[Ask] = field(default_factory=list)

    def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        draw = random.Random(f"{self.seed}|{ask}")
        shared = random.Random(f"{self.seed}|{ask.seed}")  # what all arms of a seed have in common
        arm = (ask.router, ask.guard)
        void, recovered = draw.random() < self.void, self._recovered(ask, draw)
        goodput, slower_s = self.cost(arm)
        verdict = "calm" if recovered is None else "recovered" if recovered else "metastable"
        took_s = None if recovered is not True else 5.0 + 40 * draw.random()
        return Answer(
            ask=ask,
            cell_id=f"{abs(hash(ask)):x}",
            verdict="void" if void else verdict,
            recovered=None if void else recovered,
            recovery_s=took_s,
            censored_s=300.0 if recovered is False else None,
            observed_s=300.0,
            cause="",
            false_alarm=draw.random() < self.alarms if ask.phase == "placebo" else None,
            success=self.success(arm, ask.load_rps, draw),
            roots=2000,
            levels=self._levels(ask, draw),
            calm_ttft_p50_s=0.2,
            calm_ttft_p99_s=1.0 + 0.2 * shared.random() + slower_s + 0.01 * draw.random(),
            calm_goodput_rps=ask.load_rps * (0.97 + 0.02 * shared.random()) - goodput + 0.02 * draw.random(),
            amplification=1.0 if recovered else 3.0,
            waste=0.1,
            hit_calm=0.5,
            hit_end=0.5,
            spill=1.2,
            lost_goodput=10.0 if recovered else 2000.0,
            left_in_drain=0,
            attempts=2500,
            cpu_s=0.4,
            evidence=f"cells/{abs(hash(ask)):x}.parquet",
        )

    def success(self, arm: Arm, load_rps: float, draw: random.Random) -> float:
        share = 0.95 + (1 - load_rps / self.capacity_rps(arm)) + draw.gauss(0, self.noise)
        return min(1.0, max(0.0, share))

    def p(self, arm: Arm, variant: str, load_rps: float, k: float, length_s: float) -> float:
        """The probability that a run recovers."""
        reach = math.log(k / self.survives(arm, variant, load_rps, length_s)) / self.slope
        return 1 / (1 + math.exp(min(reach, 700)))

    def survived(self, arm: Arm, variant: str, load_rps: float, length_s: float, share: float = 0.9) -> float:
        """The k at which recovery has probability `share`."""
        return float(self.survives(arm, variant, load_rps, length_s) * (share / (1 - share)) ** -self.slope)

    def _recovered(self, ask: Ask, draw: random.Random) -> bool | None:
        if ask.phase not in (PULSE, FRONTIER, ATTRIBUTION, CURE):
            return None
        trigger = json.loads(ask.trigger)
        chance = self.p((ask.router, ask.guard), ask.variant, ask.load_rps, trigger.get("k", 2.0), trigger["d_s"])
        return draw.random() < chance

    def _levels(self, ask: Ask, draw: random.Random) -> tuple[float | None, ...]:
        arm = (ask.router, ask.guard)
        if ask.phase == STAIRCASE:
            return self._staircase(arm, [factor * ask.load_rps for factor, _ in ask.pieces], draw)
        if ask.phase == ESCAPE:
            (_, _), (k, length_s), _, (shed, _), _ = ask.pieces
            well = draw.random() < self.p(arm, "", ask.load_rps, k, length_s)
            healed = well or shed * ask.load_rps < self.hidden_rps(arm)
            return (1.0, 0.2, 1.0 if well else 0.1, 0.5 if shed else None, 0.99 if healed else 0.1)
        return ()

    def _staircase(self, arm: Arm, loads: list[float], draw: random.Random) -> tuple[float, ...]:
        levels, stuck = [], False
        for load_rps in loads:
            served = self.success(arm, load_rps, draw)
            stuck = (stuck or served < 0.9) and load_rps >= self.hidden_rps(arm)
            levels.append(0.05 if stuck else served)
        return tuple(levels)


def probed(plan: ProbePlan, world: World, first: Iterable[Answer] = (), rounds: int = 400) -> list[Answer]:
    """Runs the whole protocol against a world; fails where it does not end, or asks a cell twice."""
    answers = list(first)
    for _ in range(rounds):
        asks = next_asks(plan, answers)
        if not asks:
            return answers
        assert len(set(asks)) == len(asks)
        assert not set(asks) & {answer.ask for answer in answers}
        answers += [world.answer(ask) for ask in asks]
    raise AssertionError(f"the protocol did not end within {rounds} rounds")
