"""A history in Markdown, for a pull request or a chat. It computes nothing."""

from collections.abc import Sequence

from reports.history.nights import Skipped, dates
from reports.history.trends import History
from reports.history.words import (
    arm_words,
    commit_words,
    limits_words,
    noise_sentence,
    size_words,
    titles,
    verdict,
    void_note,
)

_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#~"} | {"\n": " ", "\r": " ", "\x00": ""})


def escaped(text: str) -> str:
    """Text that no Markdown reader takes for markup or HTML."""
    return text.replace("&", "&amp;").translate(_ESCAPED)


def markdown(histories: Sequence[History], skipped: Sequence[Skipped], since: int) -> str:
    """What changed, the standing regressions as a table, what was left out."""
    parts = []
    for history, title in zip(histories, titles(histories), strict=True):
        lines = [f"### {escaped(title)} to {dates(history.nights)[-1]}", ""]
        first, *more = [escaped(sentence) for sentence in verdict(history, since)]
        lines += [f"**{first}**\n", *(f"{sentence}\n" for sentence in more)]
        if note := void_note(history):
            lines.append(f"{escaped(note)}\n")
        lines += _table(history)
        lines.append(f"{escaped(noise_sentence(history))}\n")
        parts.append("\n".join(lines))
    if skipped:
        parts.append("Left out:\n\n" + "\n".join(f"- {escaped(s.run.name)}: {escaped(s.why)}" for s in skipped) + "\n")
    return "\n".join(parts)


def _table(history: History) -> list[str]:
    worse = [s for s in history.shifts if s.worse and s.stands]
    if not worse:
        return []
    called, arms = dates(history.nights), [t.arm for t in history.trends]
    lines = ["| Router | Metric | Change | 95% | Since | Sure | First new commit (last old) |", "|---|---|--:|--:|---|---|---|"]
    for s in worse:
        old, new = history.nights[s.before], history.nights[s.since]
        cells = (
            arm_words(s.arm, arms),
            s.metric.words,
            size_words(s.metric, s.size),
            limits_words(s.metric, s.low, s.high) or "–",
            called[s.since],
            "likely" if s.settled is None else "sure",
            f"{commit_words(new.commit)} ({commit_words(old.commit)})",
        )
        lines.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    return [*lines, ""]
