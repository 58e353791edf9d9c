"""`stampede history`: a folder of runs judged night by night, its page, its summary and the gate's exit code. No arithmetic."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from flows.failure import say
from reports.history.changes import FLOOR
from reports.history.trends import History, news

DONE, REGRESSION = 0, 1
CURRENT = timedelta(days=2)
"""A history whose last night is older than this, seen from the folder's newest run, has no last night to gate."""


def write_history(
    folder: str,
    *,
    out: str | None,
    gate: str,
    nights: int | None,
    floor: float | None,
    since: int,
    summary: str | None,
    markdown: bool,
) -> int:
    """Write the page and return the gate's exit code; the page's path is the last line on stdout.

    ValueError for a folder without any readable run, or a target that cannot be written.
    """
    from reports.history.markdown import markdown as as_markdown
    from reports.history.nights import by_kind, read_nights
    from reports.history.page import build_history_page
    from reports.history.trends import history_of

    root = Path(folder)
    found, skipped = read_nights(root)
    kinds = [group if nights is None else group[-nights:] for group in by_kind(found).values()]
    histories = [history_of(group, FLOOR if floor is None else floor) for group in kinds]
    for run in skipped:
        say(f"left out: {run.run.name}: {run.why}")
    target = Path(out) if out else root / "history.html"
    text = as_markdown(histories, skipped, since)
    write_to(summary, text)
    try:
        page = build_history_page(histories, skipped, target, title=f"History of {root.absolute().name}", since=since)
    except OSError as error:
        raise ValueError(f"--out {str(target)!r}: cannot be written: {error.strerror or error}") from None
    if markdown:
        print(text)
    print(page, flush=True)
    return gate_code(histories, gate, since)


def write_to(file: str | None, text: str) -> None:
    """Writes `text` where `file` is given; ValueError naming it where that cannot be done."""
    if file is None:
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--summary {file!r}: cannot be written: {error.strerror or error}") from None


def gate_code(histories: Sequence[History], gate: str, since: int) -> int:
    """1 where the last `since` nights of a current history found a change for the worse: `sure` ones, or `likely` ones too."""
    if gate == "none":
        return DONE
    newest = max(_last(history) for history in histories)
    for history in histories:
        if newest - _last(history) > CURRENT:
            continue
        for shift in news(history, since):
            if shift.worse and (gate == "likely" or (shift.settled is not None and shift.settled >= history.recent(since))):
                return REGRESSION
    return DONE


def _last(history: History) -> datetime:
    return datetime.fromisoformat(history.nights[-1].started_utc)
