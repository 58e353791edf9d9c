"""What a probe found, as plain rows that a page draws. Each names the cells it rests on. It computes nothing."""

from dataclasses import dataclass, field

Arm = tuple[str, str]
"""(router, guard set) by label."""


@dataclass(frozen=True, slots=True)
class OwnCapacity:
    """An arm's C* in rps with the loads that bracket it; None where no load passed or none failed. `cold_rps` is `warm_rps` where
    a cold pool carries the largest load that passed warm: the search tells no more."""

    arm: Arm
    warm_rps: float | None
    warm_low_rps: float | None
    warm_high_rps: float | None
    cold_rps: float | None
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """How large a spike of `length_s` an arm survives at a load: `k`, and the interval (`low`, `high`) of `reports.frontier`;
    None = beyond the sizes tried at that end, and where `k` is, `beyond` says which: 1 = it survives more than the largest, -1 =
    less than the least. `stable`: false where the arm does not carry the load without any trigger.
    `recovery`: (k, low, mean, high) of the recovery probability; `tries`: (k, recovered), its own. `leans_on`: the fraction whose
    tries (all recovered at a heavier load, or all failed at a lighter one) are counted too. `deadly_k`: the smallest burst tried
    that the arm stayed down after in `deadly_down` of `deadly_runs` runs (at least 80%), all phases together; `deadly_larger`:
    larger bursts are counted with it, because none was tried often enough alone."""

    arm: Arm
    fraction: float
    load_rps: float
    length_s: float
    stable: bool
    k: float | None
    low: float | None
    high: float | None
    tries: tuple[tuple[float, bool], ...]
    recovery: tuple[tuple[float, float, float, float], ...]
    cells: tuple[str, ...]
    leans_on: float | None = None
    deadly_k: float | None = None
    deadly_down: int = 0
    deadly_runs: int = 0
    deadly_larger: bool = False
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class PulseRow:
    """One trigger at one arm and load: runs recovered of all, with Wilson's 95% interval; `times`: (seconds, recovered or
    censored there) of each run, for Kaplan–Meier."""

    arm: Arm
    fraction: float
    trigger: str
    recovered: int
    runs: int
    low: float
    high: float
    times: tuple[tuple[float, bool], ...]
    verdicts: tuple[tuple[str, int], ...]
    lost_goodput: float | None
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """SLO success on the way up and down the same loads (rps ascending), mean over seeds. `area`: the trapezoid of up − down over
    the load range (a share: 1 = all is lost on the way down), mean over `seeds` with Student's 95% interval (None for one)."""

    arm: Arm
    loads_rps: tuple[float, ...]
    up: tuple[float | None, ...]
    down: tuple[float | None, ...]
    area: float | None
    cells: tuple[str, ...]
    area_low: float | None = None
    area_high: float | None = None
    seeds: int = 1


@dataclass(frozen=True, slots=True)
class Escape:
    """From the stuck state at `load_rps`: the largest load it was shed to (for `shed_s`) from which it healed, the smallest from
    which it did not; None where none healed, or all did. `k` and `length_s`: the burst that left it stuck."""

    arm: Arm
    load_rps: float
    shed_s: float
    heals_at_rps: float | None
    stays_at_rps: float | None
    cells: tuple[str, ...]
    k: float | None = None
    length_s: float | None = None


@dataclass(frozen=True, slots=True)
class Attribution:
    """One loop taken away from an arm that stays down: runs recovered of all with the change and without it, Fisher's exact
    one-sided p (Holm over the arm's loops). `restores`: the change alone brings recovery back, in at least 80% of its runs and
    beyond chance. `up_to_k`, `up_to_low`, `up_to_high`: survived size with a change that restores (not measured for others); None
    = beyond the sizes tried at that end. `stable`: false where the changed arm does not carry the load at all."""

    arm: Arm
    fraction: float
    trigger: str
    variant: str
    cause: str
    words: str
    recovered_without: int
    runs_without: int
    recovered_with: int
    runs_with: int
    p: float
    restores: bool
    up_to_k: float | None
    cells: tuple[str, ...]
    up_to_low: float | None = None
    up_to_high: float | None = None
    stable: bool = True


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an arm stays down (in `down` of `runs`) after a burst of `k`: the loops each of which alone, taken away, restores
    recovery; `words` names them, or says that none was found. `restored_by`: the changes in words, same order."""

    arm: Arm
    fraction: float
    load_rps: float
    length_s: float
    k: float
    down: int
    runs: int
    causes: tuple[str, ...]
    restored_by: tuple[str, ...]
    words: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cure:
    """A guard set tried for a router: runs that survived the wanted trigger, and what it costs on a normal day (differences of
    means to the arm without guards, paired by seed, with a 95% interval): goodput rps lost and TTFT p99 seconds gained (positive:
    it costs). `reaches`: the wanted share survived on all the plan's seeds; a set with fewer runs was set aside on the way.
    `stable`: false where it does not carry the wanted load. `up_to_k`, `up_to_low`, `up_to_high`: survived size of the
    recommended set (not measured for others); None = beyond the sizes tried at that end."""

    router: str
    guard: str
    recovered: int
    runs: int
    low: float
    high: float
    reaches: bool
    recommended: bool
    goodput_cost_rps: float | None
    goodput_cost_low: float | None
    goodput_cost_high: float | None
    ttft_p99_cost_s: float | None
    cells: tuple[str, ...]
    ttft_p99_cost_low: float | None = None
    ttft_p99_cost_high: float | None = None
    stable: bool = True
    up_to_k: float | None = None
    up_to_low: float | None = None
    up_to_high: float | None = None


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Of placebo runs judged by the bands of the other seeds."""

    alarms: int
    runs: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Drain:
    """P7, of the runs that did not recover: how many still had work in the engines at the end of the drain, and how many of those
    were deadlocks (work that does not move)."""

    runs: int
    left: int
    deadlocks: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    c_ref_rps: float
    false_alarms: FalseAlarms
    capacities: tuple[OwnCapacity, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    pulses: tuple[PulseRow, ...] = ()
    hysteresis: tuple[Hysteresis, ...] = ()
    escapes: tuple[Escape, ...] = ()
    attributions: tuple[Attribution, ...] = ()
    cures: tuple[Cure, ...] = ()
    verdicts: dict[str, int] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    drains: tuple[Drain, ...] = ()
