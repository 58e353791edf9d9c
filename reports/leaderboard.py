"""The numbers of the page's tables, one row an arm: the normal day and the stampede. It reads tables, never Parquet."""

from dataclasses import dataclass
from math import inf

import duckdb
import polars as pl

from reports.arms import JUDGED, RECOVERED
from reports.noise import Noise, noise_of, within_noise
from reports.scene import Scene
from reports.verdict import holds_slo


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over n seeds with its 95% interval; all None where a percentile fell on failures in any seed (`censored`)."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    censored: bool = False

    @property
    def order(self) -> float:
        """For sorting: what is unknown or censored comes last."""
        return inf if self.mean is None else self.mean


NOTHING = Interval(None, None, None, 0)
NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class NormalDay:
    """One arm in the steady phase. `rank` 1 is shared by those that cannot be told from the best; None: it does not hold the SLO,
    or is the reference, or all its runs are `void`. `limit_s` is the client's patience, shown where a percentile is censored."""

    router: str
    condition: str
    metrics: dict[str, Interval]
    rank: int | None
    limit_s: float | None
    void: bool = False

    @property
    def ttft_p90(self) -> Interval:
        return self.metrics.get("ttft_p90_s", NOTHING)


@dataclass(frozen=True, slots=True)
class Stampede:
    """One arm after the trigger: `back` of `judged` runs recovered (`runs` counts unstable and void ones too).

    `recovery_s` is the Kaplan–Meier median; None with `observed_s` means longer than that. `abandoned` turns were never sent,
    because their session quit: the mean a run.
    """

    router: str
    condition: str
    runs: int
    judged: int
    back: int
    verdicts: dict[str, int]
    share_low: float
    share_high: float
    recovery_s: float | None
    observed_s: float | None
    amplification: Interval
    lost: Interval
    abandoned: float = 0.0

    @property
    def down(self) -> int:
        """Runs that stay down by themselves, as opposed to slow ones, which ran out of observation."""
        return self.verdicts.get("metastable", 0) + self.verdicts.get("deadlock", 0)


Metrics = dict[tuple[str, str], dict[str, Interval]]


def arm_metrics(con: duckdb.DuckDBPyConnection, phase: str) -> Metrics:
    """Table `arms` of one phase by (condition, router) and metric."""
    found = con.sql(f"""
        SELECT p.condition, p.router, a.metric, a.mean, a.low, a.high, a.n_seeds, a.n_censored
        FROM arms a JOIN (SELECT DISTINCT arm_id, condition, router FROM players) p USING (arm_id)
        WHERE a.phase = '{phase}' ORDER BY ALL""").fetchall()
    metrics: Metrics = {}
    for condition, router, metric, mean, low, high, n, censored in found:
        metrics.setdefault((condition, router), {})[metric] = Interval(mean, low, high, n, censored > 0)
    return metrics


def normal_day_rows(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[NormalDay]:
    """One row an arm in the phase `steady`."""
    metrics = arm_metrics(con, "steady")
    ties, held, void, noise = _ties(con), _held(con), _void(con), noise_of(con).get("ttft_p90_s")
    made = []
    for condition in scene.conditions:
        here = {r.key: metrics[condition.key, r.key] for r in scene.routers if (condition.key, r.key) in metrics}
        choices = {r.key: here[r.key] for r in scene.ranked if r.key in here}
        holding = held.get(condition.key, set())
        same = ties.get(condition.key, set()) | _alike(choices, holding, noise, len(scene.seeds) * scene.repeats)
        ranks = ranked(choices, holding, same)
        made += [NormalDay(key, condition.key, found, ranks.get(key), condition.timeout_s) for key, found in here.items()]
        lost = [r.key for r in scene.routers if (condition.key, r.key) in void]
        made += [NormalDay(key, condition.key, {}, None, condition.timeout_s, void=True) for key in lost]
    return made


def _void(con: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    """(condition, router) of the arms that have no sound run."""
    found = con.sql("""SELECT DISTINCT condition, router FROM players
                       EXCEPT SELECT DISTINCT condition, router FROM sound""").fetchall()
    return set(found)


def _held(con: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """By condition, the routers that hold the SLO in the steady phase, seeds pooled, by the rule that calls a run unstable."""
    found = con.sql("""SELECT p.condition, p.router, sum(v.steady_met)::BIGINT, sum(v.steady_decided)::BIGINT
                       FROM verdicts v JOIN sound p USING (cell_id) GROUP BY ALL""").fetchall()
    held: dict[str, set[str]] = {}
    for condition, router, met, decided in found:
        held.setdefault(condition, set()).update([router] if decided and holds_slo(met, decided) else [])
    return held


def _ties(con: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """By condition, the best router by TTFT p90 and those that cannot be told from it (paired t over seeds, Holm, 5%)."""
    found = con.sql("""
        SELECT p.condition, p.router, b.router, c.p_holm >= 0.05 OR (c.p_holm IS NULL AND c.difference = 0)
        FROM comparisons c
        JOIN (SELECT DISTINCT arm_id, condition, router FROM players) p USING (arm_id)
        JOIN (SELECT DISTINCT condition, router, name FROM players) b ON b.condition = p.condition AND b.name = c.other
        WHERE c.phase = 'steady' AND c.metric = 'ttft_p90_s' AND c.against = 'best' ORDER BY ALL""").fetchall()
    ties: dict[str, set[str]] = {}
    for condition, router, best, same in found:
        ties.setdefault(condition, {best}).update([router] if same else [])
    return ties


def _alike(arms: dict[str, dict[str, Interval]], held: set[str], noise: Noise | None, runs: int) -> set[str]:
    """The best router by TTFT p90 among `held`, and those that differ from it by no more than repeats of one router do."""
    means = {key: mean for key in arms.keys() & held if (mean := arms[key].get("ttft_p90_s", NOTHING).mean) is not None}
    best = min(means, key=lambda key: (means[key], key), default=None)
    if best is None:
        return set()
    found = {key for key, mean in means.items() if within_noise(noise, mean, means[best], runs)}
    return found if len(found) > 1 else set()


def ranked(arms: dict[str, dict[str, Interval]], held: set[str], ties: set[str]) -> dict[str, int]:
    """Places by mean TTFT p90 of the routers that hold the SLO; all of `ties` share the first place if the first is of them.

    A router that is not among `held`, those that hold the SLO, has no place. One whose p90 is censored in a seed is ordered last.
    """
    order = sorted(arms.keys() & held, key=lambda key: (arms[key].get("ttft_p90_s", NOTHING).order, key))
    first = [key for key in order if key in ties] if order and order[0] in ties else order[:1]
    rest = [key for key in order if key not in first]
    return dict.fromkeys(first, 1) | {key: place for place, key in enumerate(rest, start=len(first) + 1)}


def stampede_rows(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Stampede]:
    """One row an arm: its runs' verdicts counted, and table `arms`' metrics of recovery."""
    found = con.sql("""SELECT p.condition, p.router, v.verdict, count(*), max(v.censored_s)
                       FROM verdicts v JOIN players p USING (cell_id) GROUP BY ALL ORDER BY ALL""").fetchall()
    verdicts: dict[tuple[str, str], dict[str, int]] = {}
    observed: dict[tuple[str, str], float] = {}
    for condition, router, verdict, n, censored_s in found:
        arm = (condition, router)
        verdicts.setdefault(arm, {})[verdict or NOT_JUDGED] = n
        if censored_s is not None:
            observed[arm] = max(observed.get(arm, 0.0), censored_s)
    metrics, abandoned = arm_metrics(con, "recovery"), _abandoned(con)
    return [
        _stampede(arm, verdicts[arm], observed.get(arm), metrics.get(arm, {}), abandoned[arm])
        for arm in ((c.key, r.key) for c in scene.conditions for r in scene.routers)
        if arm in verdicts
    ]


def _abandoned(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], float]:
    found = con.sql("""SELECT p.condition, p.router, avg(t.abandoned)
                       FROM certificates t JOIN players p USING (cell_id) GROUP BY ALL""").fetchall()
    return {(condition, router): mean for condition, router, mean in found}


def _stampede(
    arm: tuple[str, str], verdicts: dict[str, int], observed_s: float | None, metrics: dict[str, Interval], abandoned: float
) -> Stampede:
    share = metrics.get("recovered_share", NOTHING)
    return Stampede(
        router=arm[1],
        condition=arm[0],
        runs=sum(verdicts.values()),
        judged=sum(n for verdict, n in verdicts.items() if verdict in JUDGED),
        back=sum(n for verdict, n in verdicts.items() if verdict in RECOVERED),
        verdicts=verdicts,
        share_low=0.0 if share.low is None else share.low,
        share_high=1.0 if share.high is None else share.high,
        recovery_s=metrics.get("recovery_s", NOTHING).mean,
        observed_s=observed_s,
        amplification=metrics.get("retry_amplification", NOTHING),
        lost=metrics.get("lost_goodput", NOTHING),
        abandoned=abandoned,
    )


def certificates(con: duckdb.DuckDBPyConnection) -> list[dict[str, object]]:
    """Every run's delivered-load certificate, with the keys of its arm, its seed and verdict."""
    found: pl.DataFrame = con.sql("""
        SELECT p.router, p.condition, p.seed, p.repeat, t.* EXCLUDE (arm_id), v.verdict, v.cause
        FROM certificates t JOIN players p USING (cell_id) LEFT JOIN verdicts v USING (cell_id)
        ORDER BY p.condition, p.router, p.seed, p.repeat""").pl()
    return found.to_dicts()


def phase_loads(con: duckdb.DuckDBPyConnection) -> list[dict[str, object]]:
    """Planned and realised load of each phase over all runs, in requests per second."""
    found: pl.DataFrame = con.sql("""
        SELECT phase, min(start_s) AS start_s, max(end_s) AS end_s, avg(planned_rps) AS planned,
               avg(offered_rps) AS offered, min(offered_rps) AS lowest, max(offered_rps) AS highest
        FROM cells JOIN players USING (cell_id) GROUP BY phase ORDER BY 2""").pl()
    return found.to_dicts()
