"""Holds a profile's predictions against measured runs: `python -m replicas.fidelity FOLDER`. It fits nothing itself; a run that
the profile was fitted to is marked so, all others are predicted unseen.

Limits: p50 within 7%, p90 within 10%, p99 (from 1,000 requests on) within 15%, or what repeats of a run with identical arrivals
differ by: on one host as its folder says, on several as measured for that run. A row that needs the latter is marked so too.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicas.fitting.host import fit_launch
from replicas.fitting.measurements import Run
from replicas.fitting.profile_fit import fit_profile
from replicas.fitting.replayed import compare, measured, predict
from replicas.fitting.sources import Source, read_source, source_of
from replicas.profile import EngineProfile

LIMITS = {"p50": 0.07, "p90": 0.10, "p99": 0.15}
_PLAIN = ("running", "waiting", "answered")  # no seconds
_GAUGE_LIMIT, _GAUGE_SLACK = 0.15, 1.5  # of mean running and waiting: relative, or one request and a half: who is in the
# front end counts as waiting here, and not in the engine's own number


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Seconds, except for the gauges (requests)."""

    run: str
    metric: str
    measured: float
    predicted: float
    allowed: float
    hosts: float = 0.0  # by how much repeats on other hosts differ
    fitted: bool = False
    own_host: float | None = None  # the error with launches as long as on the run's own host
    tells_host: bool = False  # which this very run told

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1 if self.measured else 0.0

    @property
    def inside(self) -> bool:
        return self.verdict != "OUTSIDE"

    @property
    def verdict(self) -> str:
        """The first that holds: inside; inside (or, where the run itself told them, fitted) with the
        launches of its own host; inside what hosts differ by."""
        slack = _GAUGE_SLACK if self.metric in ("running", "waiting") else 0.0
        if abs(self.predicted - self.measured) <= max(slack, self.allowed * self.measured):
            return "inside"
        if self.own_host is not None and abs(self.own_host) <= self.allowed:
            return "fitted on its own host" if self.tells_host else "inside on its own host"
        return "inside hosts' spread" if self.hosts > 0.0 and abs(self.error) <= self.hosts else "OUTSIDE"


def hosts_spread(measured_s: float, repeats_s: tuple[float, ...]) -> float:
    """By how much a run and its repeats differ: largest less smallest, by their mean (0 without repeats)."""
    values = (measured_s, *repeats_s)
    return (max(values) - min(values)) / (sum(values) / len(values))


def allowed_error(metric: str, run: Run, spread: dict[str, float]) -> float:
    """The limit of `metric` (`ttft_p50` …), or the spread of repeats on one host where that is larger.

    TTFT's p90 is not asked to repeat better than its median; E2E's spread is its parts' (TTFT, then decoding), by their shares.
    """
    kind, quantile = metric.split("_")
    ttft, tpot = spread.get("ttft_p50", 0.0), spread.get("tpot_p50", 0.0)
    real = measured(run)
    share = real.quantile("ttft", 0.5) / real.quantile("e2e", 0.5)
    noise = {"ttft": ttft, "tpot": tpot, "e2e": share * ttft + (1 - share) * tpot}[kind]
    return max(LIMITS[quantile], noise)


def rows_of(run: Run, profile: EngineProfile, source: Source, on_host: EngineProfile | None = None) -> Iterator[Row]:
    """Latency quantiles of one run; `on_host` is `profile` with the launches of the run's own host."""
    own = {} if on_host is None else {metric: row["error"] for metric, row in compare(run, on_host).items()}
    tells = source.same_host_run(run.name) == run.name
    fitted = bool(profile.fit_error.get("runs", {}).get(run.name, {}).get("used_in_fit"))
    repeats = source.repeats.get(run.name, {})
    if run.patience_s is not None:
        said = float(np.mean([answer.latencies.answered for answer in predict(run, profile)]))
        yield Row(run.name, "answered", measured(run).answered, said, _GAUGE_LIMIT, fitted=fitted)
    for metric, row in compare(run, profile).items():
        was, said = row["measured_s"], row["predicted_s"]
        hosts = hosts_spread(was, repeats.get(metric, ()))
        yield Row(run.name, metric, was, said, allowed_error(metric, run, source.noise), hosts, fitted, own.get(metric), tells)


def gauge_rows(run: Run, profile: EngineProfile, metrics: Path) -> Iterator[Row]:
    """Mean running and waiting at the times when the engine's `/metrics` were read, while requests were due."""
    with metrics.open(newline="") as lines:
        read = [{key: float(row[key]) for key in ("t", "running", "waiting")} for row in csv.DictReader(lines)]
    read = [row for row in read if run.sent_s[0] < row["t"] <= run.sent_s[-1]]
    answers = predict(run, profile, at_s=np.array([row["t"] for row in read]))
    for name in ("running", "waiting"):
        said = float(np.mean([getattr(answer, name) for answer in answers]))
        fitted = bool(profile.fit_error.get("runs", {}).get(run.name, {}).get("used_in_fit"))
        yield Row(run.name, name, float(np.mean([row[name] for row in read])), said, _GAUGE_LIMIT, fitted=fitted)


def table(rows: Iterable[Row]) -> str:
    """One line a metric and run; latencies in ms."""
    head = ("run", "metric", "measured", "predicted", "error", "allowed", "hosts", "data", "own host", "verdict")
    lines = ["{:14} {:9} {:>10} {:>10} {:>7} {:>8} {:>7} {:7} {:>9} {}".format(*head)]
    for row in rows:
        scale, unit = (1.0, "") if row.metric in _PLAIN else (1e3, " ms")
        hosts, digits = f"{row.hosts:.1%}" if row.hosts else "", 2 if row.metric == "answered" else 1
        own = "" if row.own_host is None else f"{row.own_host:+.1%}{'*' if row.tells_host else ' '}"
        lines.append(
            f"{row.run:14} {row.metric:9} {row.measured * scale:7.{digits}f}{unit:3} {row.predicted * scale:7.{digits}f}{unit:3} "
            f"{row.error:+7.1%} {row.allowed:8.1%} {hosts:>7} {'fitted' if row.fitted else 'unseen':7} {own:>9} {row.verdict}"
        )
    return "\n".join(lines)


def judge(folder: Path, profile: EngineProfile | None = None) -> list[Row]:
    """All rows of a calibration folder, for `profile` or for a new fit; raises ValueError for a folder that cannot be read."""
    source = source_of(folder)
    data = read_source(folder, source)
    profile = profile or fit_profile(source, data)
    told = {name for run in data.runs if (name := source.same_host_run(run)) in data.runs}
    on_hosts = {name: fit_launch([data.runs[name]], profile) for name in sorted(told)}
    rows: list[Row] = []
    for name, run in data.runs.items():
        rows += rows_of(run, profile, source, on_hosts.get(source.same_host_run(name) or ""))
        metrics = folder / source.metrics.get(name, f"{name}_metrics.csv")
        if name in source.metrics or metrics.is_file():
            rows += gauge_rows(run, profile, metrics)
    return rows


def main(arguments: Seq[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m replicas.fidelity", description=__doc__)
    parser.add_argument("folder", type=Path, help="a calibration folder")
    parser.add_argument("--profile", help="a profile's name or file (default: fit one to the folder now)")
    given = parser.parse_args(arguments)
    try:
        rows = judge(given.folder, EngineProfile.load(given.profile) if given.profile else None)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    print(", ".join(f"{n} {verdict}" for verdict, n in Counter(row.verdict for row in rows).most_common()))
    print(
        "allowed: 7% (p50), 10% (p90), 15% (p99), or what repeats on one host differ by; "
        "hosts: what identical arrivals on several hosts of the kind differ by; own host: the error with launches as long as on "
        "the run's own host, told by one run of it (*)"
    )
    return 0 if all(row.inside for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
