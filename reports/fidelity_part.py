"""Whether the traffic is what the trace said, as the report shows it: a sentence and two tables. It compares nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reports.html_tables import Table
from reports.sentences import counted, listed
from reports.trace_sentences import fidelity_verdict
from reports.trace_tables import fidelity_table

DETAIL = re.compile(r": p\d|, over the mean$")  # quantiles and Wasserstein distances: read only where they differ
CAPTION = "The traffic that was planned, beside the trace; what the trigger adds is left out."
UNEXPLAINED = "more than chance and 1% allow; no reason was found"


@dataclass(frozen=True, slots=True)
class FidelityPart:
    """`table`: what differs, then means, shares and whole distributions; `agreeing`: the details, none of which differs."""

    sentence: str
    table: Table | None = None
    agreeing: Table | None = None


def fidelity_part(found: Mapping[str, Any] | None) -> FidelityPart | None:
    """From the manifest's `fidelity` {seed, rows or skipped}; None for a run that has none."""
    if not found:
        return None
    if "skipped" in found:
        return FidelityPart(f"This was not compared: {found['skipped']}.")
    rows = [{**r, "why": r["why"] or (UNEXPLAINED if r["verdict"] == "differs" else "")} for r in found["rows"]]
    rows.sort(key=lambda r: r["verdict"] != "differs")
    telling = [r for r in rows if r["verdict"] == "differs" or not DETAIL.search(r["metric"])]
    rest = [r for r in rows if r not in telling]
    shown = replace(fidelity_table(telling), caption=CAPTION)
    agreeing = replace(fidelity_table(rest), key="fidelity-more-table") if rest else None
    return FidelityPart(_sentence(found["seed"], rows), shown, agreeing)


def _sentence(seed: int, rows: list[dict[str, Any]]) -> str:
    said = f"The plan of seed {seed} was compared with the trace: {fidelity_verdict(rows)}"
    differing = list(dict.fromkeys(r["metric"].partition(":")[0] for r in rows if r["verdict"] == "differs"))
    if not differing:
        return said
    judged = sum(r["verdict"] != "by design" for r in rows)
    quantities = counted(judged, "comparison")
    return f"{said} Not the same in every respect: {listed(differing)}. Of {quantities} one or two may differ by chance alone."
