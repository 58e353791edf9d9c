"""What a probe found, as plain rows that a page draws. Each names the cells it rests on. It computes nothing."""

from dataclasses import dataclass, field

Arm = tuple[str, str]
"""(router, guard set) by label."""


@dataclass(frozen=True, slots=True)
class OwnCapacity:
    """An arm's C* in rps with the loads that bracket it; None where no load passed or none failed."""

    arm: Arm
    warm_rps: float | None
    warm_low_rps: float | None
    warm_high_rps: float | None
    cold_rps: float | None
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """How large a spike of `length_s` an arm survives at a load: `k`, and the interval (`low`, `high`) of `reports.frontier`;
    None = beyond the sizes tried at that end. `stable`: false where the arm does not carry the load without any trigger.
    `recovery`: (k, low, mean, high) of the recovery probability; `tries`: (k, recovered)."""

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
    """SLO success on the way up and down the same loads (rps ascending), mean over seeds; `area` = mean difference."""

    arm: Arm
    loads_rps: tuple[float, ...]
    up: tuple[float | None, ...]
    down: tuple[float | None, ...]
    area: float | None
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Escape:
    """From the stuck state at `load_rps`: the largest load it was shed to (for `shed_s`) from which it healed, the smallest from
    which it did not; None where none healed, or all did."""

    arm: Arm
    load_rps: float
    shed_s: float
    heals_at_rps: float | None
    stays_at_rps: float | None
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """One loop taken away from an arm that stays down: runs recovered of all with and without it, Fisher's exact p (Holm over the
    arm's loops). `restores`: the change alone brings recovery back beyond chance. `up_to_k`: survived size with the change."""

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


@dataclass(frozen=True, slots=True)
class Cure:
    """A guard set tried for a router: runs that survived the wanted trigger, and what it costs on a normal day (differences of
    means to the arm without guards, paired by seed, with a 95% interval): goodput rps and TTFT p99 seconds."""

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


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Of placebo runs judged by the bands of the other seeds."""

    alarms: int
    runs: int
    low: float
    high: float


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
