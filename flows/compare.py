"""`stampede compare`: runs side by side, the page, the summary and the gate's exit code. No arithmetic."""

from collections.abc import Sequence
from pathlib import Path

from flows.history import DONE, REGRESSION, write_to
from reports.history.changes import FLOOR
from reports.history.differences import Comparison, FigureDifference, VerdictDifference, compare


def write_comparison(
    runs: Sequence[str], *, out: str | None, gate: str, floor: float | None, summary: str | None, markdown: bool
) -> int:
    """Compare every run with the first and return the gate's exit code; the page's path is the last line on stdout.

    ValueError for fewer than two runs, one that cannot be read, runs without an arm in common, a target that cannot be written.
    """
    from reports.history.compare_page import build_compare_page
    from reports.history.compare_words import compare_markdown
    from reports.history.sides import read_side

    if len(runs) < 2:
        raise ValueError(f"RUN: {len(runs)} given; allowed: two or more run folders, the others are held against the first")
    paths = [Path(run) for run in runs]
    sides = [read_side(path, name) for path, name in zip(paths, names(paths), strict=True)]
    comparisons = [compare(sides[0], side, FLOOR if floor is None else floor) for side in sides[1:]]
    text = compare_markdown(comparisons)
    write_to(summary, text)
    target = Path(out) if out else paths[-1] / "compare.html"
    try:
        page = build_compare_page(comparisons, target)
    except OSError as error:
        raise ValueError(f"--out {str(target)!r}: cannot be written: {error.strerror or error}") from None
    if markdown:
        print(text)
    print(page, flush=True)
    return gate_code(comparisons, gate)


def names(paths: Sequence[Path]) -> list[str]:
    """What each run is called: its folder, with the folder above where two are called the same, else numbered."""
    own = [path.absolute().name for path in paths]
    if len(set(own)) < len(own):
        own = [f"{path.absolute().parent.name}/{path.absolute().name}" for path in paths]
    return own if len(set(own)) == len(own) else [f"{name} ({i})" for i, name in enumerate(own, start=1)]


def gate_code(comparisons: Sequence[Comparison], gate: str) -> int:
    """1 where any figure or verdict is worse: `sure` ones only, or `likely` ones too."""
    grades = {"sure": ("sure",), "likely": ("sure", "likely"), "none": ()}[gate]
    found: list[FigureDifference | VerdictDifference] = [figure for c in comparisons for figure in c.figures]
    found += [verdict for c in comparisons for verdict in c.verdicts]
    return REGRESSION if any(item.worse and item.grade in grades for item in found) else DONE
