"""What a reader must know of measured runs: was the sender tried, were caches emptied, was all seen. It computes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.scene import Scene
from reports.sentences import counted, listed, seconds

_LIMITS = {
    "send_p50_s": "send error p50",
    "send_p99_s": "send error p99",
    "ttft_p50_s": "TTFT error p50",
    "ttft_p99_s": "TTFT error p99",
    "drift_s": "drift",
}


def pool_notes(scene: Scene, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warnings of a measured pool: runs whose caches were not proved empty, and looks at the replicas that failed."""
    if not scene.pool.live or not runs:
        return []
    notes = []
    unproved = sum((r["resets_verified"] or 0) < r["replicas"] for r in runs)
    if unproved:
        notes.append(
            f"In {unproved} of {counted(len(runs), 'measured run')} it was not proved of every replica that its prefix cache "
            "was empty at the start: earlier runs may have warmed it."
        )
    if len(scene.seeds) * scene.repeats == 1:
        notes.append("Every router ran once on this pool: how much two runs of one router differ is not known.")
    untold = sum(r["read_lag_p99_s"] is None for r in runs)
    if untold:
        notes.append(f"In {untold} of {counted(len(runs), 'measured run')} the sender does not say how late it read answers.")
    return notes


def looked_at(runs: Sequence[Mapping[str, Any]]) -> str:
    """Of measured runs: resets and scrapes, in a sentence each; empty where none was measured."""
    if not runs:
        return ""
    proved = sum((r["resets_verified"] or 0) >= r["replicas"] for r in runs)
    told = [r for r in runs if r["scrapes_missed"] is not None]
    missed = sum(r["scrapes_missed"] for r in told)
    lags = [r["read_lag_p99_s"] for r in runs if r["read_lag_p99_s"] is not None]
    read = f" The slowest sender’s p99 read lag is {seconds(max(lags))}." if lags else ""
    looks = (
        f"{counted(missed, 'look')} at the replicas’ metrics brought nothing."
        if missed
        else "Each look at their metrics succeeded."
    )
    scrapes = f" {looks}" if told else ""
    every = "Before every measured run" if proved == len(runs) else f"Before {proved} of {counted(len(runs), 'measured run')}"
    return f"{every} each replica’s prefix cache was emptied and proved empty by the engine’s own counters.{scrapes}{read}"


def self_test_sentence(found: Mapping[str, Any] | None) -> str | None:
    """How the sender did on a stub whose timing is known; None where the manifest has no such test."""
    if not found:
        return None
    if "send_error_p50_s" not in found:
        return f"The sender’s self-test gave no result: {found.get('error') or found.get('skipped') or 'no reason was noted'}."
    figures = ", ".join(
        f"{words} {seconds(abs(found[f'{key}_p50_s']))} (p50) and {seconds(abs(found[f'{key}_p99_s']))} (p99)"
        for key, words in (("send_error", "send error"), ("ttft_error", "error of its TTFT"))
    )
    misses = [f"{_LIMITS.get(name, name)} above {seconds(found['limits'][name])}" for name in found.get("misses", [])]
    if found.get("passed"):
        end = "it kept all its limits"
    else:
        end = f"it missed its limits ({listed(misses, most=5)})" if misses else "not every answer was well"
    return (
        f"Before the first measured run the sender was tried on a stub whose timing is known, at {found['rps']:.3g} requests "
        f"a second: {figures}, {seconds(found['cpu_s_per_request'])} of processor time a request; {end}."
    )


def self_test_warning(found: Mapping[str, Any] | None) -> str | None:
    """A line at the top where the sender failed its test."""
    if not found or found.get("passed"):
        return None
    missed = listed([_LIMITS.get(name, name) for name in found.get("misses", [])] or ["not every answer was well"], most=5)
    return (
        f"The sender failed its self-test ({missed}): times of a few milliseconds may be its own. Details under “load delivered”."
    )
