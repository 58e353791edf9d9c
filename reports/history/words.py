"""A history in words: what changed last night, how large, since when, and what nights differ by anyway. It computes nothing."""

import json
import math
from collections.abc import Sequence

from reports.history.changes import LEARN
from reports.history.metrics import Metric
from reports.history.nights import ArmKey, dates
from reports.history.trends import History, Level, Shift, news
from reports.provenance import flat
from reports.sentences import counted, listed, number

ENOUGH = LEARN + 2
"""Nights from which on a change can be found: those that are learnt from, and two that are odd."""
SHOWN = 3
TIMES = 4.0  # from here on a change is "5 times as high" and no percentage


def arm_words(arm: ArmKey, arms: Sequence[ArmKey]) -> str:
    """The router, and of guard, client and pool what tells it from the other `arms`."""
    more = [name for i, name in enumerate(arm) if i and len({other[i] for other in arms}) > 1]
    return f"{arm[0]} ({', '.join(more)})" if more else arm[0]


def percent(size: float) -> str:
    """`8`, `0.83`, `12`: a share in hundredths, without its sign."""
    value = abs(size) * 100
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def signed(size: float) -> str:
    return f"{'−' if size < 0 else '+'}{percent(size)}"


def unit_of(metric: Metric) -> str:
    return " points" if metric.scale == "points" else "%"


def size_words(metric: Metric, size: float | None) -> str:
    """`+8%`, `−12 points`, `×5.2`, or that the new level is beyond what was answered."""
    if size is None:
        return "beyond the answered"
    if metric.scale != "points" and size + 1 >= TIMES:
        return f"×{1 + size:.3g}"
    return f"{signed(size)}{unit_of(metric)}"


def limits_words(metric: Metric, low: float | None, high: float | None) -> str:
    """`+5…+11%`; empty where there are none."""
    if low is None or high is None:
        return ""
    if metric.scale != "points" and high + 1 >= TIMES:
        return f"×{1 + low:.3g}–{1 + high:.3g}"
    return f"{signed(low)}…{signed(high)}{unit_of(metric)}"


def level_words(metric: Metric, level: Level) -> str:
    """A level in its unit, and how many of its nights are beyond all that was answered."""
    text = "–" if level.value is None else number(level.value, metric.unit)
    beyond = f"beyond the answered in {counted(level.censored, 'night')}"
    return text if not level.censored else beyond if level.value is None else f"{text}; {beyond}"


def shift_sentence(history: History, shift: Shift) -> str:
    """`TTFT p99 of round_robin on a normal day is 8% higher since 2026-11-20 (95% 5–11%)`, without a full stop."""
    metric, called = shift.metric, dates(history.nights)
    who = arm_words(shift.arm, [t.arm for t in history.trends])
    subject = f"{metric.noun} of {who} {metric.when}"
    since = f"since {called[shift.since]}"
    if shift.size is None:
        way = "beyond what was answered more often" if shift.worse else "measurable more often"
        return f"{subject} {metric.verb} {way} {since} (the percentile falls on requests that failed)"
    way = "higher" if shift.size > 0 else "lower"
    if metric.scale != "points" and shift.size + 1 >= TIMES:
        how = f"{1 + shift.size:.3g} times as high"
    else:
        how = f"{percent(shift.size)}{unit_of(metric)} {way}"
    return f"{subject} {metric.verb} {how} {since}{_interval(shift)}"


def _interval(shift: Shift) -> str:
    low, high, metric = shift.low, shift.high, shift.metric
    if low is None or high is None:
        return ""
    if math.copysign(1, low) != math.copysign(1, high) or (metric.scale != "points" and high + 1 >= TIMES):
        return f" (95% {limits_words(metric, low, high)})"
    first, last = sorted((percent(low), percent(high)), key=float)
    return f" (95% {first if first == last else f'{first}–{last}'}{unit_of(metric)})"


def verdict(history: History, since: int) -> list[str]:
    """What the last `since` judged nights changed: worse first, then better, or that nothing changed beyond noise."""
    judged = history.judged
    if not judged:
        return [f"{counted(len(history.nights), 'night')}, all void: there is nothing to judge."]
    called = dates(history.nights)
    last = called[judged[-1]]
    when = f"in the night of {last}" if since == 1 else f"in the last {since} nights (to {last})"
    if len(judged) < ENOUGH:
        return [f"{counted(len(judged), 'night')} so far, the last of {last}: a change can be told from {ENOUGH} on."]
    found = news(history, since)
    if not found:
        return [f"Nothing changed beyond noise {when}.", *standing(history, since)]
    sentences = []
    for worse in (True, False):
        these = [s for s in found if s.worse is worse]
        sentences += [f"{shift_sentence(history, shift)}; {_worth(shift, worse)}." for shift in these[:SHOWN]]
        if len(these) > SHOWN:
            sentences.append(f"{counted(len(these) - SHOWN, 'more figure')} got {'worse' if worse else 'better'} {when}.")
    return [*sentences, *standing(history, since)]


def _worth(shift: Shift, worse: bool) -> str:
    sure = "likely, and more nights will tell" if shift.settled is None else "sure among all that are watched"
    return f"{'worse' if worse else 'better'}: {sure}"


def standing(history: History, since: int) -> list[str]:
    """Regressions of earlier nights that nothing undid."""
    told = news(history, since)
    older = [s for s in history.shifts if s.worse and s.stands and s not in told]
    if not older:
        return []
    called = dates(history.nights)
    named = [f"{s.metric.noun} of {arm_words(s.arm, [t.arm for t in history.trends])} since {called[s.since]}" for s in older]
    one = len(older) == 1
    return [f"{counted(len(older), 'earlier regression')} still {'stands' if one else 'stand'}: {listed(named)}."]


def void_note(history: History) -> str:
    """Which nights are left out of judging, empty where none is."""
    void = [i for i, night in enumerate(history.nights) if night.void]
    if not void:
        return ""
    called, night = dates(history.nights), "The night" if len(void) == 1 else "The nights"
    verb = "was" if len(void) == 1 else "were"
    last = "; the last night is among them" if void[-1] == len(history.nights) - 1 and len(void) > 1 else ""
    which = listed([called[i] for i in void])
    return f"{night} of {which} {verb} void (the load was not delivered) and {verb} left out of judging{last}."


def noise_sentence(history: History) -> str:
    """What A/A nights differ by: same code, same workloads, same pool."""
    noise = history.noise
    if not noise.pairs or noise.largest is None:
        return (
            "No two nights ran the same code on the same workloads (A/A): noise is judged by what nights of one level differ by."
        )
    pairs = counted(len(noise.pairs), "pair") + " of nights"
    largest, arm, metric = noise.largest
    if largest == 0:
        return f"{pairs} ran the same code on the same workloads (A/A): all their figures are equal to the last digit."
    whose = f"{metric.words} of {arm_words(arm, [t.arm for t in history.trends])}"
    typical = sorted(d for found in noise.differences.values() for d in found)
    middle = typical[len(typical) // 2]
    shown = f"{percent(math.expm1(largest)) if metric.scale != 'points' else percent(largest)}{unit_of(metric)}"
    return (
        f"{pairs} ran the same code on the same workloads (A/A): their figures differ by {percent(math.expm1(middle))}% at the"
        f" median and by {shown} at most ({whose})."
    )


def titles(histories: Sequence[History]) -> list[str]:
    """The study of each history with its nights; those of one name with what they ask differently."""
    found = []
    kinds = [_asked(history) for history in histories]
    for history, asked in zip(histories, kinds, strict=True):
        study = history.nights[-1].study
        namesakes = [k for h, k in zip(histories, kinds, strict=True) if h.nights[-1].study == study]
        own = [line for line in asked if not all(line in other for other in namesakes)]
        more = f" ({listed(own)})" if own else ""
        found.append(f"{study or 'study without a name'}{more}, {counted(len(history.nights), 'night')}")
    return found


def _asked(history: History) -> list[str]:
    return [line.replace(": ", " ") for line in flat(json.loads(history.nights[-1].kind))]


def commit_words(commit: str | None) -> str:
    """A commit as people write it: 10 digits, and whether files differed from it."""
    if not commit:
        return "no commit"
    return commit.removesuffix("+changes")[:10] + (" + changes" if commit.endswith("+changes") else "")
