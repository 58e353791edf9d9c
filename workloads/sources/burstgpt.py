"""BurstGPT in all its versions: one CSV row a request, later ones with sessions. It knows no texts and no shared prefixes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workloads.sources.call_sessions import UNKNOWN, Calls, Numbering, conversations
from workloads.sources.csv_columns import CsvBlock, CsvFormat, csv_blocks, csv_format
from workloads.sources.download import RemoteFile, fetch
from workloads.sources.source import ReadOptions, Source, Tally, first_text
from workloads.sources.typed_columns import bad, times_us, token_counts
from workloads.trace_table import single_turns

_NEEDED = ("Timestamp", "Model", "Request tokens", "Response tokens")
_OPTIONAL = ("Total tokens", "Log Type", "Session ID", "Elapsed time")
_COUNTS = ("Request tokens", "Response tokens", "Total tokens")
_SERVICES = ("Conversation log", "API log")
_RELEASE = "https://github.com/HPMLL/BurstGPT/releases/download/v2.0/"
_LICENCE = "CC-BY-4.0"


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read Timestamp (s), Model, Request and Response tokens and, where there, Total tokens, Log Type, Session ID, Elapsed time.

    Columns go by name. Rows without response tokens failed: dropped and counted. Without session ids every row is a
    conversation and rows stream; with them the file is held in columns (at most some 250 bytes a row) to group turns. Raises
    ValueError "FILE:LINE: …" on a malformed row.
    """

    form = csv_format(path)
    if lacking := [name for name in _NEEDED if name not in form.names]:
        raise ValueError(f"{path}:1: no column {lacking[0]!r} among {','.join(form.names)[:120]!r}")
    wanted = [name for name in (*_NEEDED, *_OPTIONAL) if name in form.names]
    tally.has_sessions = "Session ID" in wanted
    tally.notes.append("timestamps are whole seconds: requests of one second are sent together, as the source says")
    if "Log Type" in wanted:
        tally.notes.append("tenants are the source's services: 1 is the conversation log, 2 the API log")
    if not tally.has_sessions:
        for columns in _columns(path, form, wanted, tally):
            yield single_turns(columns)
        return
    tally.notes += [
        "request tokens are taken as the whole prompt: a turn's new message is what the turn before it does not account for",
        "an answer takes the source's elapsed time (whole seconds), and think time counts from its end",
        "rows without a session id are sessions of one turn",
    ]
    yield _grouped(path, form, wanted, tally)


def _columns(path: Path, form: CsvFormat, wanted: list[str], tally: Tally) -> Iterator[dict[str, Any]]:
    """Blocks of typed columns of the requests that did not fail; `model` and `session` are text."""
    import pyarrow as pa

    from workloads.sources.typed_columns import token_counts

    for block in csv_blocks(path, form, wanted, integers=[name for name in _COUNTS if name in wanted]):
        request, reply = (token_counts(block.columns[name], name, block.where) for name in _COUNTS[:2])
        made: dict[str, Any] = {"start_us": times_us(block.columns["Timestamp"], "Timestamp", block.where)}
        made |= {"user_tokens": request, "reply_tokens": reply, "model": block.columns["Model"]}
        if "Log Type" in wanted:
            made["tenant"] = _services(block)
        if "Session ID" in wanted:
            made["session"] = block.columns["Session ID"]
        if "Elapsed time" in wanted and "Session ID" in wanted:
            made["end_us"] = _ends_us(block, made["start_us"])
        _count(block, request, reply, tally)
        index = pa.array(np.flatnonzero(reply > 0))
        yield {name: _taken(values, index) for name, values in made.items()}


def _count(block: CsvBlock, request: Any, reply: Any, tally: Tally) -> None:

    tally.rows_read += len(block)
    if silent := int(((reply == 0) & (request > 0)).sum()):
        tally.dropped["failed request: no response tokens"] += silent
    if empty := int(((reply == 0) & (request == 0)).sum()):
        tally.dropped["failed request: neither request nor response tokens"] += empty
    if "Total tokens" in block.columns:
        total = token_counts(block.columns["Total tokens"], "Total tokens", block.where)
        if odd := int((total - reply.astype("int64") != request).sum()):
            tally.changed["total is not request + response tokens: total ignored"] += odd


def _services(block: CsvBlock) -> Any:
    """1 and 2 for the two services of `_SERVICES`; any other is malformed."""

    place = pc.index_in(block.columns["Log Type"], pa.array(_SERVICES))
    if place.null_count:
        row = pc.index(pc.is_null(place), True).as_py()
        raise bad(block.where(row), "Log Type", block.columns["Log Type"][row].as_py(), " or ".join(map(repr, _SERVICES)))
    return pc.add(place, 1)


def _ends_us(block: CsvBlock, start_us: Any) -> Any:
    """When each answer ended; UNKNOWN where no elapsed time is given."""

    from workloads.sources.typed_columns import bad, times_us

    column = block.columns["Elapsed time"]
    given = np.asarray(pc.not_equal(column, ""))
    elapsed_us = times_us(pc.if_else(pc.equal(column, ""), "0", column), "Elapsed time", block.where)
    if (elapsed_us < 0).any():
        row = int(np.argmax(elapsed_us < 0))
        raise bad(block.where(row), "Elapsed time", column[row].as_py(), "a number of seconds ≥ 0")
    return np.where(given, start_us + elapsed_us, UNKNOWN)


def _taken(values: Any, index: Any) -> Any:

    made = (values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values)).take(index)
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made


def _grouped(path: Path, form: CsvFormat, wanted: list[str], tally: Tally) -> Any:
    import pyarrow as pa

    from workloads.trace_table import single_turns

    sessions, models = Numbering(), Numbering()
    parts: dict[str, list[Any]] = {}
    for columns in _columns(path, form, wanted, tally):
        columns["session"] = sessions.of(columns["session"], -1)
        columns["model"] = models.of(columns["model"], -1).astype(np.int32)
        for name, values in columns.items():
            parts.setdefault(name, []).append(np.asarray(values))
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    if not whole:
        return single_turns({"user_tokens": [], "reply_tokens": []})
    said = {"model": models.decoded(whole["model"])}
    if "tenant" in whole:
        said["tenant"] = pa.array(whole["tenant"])
    calls = Calls(
        session=whole["session"],
        session_ids=sessions.names,
        input_tokens=whole["user_tokens"],
        output_tokens=whole["reply_tokens"],
        start_us=whole["start_us"],
        end_us=whole.get("end_us"),
        whole=said,
    )
    return conversations(calls, tally)


def _recognises(path: Path, version: str) -> bool:
    names = [name.strip() for name in first_text(path, 4096).split("\n", 1)[0].split(",")]
    numbered = next((v for v in ("_1", "_2") if path.stem.endswith(v)), "")
    return all(name in names for name in _NEEDED) and (numbered if "Session ID" not in names else "") == version


def _source(version: str, file: RemoteFile, about: str, answered: int) -> Source:
    name = f"burstgpt{version}"
    return Source(
        name=name,
        about=about,
        licence=_LICENCE,
        citation="Wang et al., BurstGPT: A real-world workload dataset to optimize LLM serving systems, KDD 2025",
        recognises=lambda path: _recognises(path, version),
        read=read,
        fetch=lambda: fetch(name, [file]),
        published={"turns": answered} if answered else {},
    )


BURSTGPT = _source(
    "",
    RemoteFile(
        url=f"{_RELEASE}BurstGPT_3.csv",
        size_bytes=231_682_327,
        sha256="2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f",
        licence=_LICENCE,
    ),
    "ChatGPT and GPT-4 requests of a campus: 110 days with sessions (by name: the third release file)",
    4_956_100,
)
BURSTGPT_1 = _source(
    "_1",
    RemoteFile(
        url=f"{_RELEASE}BurstGPT_1.csv",
        size_bytes=52_283_111,
        sha256="4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
        licence=_LICENCE,
    ),
    "BurstGPT, the first two months: times, lengths and models, no sessions",
    1_404_300,
)
BURSTGPT_2 = _source(
    "_2",
    RemoteFile(url=f"{_RELEASE}BurstGPT_2.csv", size_bytes=144_819_209, licence=_LICENCE),
    "BurstGPT, the second two months: times, lengths and models, no sessions",
    3_784_200,
)
