"""What a probe asks for and what it hears: plain rows, one a cell. They know neither how a cell is run nor what comes next."""

from dataclasses import dataclass

CAPACITY, PLACEBO, PULSE, FRONTIER, STAIRCASE, ESCAPE, ATTRIBUTION, CURE = PHASES = (
    "capacity",  # P0: an arm's own C*, cold and warm
    "placebo",  # P1: bands and false alarms
    "pulse",  # P2: every kind of trigger
    "frontier",  # P3: the survived size
    "staircase",  # P4: hysteresis
    "escape",  # P5: hidden capacity
    "attribution",  # P6: one loop taken away at a time
    "cure",  # the cheapest guard set that reaches the wanted survival
)
"""P7 (zero-load drain) is no phase of its own: every cell ends with a drain, and its answer says what was left."""

Piece = tuple[float, float]


@dataclass(frozen=True, slots=True, order=True)
class Ask:
    """One cell: what to run and why.

    `router` and `guard` are labels of the plan, `variant` a change of its attribution ("" = as it is). `trigger` is
    canonical JSON
    of a trigger with all its parameters. `pieces`: (factor of load_rps, seconds) one after another, for staircase and escape;
    empty = the study's phases. `cold`: the pool starts empty and the load at once (capacity only).
    """

    phase: str
    router: str
    guard: str
    variant: str
    load_rps: float
    trigger: str
    pieces: tuple[Piece, ...]
    seed: int
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What one cell showed. Times in seconds; shares None where nothing was due.

    `verdict` is the run's (`reports.verdict`), `unstable` and `void` included, `calm` for a placebo, staircase, escape or
    capacity
    cell, which is not judged against bands; `recovered` None there. `false_alarm`: of a placebo, judged by the other seeds'
    bands. `success` is the SLO share of the steady phase by arrival cohort, `levels` that of each piece's last two thirds (same
    order). `calm_*`: means of the steady phase. `amplification`, `waste`, `hit_end`, `spill`: of the time after the trigger.
    `lost_goodput`: roots that a calm run would have served and this one did not, from the trigger's start to the run's end.
    `left_in_drain`: requests in the engines at the end of the drain. `observed_s`: how long after the trigger the run was looked
    at before it was decided. `evidence` is the file (relative to the run) with the seconds that the verdict rests on.
    """

    ask: Ask
    cell_id: str
    verdict: str
    recovered: bool | None
    recovery_s: float | None
    censored_s: float | None
    observed_s: float
    cause: str
    false_alarm: bool | None
    success: float | None
    roots: int
    levels: tuple[float | None, ...]
    calm_ttft_p50_s: float | None
    calm_ttft_p99_s: float | None
    calm_goodput_rps: float
    amplification: float | None
    waste: float | None
    hit_calm: float | None
    hit_end: float | None
    spill: float | None
    lost_goodput: float | None
    left_in_drain: int
    attempts: int
    cpu_s: float
    evidence: str
