"""The verdict in words, as a manager reads it: two sentences. It reads rows, never files, and computes nothing."""

from collections.abc import Sequence
from math import inf

from reports.leaderboard import NOT_JUDGED, Interval, NormalDay, Stampede
from reports.protocol import TARGET_SUCCESS
from reports.scene import Scene

RANGES = {"share": (0.0, 1.0), "ratio": (1.0, inf), "count": (-inf, inf)}  # least and most by unit; others start at 0


def seconds(value: float | None, censored_at: float | None = None) -> str:
    """A duration in words: `850 ms`, `1.24 s`, `150 s`, from ten minutes on `13 min 20 s`; None is `> limit` or `no answer`."""
    if value is None:
        return f"> {seconds(censored_at)}" if censored_at is not None else "no answer"
    if value < 0.0005:
        return f"{value * 1e3:.2g} ms" if value > 0 else "0 s"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms"
    if value < 599.5:
        return f"{value:.3g} s"
    minutes, rest = divmod(int(value + 0.5), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def counted(n: int, noun: str) -> str:
    """`1 run`, `5 runs`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def number(value: float, unit: str = "") -> str:
    """A number in words: `unit` time (seconds in), share (of 1), count (whole), ratio, plain, or none (3 digits)."""
    if unit == "time":
        return seconds(value)
    if unit == "share":
        return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
    if unit == "count" or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def between(got: Interval, unit: str = "time") -> str:
    """`380–430 ms`: the text of an interval within the unit's `RANGES`, empty where there is none (one seed)."""
    if got.low is None or got.high is None:
        return ""
    least, most = RANGES.get(unit, (0.0, inf))
    low, high = max(got.low, least), min(got.high, most)
    first, last = number(low, unit) if low else "0", number(high, unit)
    if unit == "share":
        return f"{first.removesuffix('%')}–{last}"
    same_unit = first.rpartition(" ")[2] == last.rpartition(" ")[2] and first.count(" ") == last.count(" ") == 1
    return f"{first.partition(' ')[0] if same_unit else first}–{last}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """`a`, `a and b`, `a, b and c`; beyond `most` names, `a, b, c and 3 more`."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def runs_told(scene: Scene) -> str:
    """`5 runs`, or with repeats `6 runs (3 seeds, 2 times each)`."""
    runs = counted(len(scene.seeds) * scene.repeats, "run")
    return runs if scene.repeats == 1 else f"{runs} ({counted(len(scene.seeds), 'seed')}, {scene.repeats} times each)"


def _drawn(scene: Scene, n: int) -> str:
    """What an interval is over: runs, or seeds where each was run several times."""
    return counted(n, "run" if scene.repeats == 1 else "seed")


def verdict(scene: Scene, normal: Sequence[NormalDay], stampede: Sequence[Stampede]) -> list[str]:
    """Two sentences: the normal day, and what the trigger does; one where only the reference ran."""
    if not scene.ranked:
        return ["Only the oracle was run, which is a reference and no choice: there is nothing to rank."]
    return [normal_sentence(scene, normal), stampede_sentence(scene, stampede)]


def normal_sentence(scene: Scene, rows: Sequence[NormalDay]) -> str:
    """Who answers fastest before the trigger, under the study's first condition, and who cannot be told from it."""
    ranked = {r.key for r in scene.ranked}
    first = scene.conditions[0]
    rows = sorted(
        (r for r in rows if r.condition == first.key and r.router in ranked), key=lambda r: (r.rank or 99, r.ttft_p90.order)
    )
    void, rows = [r for r in rows if r.void], [r for r in rows if not r.void]
    day = f"On a normal day at {first.load_rps:.3g} req/s"
    if not rows:
        return f"{day} nothing was measured{': every run is void' if void else ''}."
    name = {r.key: r.label for r in scene.routers}
    holding = [r for r in rows if r.rank is not None]
    failing = [name[r.router] for r in rows if r.rank is None]
    if not holding:
        why = "this load is above what the pool can serve"
        if scene.before_trigger:
            why = "either this load is above what the pool can serve, or what happens to the pool before the trigger is too much"
        return f"{day} no router holds the SLO for {TARGET_SUCCESS:.0%} of the requests: {why}."
    best = holding[0]
    unable = f"; {listed(failing)} {'does' if len(failing) == 1 else 'do'} not hold the SLO" if failing else ""
    unable += f"; of {listed([name[r.router] for r in void])} every run is void" if void else ""
    if len(holding) > 1 and all(r.rank == 1 for r in holding):
        who = f"{len(holding)} of {len(rows)} routers" if failing else _all(len(rows))
        told = f"answer equally fast as far as {_drawn(scene, best.ttft_p90.n)} can tell"
        return f"{day}, {who} {told} ({name[best.router]}: {_ttft(scene, best)}){unable}."
    if len(rows) == 1:
        return f"{day}, {name[best.router]} holds the SLO ({_ttft(scene, best)}){unable}."
    head = f"{day}, {name[best.router]} answers fastest ({_ttft(scene, best)}"
    ties = [name[r.router] for r in holding[1:] if r.rank == best.rank]
    slower = [r for r in holding if r.rank != best.rank]
    tail = f"; {listed(ties)} cannot be told from it)" if ties else ")"
    if slower:
        worst = max(slower, key=lambda r: r.ttft_p90.order)
        slowest, fastest = (seconds(r.ttft_p90.mean, r.limit_s) for r in (worst, best))
        tail += f", {name[worst.router]} slowest ({slowest})" if slowest != fastest else ""
    return f"{head}{tail}{unable}."


def _ttft(scene: Scene, row: NormalDay) -> str:
    text = f"TTFT p90 {seconds(row.ttft_p90.mean, row.limit_s)}"
    span = between(row.ttft_p90)
    one = "run" if scene.repeats == 1 else "seed"
    return f"{text}, 95% CI {span} over {_drawn(scene, row.ttft_p90.n)}" if span else f"{text}, one {one} only"


def stampede_sentence(scene: Scene, rows: Sequence[Stampede]) -> str:
    """What the trigger does under the harshest condition, and under the condition that cures it best."""
    ranked = {r.key for r in scene.ranked}
    rows = [r for r in rows if r.router in ranked]
    judged = [r for r in rows if r.judged]
    if scene.trigger.placebo:
        return _placebo(scene, judged)
    after = after_trigger(scene)
    if not judged:
        return f"{after} nothing can be judged{_why_not(rows)}."
    by = {c.key: [r for r in judged if r.condition == c.key] for c in scene.conditions}
    by = {key: group for key, group in by.items() if group}
    harsh = min(by, key=lambda key: _share(by[key]))
    rest = _rest(scene, rows)
    if _share(by[harsh]) == 1:
        who = "every router that could be judged" if rest else "every router"
        return f"{after} {who} comes back in every run{_under(by, scene)}, {_time(scene, judged)}{rest}."
    down = [r for r in by[harsh] if r.back < r.judged]
    cures = {k: [r for r in g if r.router in {d.router for d in down}] for k, g in by.items() if k != harsh}
    cures = {k: g for k, g in cures.items() if g}
    cured = max(cures, key=lambda key: _share(cures[key])) if cures else None
    noun = "routers" if len(by[harsh]) == sum(r.condition == harsh for r in rows) else "judged routers"
    setting, cure = _with(scene, harsh), _cure(scene, down, cured, cures)
    return f"{after.removesuffix(',')}{setting} {_stay_down(scene, down, by[harsh], noun)}{cure}{rest}."


def after_trigger(scene: Scene) -> str:
    """`After a 3× burst of 20 s`: the trigger as the beginning of a sentence, closed by a comma where it is long."""
    trigger = scene.trigger
    return f"After {trigger.words}{',' if ',' in trigger.words or not trigger.adds_load else ''}"


def _rest(scene: Scene, rows: Sequence[Stampede]) -> str:
    """`; beta could not be judged (every run is unstable)`: the routers, or router and condition, without any judged run."""
    unjudged = [r for r in rows if not r.judged]
    if not unjudged:
        return ""
    judged = {r.router for r in rows if r.judged}
    name = {r.key: r.label for r in scene.routers}
    names = [f"{name[r.router]} with “{scene.condition(r.condition).label}”" if r.router in judged else name[r.router]
             for r in unjudged]  # fmt: skip
    return f"; {listed(list(dict.fromkeys(names)))} could not be judged (every run is {_unjudged(unjudged)})"


def _share(rows: Sequence[Stampede]) -> float:
    return sum(r.back for r in rows) / sum(r.judged for r in rows)


def _with(scene: Scene, key: str) -> str:
    return f", with “{scene.condition(key).label}”," if len(scene.conditions) > 1 else ","


def _under(by: dict[str, list[Stampede]], scene: Scene) -> str:
    if len(by) == len(scene.conditions):
        return " under every client and guard" if len(by) > 1 else ""
    return f" under {listed([f'“{scene.condition(key).label}”' for key in by])}"


def _stay_down(scene: Scene, down: Sequence[Stampede], group: Sequence[Stampede], noun: str) -> str:
    """`6 of 7 routers stay down in 25 of their 30 runs (a 5/5, b 4/5 …)`, worst first; with slow ones among them, `not back`."""
    name = {r.key: r.label for r in scene.routers}
    runs, lost = sum(r.judged for r in down), sum(r.judged - r.back for r in down)
    stuck = sum(r.down for r in down)
    slow = stuck < lost
    one, many = ("is not back", "are not back") if slow else ("stays down", "stay down")
    end = " when the observation ends" if slow else ""
    of_these = f", {stuck} of these {lost} metastable" if slow and stuck else ""
    if len(group) == 1:
        return f"{name[down[0].router]} {one}{end} in {'every run' if lost == runs else f'{lost} of {runs} runs'}{of_these}"
    every = lost == runs
    if every and slow and len(down) == len(group):
        nobody = f"neither {noun[:-1]}" if len(group) == 2 else f"none of {len(group)} {noun}"
        return f"{nobody} is back in any run{end}{of_these}"
    who = f"{len(down)} of {len(group)} {noun} {one if len(down) == 1 else many}{end}"
    who = f"{_all(len(group), noun)} {many}{end}" if len(down) == len(group) else who
    each = "" if every and len(down) == len(group) else f" ({listed([_tally(name, r, every) for r in _worst(down)])})"
    when = "every run" if every else f"{lost} of their {counted(runs, 'run')}"
    return f"{who} in {when}{of_these}{each}"


def _all(n: int, noun: str = "routers") -> str:
    return f"both {noun}" if n == 2 else f"all {n} {noun}"


def _tally(name: dict[str, str], row: Stampede, every: bool) -> str:
    return name[row.router] if every else f"{name[row.router]} {row.judged - row.back}/{row.judged}"


def _worst(rows: Sequence[Stampede]) -> list[Stampede]:
    return sorted(rows, key=lambda r: r.back / r.judged)


def _cure(scene: Scene, down: Sequence[Stampede], key: str | None, cures: dict[str, list[Stampede]]) -> str:
    if key is None:
        return "" if len(scene.conditions) == 1 else "; no other setting was judged for them"
    share, same = _share(cures[key]), "the same router" if len(down) == 1 else "the same routers"
    comes = "comes" if len(down) == 1 else "come"
    if share == 1:
        return f"; with “{scene.condition(key).label}” {same} {comes} back in every run, {_time(scene, cures[key])}"
    before = sum(r.back for r in down) / sum(r.judged for r in down)
    if share > before:
        back, runs = sum(r.back for r in cures[key]), sum(r.judged for r in cures[key])
        return f"; with “{scene.condition(key).label}” {same} {comes} back in {back} of {runs} runs"
    return "; no other client or guard tried here helps"


def _time(scene: Scene, rows: Sequence[Stampede]) -> str:
    """The slowest arm's median recovery time, in words. Its clock starts after the trigger: what a dead replica lost is lost."""
    known = [r.recovery_s for r in rows if r.recovery_s is not None]
    if not known:
        return "after a time that was not measured"
    slowest = max(known)
    if slowest < 1:
        soon = f"before its {scene.trigger.d_s:g} s are over" if scene.trigger.at_once else "as soon as it is over"
        return "without a noticeable interruption" if scene.trigger.adds_load else soon
    of = "the slowest router’s median" if len(known) > 1 else "median"
    return f"within {seconds(slowest)} ({of})" if scene.trigger.adds_load else f"within {seconds(slowest)} of its end ({of})"


def _placebo(scene: Scene, judged: Sequence[Stampede]) -> str:
    runs, false = sum(r.judged for r in judged), sum(r.judged - r.back for r in judged)
    if scene.events:
        happened = f"No burst was sent (placebo), but {counted(len(scene.events), 'event')} happened to the pool"
        back = f"{false} of {runs} runs do not come back" if false else "every run that could be judged comes back"
        return f"{happened}: {back if runs else 'no run could be judged'}."
    if not runs:
        return "Nothing was done to load or pool (placebo), and no run could be judged."
    alarms = f"{false} of {runs} runs are judged disturbed all the same"
    return f"No burst was sent (placebo): {alarms}, which is the detector’s false-alarm rate."


def _why_not(rows: Sequence[Stampede]) -> str:
    if {v for r in rows for v in r.verdicts} <= {NOT_JUDGED}:
        return ": too little of it was observed, or the base load changes over the run"
    return f": every run is {_unjudged(rows)}"


def _unjudged(rows: Sequence[Stampede]) -> str:
    kinds = sorted({v for r in rows for v in r.verdicts})
    kinds = ["unjudged" if kind == NOT_JUDGED else kind for kind in kinds]
    return " or ".join(kinds) if kinds else "unjudged (the base load changes over the run, or too little of it was observed)"
