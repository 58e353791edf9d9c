"""Holds a profile's predictions against measured runs: `python -m replicas.fidelity FOLDER`. It fits nothing that it then judges
unseen: errors of a profile whose host was fitted to the *other* runs stand beside its own.

Limits: p50 within 7%, p90 within 10%, p99 (from 1,000 requests on) within 15%, or what identical repeats of a run differ by.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replicas.fitting.measurements import Run
from replicas.fitting.profile_fit import fit_profile
from replicas.fitting.replayed import compare, measured, predict
from replicas.fitting.sources import read_source, source_of
from replicas.profile import EngineProfile

LIMITS = {"p50": 0.07, "p90": 0.10, "p99": 0.15}
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
    left_out_error: float | None = None

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1 if self.measured else 0.0

    @property
    def inside(self) -> bool:
        if self.metric in ("running", "waiting") and abs(self.predicted - self.measured) <= _GAUGE_SLACK:
            return True
        return abs(self.predicted - self.measured) <= self.allowed * self.measured


def allowed_error(metric: str, run: Run, spread: dict[str, float]) -> float:
    """The limit of `metric` (`ttft_p50` …), or the spread of repeats where that is larger.

    TTFT's p90 is not asked to repeat better than its median; E2E's spread is its parts' (TTFT, then decoding), by their shares.
    """
    kind, quantile = metric.split("_")
    ttft, tpot = spread.get("ttft_p50", 0.0), spread.get("tpot_p50", 0.0)
    real = measured(run)
    share = real.quantile("ttft", 0.5) / real.quantile("e2e", 0.5)
    noise = {"ttft": ttft, "tpot": tpot, "e2e": share * ttft + (1 - share) * tpot}[kind]
    return max(LIMITS[quantile], noise)


def rows_of(run: Run, profile: EngineProfile, spread: dict[str, float]) -> Iterator[Row]:
    """Latency quantiles of one run."""
    stored = profile.fit_error.get("runs", {}).get(run.name, {}).get("quantiles", {})
    for metric, row in compare(run, profile).items():
        left_out = stored.get(metric, {}).get("left_out_error")
        yield Row(run.name, metric, row["measured_s"], row["predicted_s"], allowed_error(metric, run, spread), left_out)


def gauge_rows(run: Run, profile: EngineProfile, metrics: Path) -> Iterator[Row]:
    """Mean running and waiting at the times when the engine's `/metrics` were read, while requests were due."""
    with metrics.open(newline="") as lines:
        read = [{key: float(row[key]) for key in ("t", "running", "waiting")} for row in csv.DictReader(lines)]
    read = [row for row in read if run.sent_s[0] < row["t"] <= run.sent_s[-1]]
    answers = predict(run, profile, at_s=np.array([row["t"] for row in read]))
    for name in ("running", "waiting"):
        said = float(np.mean([getattr(answer, name) for answer in answers]))
        yield Row(run.name, name, float(np.mean([row[name] for row in read])), said, _GAUGE_LIMIT)


def table(rows: Iterable[Row]) -> str:
    """One line a metric and run; latencies in ms."""
    head = ("run", "metric", "measured", "predicted", "error", "allowed", "unseen", "verdict")
    lines = ["{:14} {:9} {:>10} {:>10} {:>7} {:>8} {:>7}  {}".format(*head)]
    for row in rows:
        scale, unit = (1.0, "") if row.metric in ("running", "waiting") else (1e3, " ms")
        unseen = "" if row.left_out_error is None else f"{row.left_out_error:+.1%}"
        lines.append(
            f"{row.run:14} {row.metric:9} {row.measured * scale:7.1f}{unit:3} {row.predicted * scale:7.1f}{unit:3} "
            f"{row.error:+7.1%} {row.allowed:8.1%} {unseen:>7}  {'inside' if row.inside else 'OUTSIDE'}"
        )
    return "\n".join(lines)


def judge(folder: Path, profile: EngineProfile | None = None) -> list[Row]:
    """All rows of a calibration folder, for `profile` or for a new fit; raises ValueError for a folder that cannot be read."""
    source = source_of(folder)
    data = read_source(folder, source)
    profile = profile or fit_profile(source, data)
    rows: list[Row] = []
    for name, run in data.runs.items():
        rows += rows_of(run, profile, source.spread)
        if name in source.metrics:
            rows += gauge_rows(run, profile, folder / source.metrics[name])
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
    print("unseen: error of a profile whose host was fitted to the other runs; allowed: 7% (p50), 10% (p90), or repeats' spread")
    return 0 if all(row.inside for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
