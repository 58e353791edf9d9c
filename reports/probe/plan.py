"""What a probe is to find out: arms, loads, triggers, and how much may be spent. Plain data; the study's keys become this."""

from dataclasses import dataclass

from reports.frontier import Sizes


@dataclass(frozen=True, slots=True)
class Variant:
    """One loop taken away: `name` is what an ask carries, `takes_away` the cause it speaks for (`dead work`, …), `words` how the
    page names the change ("with timed-out requests cancelled in the engine"). `arms`: (router, guard) labels of the arms that
    have the loop at all; None = all."""

    name: str
    takes_away: str
    words: str
    arms: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """`routers` and `guards` are labels; guards[0] is the arm without guards. Loads are `fractions` of `c_ref_rps` (first
    attempts
    due per second). `pulses`: canonical JSON of each trigger of P2; `spike`: that of P3, whose k is varied over `sizes`, once for
    every length in `lengths_s`. `cures`: labels of guard sets that may be searched, cheapest first, `wanted_k` the size they
    are to survive at `wanted_fraction` of C_ref with probability SURVIVES. `steps`: factors of C_ref on the way up.
    `phases`:
    which of `reports.probe.asks.PHASES` to run. `band_seeds`: placebo runs that a variant or a cure gets, `attribution_settings`:
    at how many (fraction, length) an arm that stays down is asked why. `shed_dwells`: for how many `dwell_s` P5 sheds load (the
    backlog of a stuck pool takes long to clear)."""

    routers: tuple[str, ...]
    guards: tuple[str, ...]
    fractions: tuple[float, ...]
    c_ref_rps: float
    pulses: tuple[str, ...]
    spike: str
    lengths_s: tuple[float, ...]
    sizes: Sizes
    variants: tuple[Variant, ...]
    cures: tuple[str, ...]
    wanted_k: float
    wanted_fraction: float
    steps: tuple[float, ...]
    dwell_s: float
    phases: tuple[str, ...]
    placebo_seeds: int = 20
    pulse_seeds: int = 3
    frontier_tries: int = 10
    attribution_seeds: int = 5
    cure_seeds: int = 10
    first_seed: int = 1
    band_seeds: int = 2
    attribution_settings: int = 1
    shed_dwells: float = 10.0
