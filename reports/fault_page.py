"""Writes the page of a run of gateways' faults from its rows: one file, offline, no script. It arranges and judges nothing."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from reports.page_frame import rendered, write_page

Row = Mapping[str, Any]
NOT_RUN = "–"
METHOD = (
    "Each row starts the real program in front of stub replicas, which answer as the row says and keep every request they get; "
    "no engine is involved, so what is seen is the gateway's own doing. Then the program is ended. Nothing else runs meanwhile.",
    "“As it comes” is the program's default configuration with only the addresses, the rule and what the row names set. “Breaker "
    "and retries off” starts it with its circuit breaker and its retries disabled.",
    "“Reproduced”: all that the study expects of the default arm was seen. “Cured”: the same was not seen in the other arm. A "
    "control is the same measurement where nothing should be wrong.",
    "Times are this machine's, on its loopback; a median of added TTFT is that of the streams through the gateway less that of "
    "the same streams sent straight to the replica.",
)


def build_fault_page(run: Mapping[str, Any], out: Path) -> Path:
    """Writes `out` aside, renames it when whole, and returns it. `run`: title, manifest, rows, as plain data."""
    text = rendered("faults.html.jinja", _content(run["title"], run["manifest"], run["rows"]), "")
    return write_page(text, out)


def _content(title: str, manifest: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything the template shows."""
    versions = _versions(rows)
    names = list(dict.fromkeys(row["gateway"] for row in rows if not row["skipped"]))
    host = manifest["host"]
    return {
        "title": title,
        "verdict": _verdict(rows, versions),
        "notes": _notes(rows),
        "facts": f"{', '.join(versions.values()) or 'no gateway was found'} · {host['cores']} cores, {host['system']}",
        "gateways": [versions[name] for name in names],
        "overview": [_overview(number, of, names) for number, of in _by_number(rows)],
        "sections": [_section(number, of) for number, of in _by_number(rows)],
        "method": METHOD,
        "made": f"stampede {manifest['versions'].get('stampede', '')}, {manifest['started_utc']} to {manifest['ended_utc']}, "
        f"study {manifest['study']} ({manifest['study_hash']})",
    }


def _by_number(rows: Sequence[Row]) -> list[tuple[int, list[Row]]]:
    ordered = sorted(rows, key=lambda row: row["number"])
    return [(number, list(of)) for number, of in groupby(ordered, key=lambda row: row["number"])]


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    return {row["gateway"]: row["version"] for row in rows if row["version"]}


def _faults(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "fault" and not row["skipped"]]


def _verdict(rows: Sequence[Row], versions: Mapping[str, str]) -> list[str]:
    """The headline in sentences."""
    numbers = {row["number"] for row in _faults(rows)}
    there = {n for n in numbers if all(row["reproduced"] for row in _faults(rows) if row["number"] == n)}
    if not numbers:
        return ["No fault was tried: no gateway's program was found."]
    who = _listed(dict.fromkeys(versions[row["gateway"]] for row in _faults(rows) if row["version"]))
    said = f"{len(there)} of {len(numbers)} known faults were reproduced in {who}."
    cured = sorted(n for n in there if any(r["in_bare"] is False for r in _faults(rows) if r["number"] == n))
    stay = sorted(n for n in there if n not in cured and any(r["in_bare"] for r in _faults(rows) if r["number"] == n))
    cure = [f"with breaker and retries off {_numbers(cured)} {'is' if len(cured) == 1 else 'are'} gone" if cured else ""]
    cure.append(f"{_numbers(stay)} {'stays' if len(stay) == 1 else 'stay'}" if stay else "")
    return [said, _sentence(", ".join(filter(None, cure)))] if any(cure) else [said]


def _notes(rows: Sequence[Row]) -> list[str]:
    skipped = {row["gateway"]: row["skipped"] for row in rows if row["skipped"]}
    notes = [f"{name} was not tried: {why}." for name, why in skipped.items()]
    ran = [row for row in rows if not row["skipped"] and not row["as_expected"]]
    notes += [
        f"Seen otherwise than the study expects: {row['number']}, {row['gateway']} with {row['policy']}"
        f"{': ' + row['failed'] if row['failed'] else ''}."
        for row in ran
    ]
    return notes


def _overview(number: int, rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    return {
        "number": number,
        "title": rows[0]["title"],
        "marks": [_summed([r for r in rows if r["gateway"] == n]) for n in names],
    }


def _summed(rows: Sequence[Row]) -> dict[str, str] | None:
    """One mark for all rows of a gateway under one number; its faults come before its controls."""
    if not rows:
        return None
    faults = [row for row in rows if row["kind"] == "fault"]
    marks = {mark["text"]: mark for row in faults or rows for mark in _marks(row)}
    css = {mark["css"] for mark in marks.values()}
    return {"text": "; ".join(marks), "css": "warn" if "warn" in css else "bad" if "bad" in css else css.pop() if css else ""}


def _marks(row: Row) -> list[dict[str, str]]:
    """What a row comes to, in a few words."""
    if row["skipped"]:
        return [{"text": "not tried", "css": ""}]
    if row["kind"] == "control":
        return [{"text": "as it should be", "css": "good"} if row["as_expected"] else {"text": "not as expected", "css": "warn"}]
    if not row["reproduced"]:
        return [{"text": "could not be tried" if row["failed"] else "not reproduced", "css": "warn"}]
    bare = {None: [], True: [{"text": "the same when bare", "css": "bad"}], False: [{"text": "cured when bare", "css": "good"}]}
    odd = [] if row["as_expected"] else [{"text": "bare not as expected", "css": "warn"}]
    return [{"text": "reproduced", "css": "bad"}, *bare[row["in_bare"]], *odd]


def _section(number: int, rows: Sequence[Row]) -> dict[str, Any]:
    """All of one number: its parts are the entries of the study, by title."""
    titles = list(dict.fromkeys((row["title"], tuple(row["done"])) for row in rows))
    parts = []
    for title, done in titles:
        of = [row for row in rows if row["title"] == title and tuple(row["done"]) == done]
        expects = "Expected, where nothing is wrong" if of[0]["kind"] == "control" else "The fault"
        parts.append({"title": title, "done": done, "expects": expects, "blocks": [_block(row) for row in of]})
    return {"number": number, "title": rows[0]["title"], "parts": _merged(parts)}


def _merged(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries that say the same of different gateways stand in one table."""
    made: list[dict[str, Any]] = []
    for part in parts:
        same = next(
            (p for p in made if (p["title"], p["done"], p["expects"]) == (part["title"], part["done"], part["expects"])), None
        )
        if same:
            same["blocks"] += part["blocks"]
        else:
            made.append(part)
    return made


def _block(row: Row) -> dict[str, Any]:
    rule = row.get("policy_at_work", row["policy"])
    who = f"{row['version'] or row['gateway']}, {row['policy']}" + (f" (at work: {rule})" if rule != row["policy"] else "")
    default, bare = row["arms"].get("default"), row["arms"].get("bare")
    if default is None:
        return {"who": who, "lines": [_line(row["failed"] or row["skipped"])], "marks": _marks(row)}
    names = [(e["step"], e["quantity"]) for e in default["expected"]]
    lines = [_line(f"{e['step']}: {e['meaning']}", _shown(e), _limits(e), _other(bare, e)) for e in default["expected"]]
    more = [e for e in (bare["expected"] if bare else []) if (e["step"], e["quantity"]) not in names]
    lines += [_line(f"{e['step']}: {e['meaning']}", _other(default, e), "", _shown(e)) for e in more]
    return {"who": who, "lines": lines, "marks": _marks(row)}


def _line(what: str, default: str = NOT_RUN, expected: str = "", bare: str = NOT_RUN) -> dict[str, str]:
    return {"what": what, "default": default, "expected": expected, "bare": bare}


def _other(arm: Row | None, expected: Row) -> str:
    """The same quantity in another arm."""
    if arm is None:
        return NOT_RUN
    numbers, quantity = arm["steps"][expected["step"]], expected["quantity"]
    counted = quantity.startswith(("status_", "replica_")) and quantity != "replicas_tried"
    return _number(numbers.get(quantity, 0 if counted else None), expected["seconds"])


def _shown(expected: Row) -> str:
    return _number(expected["value"], expected["seconds"])


def _number(value: float | None, is_time: bool) -> str:
    if value is None:
        return "never"
    if not is_time:
        return f"{value:g}"
    return f"{value * 1000:.1f} ms" if abs(value) < 1 else f"{value:.2f} s"


def _limits(expected: Row) -> str:
    least, most, is_time = expected["least"], expected["most"], expected["seconds"]
    if least == most:
        return _number(least, is_time)
    if most is None:
        return f"{_number(least, is_time)} or more"
    return f"{_number(most, is_time)} or less" if not least else f"{_number(least, is_time)} to {_number(most, is_time)}"


def _numbers(numbers: Sequence[int]) -> str:
    return ("fault " if len(numbers) == 1 else "faults ") + _listed(map(str, numbers))


def _listed(words: Any) -> str:
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
