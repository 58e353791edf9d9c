"""Arms over seeds: table `arms` (intervals) and table `comparisons` (paired differences). It does not know single requests."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.database import insert_rows
from reports.statistics import Interval, Paired, holm, kaplan_meier_median, paired_t, t_interval, wilson

if TYPE_CHECKING:
    import duckdb

LATENCIES = tuple((name, p) for name in ("ttft", "tpot", "e2e") for p in ("p50", "p90", "p99"))
RANKED = tuple(f"{name}_{p}_s" for name, p in LATENCIES)
PLAIN = (
    "success",
    "answered",
    "goodput_rps",
    "offered_rps",
    "cache_hit",
    "imbalance",
    "attempts_per_request",
    "client_attempts_per_request",
    "work_waste",
)
HIGHER_IS_BETTER = frozenset({"success", "answered", "goodput_rps", "cache_hit"})
COMPARED = (*RANKED, "success", "goodput_rps", "cache_hit", "imbalance", "attempts_per_request", "work_waste")
BASELINE_POLICY = "least_outstanding"
RECOVERED = ("recovered", "latent")
NOT_BACK = ("slow", "metastable", "deadlock")
JUDGED = (*RECOVERED, *NOT_BACK)

_TYPES = """arm_id VARCHAR, router VARCHAR, policy VARCHAR, reference BOOLEAN, gateway VARCHAR, arm VARCHAR, guard VARCHAR,
    client VARCHAR, driver VARCHAR, pool_engine VARCHAR, engine VARCHAR, pool VARCHAR, workload VARCHAR, load_rps DOUBLE,
    trigger_kind VARCHAR, trigger_words VARCHAR, k DOUBLE, d_s DOUBLE, phase VARCHAR, metric VARCHAR"""


class Arm(NamedTuple):
    """What a row of `cells`, `verdicts`, `arms` and `comparisons` says of its arm; `reference` arms are no choice."""

    arm_id: str
    router: str
    policy: str
    reference: bool
    gateway: str
    arm: str
    guard: str
    client: str
    driver: str
    pool_engine: str
    engine: str
    pool: str
    workload: str
    load_rps: float
    trigger_kind: str | None
    trigger_words: str | None
    k: float | None
    d_s: float | None

    @property
    def setting(self) -> tuple[Any, ...]:
        """All but the router: arms that share it differ in nothing else."""
        return self[6:]


class Ended(NamedTuple):
    """How one run ended, from table `verdicts`."""

    verdict: str | None
    recovery_s: float | None
    censored_s: float | None
    lost_goodput: float | None
    retry_amplification: float | None
    false_alarm: bool | None

    @property
    def back(self) -> bool:
        return self.verdict in RECOVERED


_ARM, _WIDTH = ", ".join(Arm._fields), len(Arm._fields)
Values = dict[tuple[Arm, str, str], dict[int, float | None]]  # (arm, phase, metric) → seed → value; None is censored


def write_arms(con: "duckdb.DuckDBPyConnection") -> None:
    """Creates `arms` and `comparisons` from tables `cells`, `certificates` and `verdicts`.

    Repeats of one seed are averaged within it first (a seed is censored where any of its repeats is): they say how noisy a seed
    is, not how seeds differ. Void cells count in void_share alone.

    `arms`: mean and 95% t interval over seeds of each metric of `cells` (NULL with n_censored > 0 where a seed's percentile is
    censored), and of the arm's verdicts (phase 'recovery'): recovered_share (Wilson over recovered, latent, slow, metastable and
    deadlock), recovery_s (Kaplan–Meier median), lost_goodput, retry_amplification, and the Wilson shares false_alarm,
    unstable_share and void_share.
    `comparisons`: paired difference router − other over seeds, `against` 'best' (of the metric, reference policies left out) or
    'reference' (the baseline policy, least_outstanding); p_holm corrects over the routers that are compared with the same one.
    """
    values = _cell_values(con)
    rows = [(*arm, phase, metric, *_over_seeds(by_seed)) for (arm, phase, metric), by_seed in values.items()]
    rows += _verdict_metrics(con)
    con.execute(f"CREATE TABLE arms ({_TYPES}, n_seeds BIGINT, n_censored BIGINT, mean DOUBLE, low DOUBLE, high DOUBLE)")
    insert_rows(con, "arms", rows)
    con.execute(
        f"CREATE TABLE comparisons ({_TYPES}, against VARCHAR, other VARCHAR, pairs BIGINT, difference DOUBLE, low DOUBLE,"
        " high DOUBLE, p DOUBLE, p_holm DOUBLE)"
    )
    insert_rows(con, "comparisons", _comparisons(values))


def _cell_values(con: "duckdb.DuckDBPyConnection") -> Values:
    """Each metric of each phase by seed; seeds without a value (no request, one-token answers only) are left out."""
    metrics = (*RANKED, *PLAIN)
    marks = ", ".join(f"{name}_censored" for name in RANKED)
    columns = f"{_ARM}, phase, seed, repeat, {marks}, {', '.join(metrics)}"
    sound = "cell_id IN (SELECT cell_id FROM certificates WHERE NOT void)"
    runs: dict[tuple[Arm, str, str], dict[int, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for row in con.execute(f"SELECT {columns} FROM cells WHERE {sound} ORDER BY ALL").fetchall():
        arm, (phase, seed, _, *rest) = Arm(*row[:_WIDTH]), row[_WIDTH:]
        censored = dict(zip(RANKED, rest[: len(RANKED)], strict=True))
        for metric, value in zip(metrics, rest[len(RANKED) :], strict=True):
            if value is not None or censored.get(metric):
                runs[arm, phase, metric][seed].append(value)
    return {key: {seed: seed_mean(values) for seed, values in seeds.items()} for key, seeds in runs.items()}


def seed_mean(values: Sequence[float | None]) -> float | None:
    """The mean over a seed's repeats; None (censored) where any of them is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _over_seeds(by_seed: dict[int, float | None]) -> tuple[Any, ...]:
    """n_seeds, n_censored, mean, low, high: no mean where any seed is censored, for it lies beyond what was seen."""
    seen = [value for value in by_seed.values() if value is not None]
    n_censored = len(by_seed) - len(seen)
    interval = Interval(None, None, None) if n_censored else t_interval(seen)
    return len(by_seed), n_censored, interval.mean, interval.low, interval.high


def _verdict_metrics(con: "duckdb.DuckDBPyConnection") -> list[tuple[Any, ...]]:
    arms: dict[Arm, dict[int, list[Ended]]] = defaultdict(lambda: defaultdict(list))
    columns = ", ".join(Ended._fields)
    for row in con.execute(f"SELECT {_ARM}, seed, repeat, {columns} FROM verdicts ORDER BY ALL").fetchall():
        seed, _, *ended = row[_WIDTH:]
        arms[Arm(*row[:_WIDTH])][seed].append(Ended(*ended))
    return [(*arm, "recovery", *metric) for arm, seeds in arms.items() for metric in _arm_metrics(list(seeds.values()))]


def _arm_metrics(seeds: Sequence[Sequence[Ended]]) -> Iterable[tuple[Any, ...]]:
    """(metric, n_seeds, n_censored, mean, low, high) of one arm's verdicts, given as the repeats of each seed."""
    judged = [found for cells in seeds if (found := [cell for cell in cells if cell.verdict in JUDGED])]
    yield "recovered_share", len(judged), 0, *_share([[cell.back for cell in cells] for cells in judged])
    typical = [middle(cells) for cells in judged]
    back = [cell.recovery_s for cell in typical if cell.recovery_s is not None]
    censored = [cell.censored_s for cell in typical if cell.recovery_s is None and cell.censored_s is not None]
    yield "recovery_s", len(typical), len(censored), *_limits(kaplan_meier_median(back, censored))
    for metric in ("lost_goodput", "retry_amplification"):
        yield metric, *_over_seeds({i: seed_mean([getattr(c, metric) for c in cells]) for i, cells in enumerate(judged)})
    alarms = [told for cells in seeds if (told := [cell.false_alarm for cell in cells if cell.false_alarm is not None])]
    yield "false_alarm", len(alarms), 0, *_share(alarms)
    known = [names for cells in seeds if (names := [cell.verdict for cell in cells if cell.verdict is not None])]
    for verdict in ("unstable", "void"):
        yield f"{verdict}_share", len(known), 0, *_share([[name == verdict for name in cells] for cells in known])


def middle(cells: Sequence[Ended]) -> Ended:
    """The run in the middle of a seed's repeats by recovery time, those that did not come back last; of two the slower."""
    order = sorted(cells, key=lambda cell: (not cell.back, (cell.recovery_s if cell.back else cell.censored_s) or 0.0))
    return order[len(order) // 2]


def _share(seeds: Sequence[Sequence[bool]]) -> tuple[float | None, float | None, float | None]:
    """Share of runs and its Wilson interval over seeds: a seed's repeats count as one run together."""
    count = sum(sum(runs) / len(runs) for runs in seeds)
    return _limits(wilson(count, len(seeds))) if seeds else (None, None, None)


def _limits(interval: Interval) -> tuple[float | None, float | None, float | None]:
    return interval.mean, interval.low, interval.high


def _comparisons(values: Values) -> list[tuple[Any, ...]]:
    """Routers side by side where all else is equal (guard, client, engine, pool, workload, load, trigger, phase, metric)."""
    sides: dict[tuple[Any, ...], dict[Arm, dict[int, float]]] = defaultdict(dict)
    for (arm, phase, metric), by_seed in values.items():
        known = {seed: value for seed, value in by_seed.items() if value is not None}
        if metric in COMPARED and len(known) == len(by_seed):
            sides[*arm.setting, phase, metric][arm] = known
    rows: list[tuple[Any, ...]] = []
    for (*_, phase, metric), arms in sides.items():
        choices = [arm for arm in arms if not arm.reference]
        sign = -1 if metric in HIGHER_IS_BETTER else 1
        best = min(choices, key=lambda arm: (sign * _mean(arms[arm]), arm.router), default=None)
        baseline = next((arm for arm in choices if arm.policy == BASELINE_POLICY), None)
        for against, other in (("best", best), ("reference", baseline)):
            if other is not None:
                rows += _against(against, other, arms, phase, metric)
    return rows


def _against(against: str, other: Arm, arms: dict[Arm, dict[int, float]], phase: str, metric: str) -> list[tuple[Any, ...]]:
    found = []
    for arm, by_seed in arms.items():
        seeds = sorted(by_seed.keys() & arms[other].keys())
        if arm != other and seeds:
            found.append((arm, paired_t([by_seed[s] for s in seeds], [arms[other][s] for s in seeds])))
    corrected = holm([1.0 if pair.p is None else pair.p for _, pair in found])  # an untested pair counts as p = 1
    return [
        (*arm, phase, metric, against, other.router, *_paired_columns(pair), None if pair.p is None else p_holm)
        for (arm, pair), p_holm in zip(found, corrected, strict=True)
    ]


def _paired_columns(pair: Paired) -> tuple[Any, ...]:
    return pair.pairs, pair.difference, pair.low, pair.high, pair.p


def _mean(by_seed: dict[int, float]) -> float:
    return sum(by_seed.values()) / len(by_seed)
