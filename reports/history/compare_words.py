"""A comparison of runs in words and Markdown. It computes nothing."""

from collections.abc import Sequence

from reports.history.differences import LEVEL, Comparison, FigureDifference, VerdictDifference
from reports.history.markdown import escaped
from reports.history.metrics import Metric
from reports.history.nights import ArmKey
from reports.history.words import arm_words, limits_words, percent, size_words, unit_of
from reports.sentences import counted, listed, number

SHOWN = 3
SETTINGS_SHOWN = 20  # in Markdown; the page has all


def arms_of(comparison: Comparison) -> list[ArmKey]:
    return list(dict.fromkeys(arm for side in (comparison.base, comparison.other) for arm, _ in side.values))


def how_paired(comparison: Comparison) -> str:
    """Whether seeds are compared one by one, and why not."""
    shared = comparison.base.workloads.keys() & comparison.other.workloads.keys()
    if len(comparison.paired) >= 2:
        rest = len(shared) - len(comparison.paired)
        more = f"; {counted(rest, 'seed')} with other workloads left out" if rest else ""
        return f"Paired over {counted(len(comparison.paired), 'seed')} whose workloads are equal{more}."
    why = "the workloads of their seeds differ" if shared else "they share no seed"
    if len(comparison.paired) == 1:
        why = "only one seed has equal workloads"
    return f"Not paired, since {why}: Welch’s t over seeds, which is less sharp."


def difference_sentence(found: FigureDifference, arms: Sequence[ArmKey]) -> str:
    """`TTFT p99 of round_robin on a normal day is 8% higher (95% +5…+11%)`, without a full stop."""
    subject = f"{found.metric.noun} of {arm_words(found.arm, arms)} {found.metric.when}"
    if found.size is None:
        before, now = found.censored
        return f"{subject} {found.metric.verb} beyond what was answered in {counted(now, 'seed')} instead of {before}"
    between = limits_words(found.metric, found.low, found.high)
    how = f"{percent(found.size)}{unit_of(found.metric)} {'higher' if found.size > 0 else 'lower'}"
    return f"{subject} {found.metric.verb} {how}{f' (95% {between})' if between else ''}"


def verdict_sentence(found: VerdictDifference, arms: Sequence[ArmKey]) -> str:
    chance = "" if found.p <= LEVEL else ": chance can do that"
    return (
        f"After the trigger, {arm_words(found.arm, arms)} came back in {found.new[0]} of {counted(found.new[1], 'run')}"
        f" instead of {found.old[0]} of {found.old[1]} (now {found.words[1]}; before {found.words[0]};"
        f" Fisher p {found.p:.2g}{chance})"
    )


def told(comparison: Comparison) -> list[str]:
    """What differs beyond chance, worse first; verdicts that changed; or that nothing does."""
    arms, name = arms_of(comparison), f"{comparison.other.name} against {comparison.base.name}"
    if all(f.size == 0 for f in comparison.figures) and not comparison.verdicts:
        count = counted(len(comparison.figures), "figure")
        return [f"{name}: all {count} are equal to the last digit. {how_paired(comparison)}"]
    found = [f for f in comparison.figures if f.grade]
    sentences = []
    for worse in (True, False):
        these = [f for f in found if f.worse is worse]
        sure = [f"{difference_sentence(f, arms)}: {'worse' if worse else 'better'}, {f.grade}." for f in these[:SHOWN]]
        sentences += sure
        if len(these) > SHOWN:
            sentences.append(f"{counted(len(these) - SHOWN, 'more figure')} {'worse' if worse else 'better'}.")
    if not sentences:
        sentences.append(f"no figure of {len(comparison.figures)} differs beyond chance and half a per cent.")
    changed = sorted(comparison.verdicts, key=lambda v: (v.p, v.arm))
    sentences += [f"{verdict_sentence(v, arms)}." for v in changed[:SHOWN]]
    if len(changed) > SHOWN:
        sentences.append(f"The verdicts of {counted(len(changed) - SHOWN, 'more arm')} changed.")
    return [f"{name}: {sentences[0]}", *sentences[1:], how_paired(comparison)]


def value_words(metric: Metric, value: float | None, censored: int) -> str:
    if value is not None:
        return number(value, metric.unit)
    return f"beyond the answered in {counted(censored, 'seed')}"


def compare_markdown(comparisons: Sequence[Comparison]) -> str:
    """The sentences, the differences beyond chance as a table, what only one side has, what differs in settings."""
    parts = []
    for c in comparisons:
        arms = arms_of(c)
        first, *more = [escaped(sentence) for sentence in told(c)]
        lines = [f"### {escaped(f'{c.other.name} against {c.base.name}')}", "", f"**{first}**", ""]
        lines += [line for sentence in more for line in (sentence, "")]
        rows = [f for f in c.figures if f.grade]
        if rows:
            lines += ["| Router | Metric | Change | 95% | Before | Now | Sure |", "|---|---|--:|--:|--:|--:|---|"]
        for f in rows:
            cells = (
                arm_words(f.arm, arms),
                f.metric.words,
                size_words(f.metric, f.size),
                limits_words(f.metric, f.low, f.high) or "–",
                value_words(f.metric, f.old, f.censored[0]),
                value_words(f.metric, f.new, f.censored[1]),
                f"{'worse' if f.worse else 'better'}, {f.grade}",
            )
            lines.append("| " + " | ".join(map(escaped, cells)) + " |")
        lines += [""] if rows else []
        lines += [f"- {escaped(text)}" for text in c.missing]
        settings = [f"{key}: {old or '–'} → {new or '–'}" for key, old, new in c.settings]
        lines += [f"- {escaped(text)}" for text in settings[:SETTINGS_SHOWN]]
        if len(settings) > SETTINGS_SHOWN:
            lines.append(f"- {counted(len(settings) - SETTINGS_SHOWN, 'more setting')}: see the page")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def settings_sentence(comparison: Comparison) -> str:
    """What differs between the two runs' settings, in a line."""
    if not comparison.settings:
        return "Study, versions, profile, commit and host are the same."
    groups = dict.fromkeys(key.split(".")[0].split("[")[0] for key, _, _ in comparison.settings)
    differ = "differs" if len(comparison.settings) == 1 else "differ"
    return f"{counted(len(comparison.settings), 'setting')} {differ}: {listed(list(groups), 6)}."
