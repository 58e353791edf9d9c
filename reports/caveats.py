"""What a reader must know before believing the numbers, in words. It reads rows, never files, and computes nothing."""

from collections.abc import Mapping, Sequence

from reports.event_words import long_words
from reports.leaderboard import Stampede
from reports.scene import PoolEvent, Scene
from reports.sentences import counted, listed, number, seconds

CLEARLY_SERVED = 0.99
"""Success on a nearly idle pool below which the SLO, not the load, decides what the capacity is."""


def event_notes(scene: Scene) -> list[str]:
    """Warnings where further events disturb the normal day, or the time in which recovery is judged."""
    notes = []
    if scene.before_trigger:
        what = _told(scene.before_trigger)
        notes.append(f"The normal day is not undisturbed: {what}. Its numbers, and what verdicts take for calm, include that.")
    if scene.after_trigger:
        what = _told(scene.after_trigger)
        notes.append(f"Recovery is judged while more happens to the pool: {what}. A run may be down because of that.")
    return notes


def _told(events: Sequence[PoolEvent]) -> str:
    return listed([f"at {e.t_s:g} s {long_words(e)}" for e in events])


def warnings(scene: Scene, stampede: Sequence[Stampede], void: int, unconserved: int, runs: int) -> list[str]:
    """What the reader must know before believing the numbers: void runs, unstable arms, one seed, latent damage."""
    name = {r.key: r.label for r in scene.routers}
    notes = []
    if void:
        notes.append(
            f"{void} of {runs} runs are void (their load was not delivered as planned, or their rows do not add up): not judged."
        )
    if unconserved:
        notes.append(
            f"{unconserved} of {runs} runs break conservation: requests were lost or counted twice. Do not use their numbers."
        )
    unstable = [r for r in stampede if r.verdicts.get("unstable")]
    if unstable:
        arms = listed(sorted({name[r.router] for r in unstable}))
        or_events = ", or what happens to the pool is too much" if scene.before_trigger else ""
        notes.append(
            f"{arms}: in some runs the SLO is missed before the trigger already, beyond chance (unstable): "
            f"the load is above that arm’s own capacity{or_events}."
        )
    latent = sorted({name[r.router] for r in stampede if r.verdicts.get("latent")})
    if latent:
        notes.append(
            f"{listed(latent)}: answers come back in time, yet the cache or the wasted work does not return to normal (latent)."
        )
    if len(scene.seeds) < 2:
        notes.append("One seed only: differences and shares have no interval and may be chance.")
    return notes


def incomplete(scenes: Sequence[Scene], asked: Sequence[str], total: int | None, runs: int) -> str | None:
    """Says so where fewer than the `total` runs of the study are there, and which of the routers `asked` for have none."""
    if total is None or runs >= total:
        return None
    have = {r.label for scene in scenes for r in scene.routers}
    absent = [label for label in asked if label not in have]
    without = f" Nothing at all was run of {listed(absent, most=12)}." if absent else ""
    return (
        f"{total - runs} of {total} cells are missing: the run was stopped before its end or is still going, "
        f"and this page shows only what was finished.{without} “stampede run --resume” with the run’s folder finishes it."
    )


def slo_bound(capacity: Mapping[str, float] | None, slo: Mapping[str, float | None]) -> str | None:
    """Says so where even a nearly idle pool misses the SLO often, so that C_ref tells of the SLO rather than of load."""
    idle = (capacity or {}).get("idle_success")
    if capacity is None or idle is None or idle >= CLEARLY_SERVED:
        return None
    limit = next((f" (e.g. slo.{name})" for name, value in slo.items() if value is not None), "")
    return (
        f"Even a nearly idle pool meets the SLO for only {number(idle, 'share')} of requests, so the reference capacity "
        f"C_ref = {capacity['c_ref_rps']:.3g} req/s is set by the SLO, not by load: loosen slo{limit} for prompts this long."
    )


def delivered(void: int, lost: int, runs: Sequence[dict[str, object]]) -> str:
    """The certificates in one sentence or two."""
    lags = [float(str(r["send_lag_p99_s"])) for r in runs if r["send_lag_p99_s"] is not None]
    lag = f" The slowest run’s p99 send lag is {seconds(max(lags))}." if lags else ""
    good = len(runs) - void
    added = (
        "every request of every run is accounted for exactly once"
        if not lost
        else f"{counted(lost, 'run')} did not account for every request"
    )
    return f"{good} of {len(runs)} runs sent every request when it came due, and {added}.{lag}"
