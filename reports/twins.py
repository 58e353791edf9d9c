"""What was measured beside what the simulation says of the same requests, arm by arm. It makes no sentence and no table."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from reports.arms import LATENCIES
from reports.noise import noise_of

QUANTILES = tuple(f"{name}_{p}_s" for name, p in LATENCIES)
METRICS = {
    **{f"{name}_{p}_s": (f"{name.upper()} {p}", "time") for name, p in LATENCIES},
    "goodput_rps": ("Goodput, req/s", ""),
    "prefix_hit": ("Prefix hits", "share"),
    "recovery_s": ("Recovery time", "time"),
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one arm: means over the `seeds` that both sides have (each the mean of its repeats); None where a percentile
    fell on failures, or a run did not come back. `low` and `high` span the measured runs. `noise`: the median relative difference
    between repeats of this arm, None without repeats."""

    router: str
    condition: str
    metric: str
    measured: float | None
    low: float | None
    high: float | None
    simulated: float | None
    seeds: int
    noise: float | None

    @property
    def error(self) -> float | None:
        """simulated / measured − 1."""
        if self.measured is None or self.simulated is None or self.measured == 0:
            return None
        return self.simulated / self.measured - 1


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How an arm's runs ended, measured and simulated, and in how many of the pairs alike."""

    router: str
    condition: str
    measured: dict[str, int]
    simulated: dict[str, int]
    alike: int
    pairs: int


Arm = tuple[str, str]
Pairs = dict[Arm, dict[str, dict[int, tuple[list[float | None], list[float | None]]]]]


def compared(con: duckdb.DuckDBPyConnection) -> list[Compared]:
    """Every metric of every arm of the entered scene with a sound measured run and a sound twin; latencies and goodput of the
    steady phase, prefix hits of whole runs by the engines' counters."""
    pairs, arm_ids = _pairs(con)
    rows = []
    for arm, metrics in pairs.items():
        noise = noise_of(con, arm_ids[arm])
        for metric in METRICS:
            by_seed = metrics.get(metric)
            if by_seed:
                rows.append(_compared(arm, metric, by_seed, noise[metric].median if metric in noise else None))
    return rows


def _pairs(con: duckdb.DuckDBPyConnection) -> tuple[Pairs, dict[Arm, list[str]]]:
    """By arm, metric and seed: the values of its measured runs and of its twins."""
    columns = ", ".join((*QUANTILES, "goodput_rps"))
    found = con.execute(f"""
        WITH shares AS (
            SELECT cell_id, (sum(hit_tokens) / nullif(sum(query_tokens), 0))::DOUBLE AS prefix_hit
            FROM prefix_hits GROUP BY cell_id),
        told AS (
            SELECT c.cell_id, {columns}, prefix_hit, recovery_s
            FROM cells c JOIN certificates t USING (cell_id) LEFT JOIN shares USING (cell_id) LEFT JOIN verdicts v USING (cell_id)
            WHERE c.phase = 'steady' AND NOT t.void)
        SELECT p.condition, p.router, p.arm_id, p.seed, own.* EXCLUDE (cell_id), twin.* EXCLUDE (cell_id)
        FROM sound p JOIN twins USING (cell_id) JOIN told own USING (cell_id) JOIN told twin ON twin.cell_id = twins.twin_id
        ORDER BY ALL""").fetchall()
    pairs: Pairs = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: ([], []))))
    arm_ids: dict[Arm, list[str]] = defaultdict(list)
    for condition, router, arm_id, seed, *values in found:
        arm_ids[condition, router].append(arm_id)
        for i, metric in enumerate(METRICS):
            own, twin = pairs[condition, router][metric][seed]
            own.append(values[i])
            twin.append(values[len(METRICS) + i])
    return pairs, arm_ids


def _compared(arm: Arm, metric: str, by_seed: dict[int, tuple[list[Any], list[Any]]], noise: float | None) -> Compared:
    seen = [value for own, _ in by_seed.values() for value in own if value is not None]
    return Compared(
        router=arm[1],
        condition=arm[0],
        metric=metric,
        measured=_mean([_mean(own) for own, _ in by_seed.values()]),
        low=min(seen, default=None),
        high=max(seen, default=None),
        simulated=_mean([_mean(twin) for _, twin in by_seed.values()]),
        seeds=len(by_seed),
        noise=noise,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """None where any value is missing: it lies beyond what was seen."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def verdict_pairs(con: duckdb.DuckDBPyConnection) -> list[Verdicts]:
    """How the paired runs of each arm ended; none where verdicts are missing on either side."""
    found = con.execute("""
        SELECT p.condition, p.router, own.verdict, twin.verdict
        FROM sound p JOIN twins USING (cell_id) JOIN verdicts own USING (cell_id)
        JOIN verdicts twin ON twin.cell_id = twins.twin_id
        WHERE own.verdict IS NOT NULL AND twin.verdict IS NOT NULL AND twin.verdict <> 'void' ORDER BY ALL""").fetchall()
    arms: dict[Arm, list[tuple[str, str]]] = defaultdict(list)
    for condition, router, own, twin in found:
        arms[condition, router].append((own, twin))
    return [
        Verdicts(router, condition, Counter(a for a, _ in pairs), Counter(b for _, b in pairs), sum(a == b for a, b in pairs),
                 len(pairs))
        for (condition, router), pairs in arms.items()
    ]  # fmt: skip
