"""Single-server engines behind the real driver, and what queueing theory says of them. It asserts nothing.

Service is one output token a step: `TOKEN_US` each, whatever the batch, so a request of n tokens is served in n·TOKEN_US.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from heapq import heapreplace
from math import ceil, factorial, lgamma
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import optimize, stats

from replay.observation import ObservationRule
from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.virtual import VirtualRun
from replay.virtual_cell import check_conservation
from replicas.profile import EngineProfile, StepTime
from tests.replay.scenes import cell
from tests.workloads.traces import provenance
from workloads.draws import generator
from workloads.synthesis import Plan, synthesize
from workloads.trace_table import Trace, list_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TOKEN_US = 100
MEAN_TOKENS = 1000
CONFIDENCE = 0.999
MEAN_S = MEAN_TOKENS * TOKEN_US / 1e6
PATIENT = RetryRule("patient", ttft_timeout_s=None, max_attempts=1)
POISSON = {"process": "poisson"}
ONE_AT_A_TIME = EngineProfile(
    name="one-at-a-time",
    engine="vllm",
    engine_version="",
    gpu="",
    model="",
    step=StepTime(TOKEN_US / 1e6, 0.0, 0.0, 0.0, 0.0, 0.0),
    block_tokens=1024,
    kv_blocks=256,
    max_running=1,
    max_batched_tokens=65536,
    context_tokens=262144,
    frontend_s=0.0,
    cancel_lag_s=0.0,
)


@dataclass(frozen=True)
class Law:
    """A distribution of service tokens: how to draw it, its mean in tokens, its squared coefficient of variation."""

    draw: Callable[[np.random.Generator, int], Ints]
    mean_tokens: float
    squared_cv: float

    @property
    def mean_s(self) -> float:
        return self.mean_tokens * TOKEN_US / 1e6


def _of_weights(tokens: Sequence[int], weights: Sequence[float]) -> Law:
    values, shares = np.array(tokens), np.array(weights)
    mean = float(values @ shares)
    return Law(lambda draw, n: draw.choice(values, n, p=shares), mean, float(values**2 @ shares) / mean**2 - 1)


LAWS = {
    "D": Law(lambda draw, n: np.full(n, MEAN_TOKENS), MEAN_TOKENS, 0.0),
    # Geometric: the exponential of whole tokens. Its squared cv is 1 - 1/mean.
    "M": Law(lambda draw, n: draw.geometric(1 / MEAN_TOKENS, n), MEAN_TOKENS, 1 - 1 / MEAN_TOKENS),
    # Two kinds of requests, one in ten is long: c² = 2.9.
    "two kinds": _of_weights((430, 6130), (0.9, 0.1)),
    "uniform": Law(lambda draw, n: draw.integers(1, 2 * MEAN_TOKENS, n), MEAN_TOKENS, (MEAN_TOKENS - 1) / MEAN_TOKENS / 3),
}


@dataclass(frozen=True, eq=False)
class System:
    """A pool under a load of `rho` a replica. `warmup` and `measured` count mean service times of one replica.

    `sees`: note what each request finds at the replicas.
    """

    law: str
    rho: float
    replicas: int = 1
    router: str = "least_outstanding"
    guards: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    arrival: Mapping[str, Any] = field(default_factory=lambda: POISSON)
    profile: EngineProfile = ONE_AT_A_TIME
    sees: bool = False
    warmup: int = 500
    measured: int = 1500

    @property
    def rate_rps(self) -> float:
        return self.rho * self.replicas / LAWS[self.law].mean_s

    def shared_queue(self, **parameters: Any) -> "System":
        """The same with one line before the pool, which holds one request a replica."""
        line = {"cap": self.replicas, "deadline_s": None, "max_length": None, **parameters}
        return replace(self, guards=(("queue", line),))


@dataclass(frozen=True)
class Path:
    """One run, by request in order of arrival: whole microseconds, −1 where it was refused. `measured`: after the warm-up.

    `running`, `waiting`: the pool's gauges at every whole second after the warm-up. `seen`: requests at the replicas as each
    routed request found them (empty unless the system `sees`).
    """

    arrival_us: Ints
    service_us: Ints
    first_token_us: Ints
    ended_us: Ints
    replica: Ints
    refused: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    running: Ints
    waiting: Ints
    seen: Ints

    @property
    def wait_us(self) -> Ints:
        """Microseconds from arrival to the begin of service: the first token comes one step after that."""
        return self.first_token_us - TOKEN_US - self.arrival_us

    @property
    def wait_s(self) -> Floats:
        return self.wait_us[self.measured & ~self.refused] / 1e6

    def offered(self, system: "System") -> float:
        """Service that came in after the warm-up, as a share of what was expected, less 1: its mean over seeds is 0."""
        expected_s = system.rho * system.replicas * system.measured * LAWS[system.law].mean_s
        return float(self.service_us[self.measured].sum() / 1e6 / expected_s) - 1

    @property
    def response_s(self) -> Floats:
        return (self.ended_us - self.arrival_us)[self.measured & ~self.refused] / 1e6


def simulate(system: System, seed: int) -> Path:
    """Synthesize the arrivals, replay them through client, guards, router and engines, and read the rows."""
    law = LAWS[system.law]
    warmup_s, measured_s = system.warmup * law.mean_s, system.measured * law.mean_s
    n = ceil((warmup_s + measured_s) * system.rate_rps * 1.2) + 100
    plan = Plan(
        arrival=dict(system.arrival),
        warmup_s=warmup_s,
        steady_s=measured_s,
        recovery_s=0.0,
        trigger={"kind": "placebo", "d_s": 0.0},
        stationary_start=False,
        max_context_tokens=None,
    )
    workload = synthesize(_single_turns(law.draw(generator(seed, "service"), n)), plan, system.rate_rps, seed)
    a_cell = cell(system.router, tuple((g, dict(p)) for g, p in system.guards), PATIENT, system.replicas)
    a_cell = replace(
        a_cell, max_tokens=1 << 40, drain_s=1e6, seed=seed, observation=ObservationRule(age_s=1e3), record_decisions=system.sees
    )
    recorder = Recorder()
    run = VirtualRun(a_cell, workload, system.profile, recorder)
    run.run()
    check_conservation(run.client.counts, recorder)
    return _path(recorder, workload.table.output_tokens, round(warmup_s * 1e6), round(workload.horizon_s * 1e6), system.replicas)


@cache
def paths(system: System, seeds: int) -> tuple[Path, ...]:
    """Runs of the seeds 1 … `seeds`."""
    return tuple(simulate(system, seed) for seed in range(1, seeds + 1))


def _single_turns(tokens: Ints) -> Trace:
    one = np.ones(len(tokens), dtype=np.int64)
    columns = {"user_tokens": one.astype(np.int32), "reply_tokens": tokens.astype(np.int32)}
    table = pa.table({name: list_of(one, pa.array(values)) for name, values in columns.items()})
    return Trace.of_table("by hand", table, provenance())


def _path(recorder: Recorder, tokens: Ints, warm_us: int, end_us: int, replicas: int) -> Path:
    rows = sorted(recorder.attempts, key=lambda r: (r.scheduled_us, r.request_id))
    number = np.array([r.request_id for r in rows])

    def column(name: str) -> Ints:
        return np.array([-1 if (v := getattr(r, name)) is None else v for r in rows], dtype=np.int64)

    arrival_us = column("scheduled_us")
    inside = [s for s in recorder.samples if warm_us <= s.t_us < end_us]
    return Path(
        arrival_us,
        tokens[number] * TOKEN_US,
        column("first_token_us"),
        column("ended_us"),
        column("replica_id"),
        np.array([r.outcome == "refused" for r in rows]),
        arrival_us >= warm_us,
        np.array([s.running for s in inside]).reshape(-1, replicas).sum(axis=1),
        np.array([s.waiting for s in inside]).reshape(-1, replicas).sum(axis=1),
        np.array([sum(d.in_flight) for d in recorder.decisions if warm_us <= d.t_us < end_us]),
    )


# Statistics -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A 99.9% t-interval of a mean over independent seeds."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @staticmethod
    def of(a_seed: Sequence[float], control: Sequence[float] | None = None) -> "Interval":
        """`control`: a figure of each seed whose mean is known to be 0; what it explains is taken out (a control variate)."""
        values, n = np.array(a_seed), len(a_seed)
        columns = np.ones((n, 1)) if control is None else np.column_stack([np.ones(n), control])
        freedom = n - columns.shape[1]
        fit, *_ = np.linalg.lstsq(columns, values, rcond=None)
        variance = ((values - columns @ fit) ** 2).sum() / freedom * np.linalg.inv(columns.T @ columns)[0, 0]
        half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance)
        return Interval(float(fit[0] - half), float(fit[0] + half))


# Theory -----------------------------------------------------------------------------------------------------------------


def pollaczek_khinchine(rho: float, law: Law) -> float:
    """Mean wait of M/G/1: ρ/(1−ρ) · (1+c²)/2 · E[S]."""
    return rho / (1 - rho) * (1 + law.squared_cv) / 2 * law.mean_s


def erlang_b(servers: int, erlangs: float) -> float:
    """Share of requests that M/G/k/k turns away, whatever the law of service."""
    terms = [np.exp(n * np.log(erlangs) - lgamma(n + 1)) for n in range(servers + 1)]
    return float(terms[-1] / sum(terms))


def erlang_c(servers: int, erlangs: float) -> float:
    """Share of requests that wait in M/M/k."""
    blocked = erlang_b(servers, erlangs)
    return blocked / (1 - erlangs / servers * (1 - blocked))


def wait_mmk(servers: int, rho: float, mean_s: float) -> float:
    """Mean wait of M/M/k: C(k, kρ) · E[S] / (k(1−ρ))."""
    return erlang_c(servers, servers * rho) * mean_s / (servers * (1 - rho))


def blocked_mmkn(servers: int, places: int, erlangs: float) -> float:
    """Share of requests that M/M/k/n (k servers, n places in all) turns away."""
    weights = [erlangs**n / factorial(min(n, servers)) / servers ** max(0, n - servers) for n in range(places + 1)]
    return float(weights[-1] / sum(weights))


def wait_gim1(transform: Callable[[float], float], mean_s: float) -> float:
    """Mean wait of GI/M/1: σ/(1−σ)·E[S], where σ = A*(μ(1−σ)) and A* is the Laplace transform of the gaps."""
    sigma = optimize.brentq(lambda s: transform((1 - s) / mean_s) - s, 1e-9, 1 - 1e-9)
    return float(sigma / (1 - sigma) * mean_s)


def lindley(arrival_us: Ints, service_us: Ints, servers: int = 1) -> Ints:
    """Each request's wait when `servers` serve one line in order (Lindley 1952; Kiefer and Wolfowitz 1955)."""
    free_at = [0] * servers
    waits = []
    for at, service in zip(arrival_us.tolist(), service_us.tolist(), strict=True):
        begins = max(at, free_at[0])
        waits.append(begins - at)
        heapreplace(free_at, begins + service)
    return np.array(waits, dtype=np.int64)
