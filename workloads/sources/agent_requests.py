"""Requests of coding-agent sessions from their two JSON forms, session by session. It does not know how prompts share content."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from workloads.sources.json_lines import Record, json_records, parsed
from workloads.sources.source import Tally, first_text

LONGEST_BYTES = 128 << 20  # a session of thousands of requests lists its blocks again in every one
_LONGEST_S = 1e9
_MOST_REQUESTS = 5_000  # of a session known by lengths: its prompts are listed whole, so their segments grow with the square
_LEAVES = ("n", "s")


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One request: tokens in and out, seconds (None: unknown) and, in the raw form, the ids of its prompt's blocks."""

    input_tokens: int
    output_tokens: int
    start_s: float | None
    think_s: float | None
    api_s: float | None
    ttft_s: float | None
    block_ids: Sequence[int] = ()


@dataclass(slots=True)
class AgentSession:
    """The requests of one session in order; `shared_ids`: its block ids mean the same in every session of the source.

    `family` names the record that its block ids belong to: a session and its sub-agents.
    """

    session_id: str
    family: str
    model: str | None = None
    block_tokens: int = 64
    shared_ids: bool = False
    requests: list[AgentRequest] = field(default_factory=list)


def is_raw(path: Path) -> bool:
    """Whether a file (or a folder of files) has one object {id, block_size, requests: […]} a session."""
    head = first_text(next(iter(_session_files(path)), path)).lstrip()
    return head.startswith("{") and all(f'"{k}"' in head for k in ("id", "block_size", "hash_id_scope", "requests"))


def is_normalised(path: Path) -> bool:
    """Whether a file has one JSON line a request with lengths and times only."""
    line = first_text(path).lstrip().split("\n", 1)[0]
    keys = ("session_id", "turn_index", "input_tokens", "output_tokens", "api_time_s")
    return line.startswith("{") and all(f'"{k}"' in line for k in keys)


def raw_sessions(path: Path, tally: Tally) -> Iterator[list[AgentSession]]:
    """Sessions of {id, block_size, hash_id_scope, requests: [{t, type, model, in, out, hash_ids, think_time, ttft, api_time}]}.

    A line a session, or a file a session (also a folder of them). What a sub-agent asks is a session of its own, counted; a list
    holds the sessions whose block ids mean the same.
    """
    for number, record in enumerate(_raw_records(path), 1):
        scope = record.text("hash_id_scope")
        if scope not in ("local", "global"):
            raise record.wrong("hash_id_scope", "'local' or 'global'")
        name, block_tokens = record.text("id"), record.whole("block_size", 1 << 16)
        if not block_tokens:
            raise record.wrong("block_size", "a number of tokens > 0")
        family: list[AgentSession] = []
        found = [(name, record)]
        for stream, holder in found:  # grows while it is read: sub-agents may have sub-agents
            session = AgentSession(stream, f"{name}#{number}", None, block_tokens, scope == "global")
            for leaf in _requests(holder):
                if leaf.values.get("type") == "subagent":
                    tally.changed["a sub-agent: a session of its own"] += 1
                    found.append((f"{name}/{len(found)}", leaf))
                else:
                    session.requests.append(_raw_request(leaf, block_tokens, tally))
                    if leaf.known("model") and session.model is None:
                        session.model = leaf.text("model")
            _in_time_order(session, tally)
            tally.rows_read += len(session.requests)
            if session.requests:
                family.append(session)
            else:
                tally.dropped["session without a request"] += 1
        yield family


def _in_time_order(session: AgentSession, tally: Tally) -> None:
    times = [request.start_s or 0.0 for request in session.requests]
    if moved := sum(b < a for a, b in pairwise(times)):
        tally.changed["request out of time order: sorted"] += moved
        session.requests.sort(key=lambda request: request.start_s or 0.0)


def normalised_sessions(path: Path, tally: Tally) -> list[AgentSession]:
    """Sessions of {session_id, turn_index, input_tokens, output_tokens, think_time_s, api_time_s, request_arrival_delta_s, …}."""
    sessions: dict[str, AgentSession] = {}
    turns: dict[str, list[int]] = {}
    for record in json_records(path):
        name, turn = record.text("session_id"), record.whole("turn_index")
        session = sessions.setdefault(name, AgentSession(name, name))
        if record.known("model_id") and session.model is None:
            session.model = record.text("model_id")
        if len(session.requests) == _MOST_REQUESTS:
            raise ValueError(f"{record.place}: session {name[:40]!r} has more than the {_MOST_REQUESTS} requests allowed")
        session.requests.append(
            AgentRequest(
                record.whole("input_tokens"),
                record.whole("output_tokens"),
                _seconds(record, "request_arrival_delta_s", tally),
                _seconds(record, "think_time_s", tally),
                _seconds(record, "api_time_s", tally),
                _seconds(record, "ttft_s", tally),
            )
        )
        turns.setdefault(name, []).append(turn)
        tally.rows_read += 1
    for name, session in sessions.items():
        order = sorted(range(len(turns[name])), key=turns[name].__getitem__)
        if moved := sum(i != place for place, i in enumerate(order)):
            tally.changed["turn_index out of order: sorted"] += moved
        session.requests = [session.requests[i] for i in order]
    return list(sessions.values())


def _session_files(path: Path) -> Iterator[Path]:
    yield from sorted(p for p in path.glob("*.json") if p.is_file()) if path.is_dir() else [path]


def _raw_records(path: Path) -> Iterator[Record]:
    files = list(_session_files(path))
    if not files:
        raise ValueError(f"{path}: no *.json file in this folder; expected one a session")
    for file in files:
        if path.is_dir() or first_text(file).lstrip().split("\n", 1)[0].strip() == "{":
            yield _whole_file(file)
        else:
            yield from json_records(file, LONGEST_BYTES)


def _whole_file(path: Path) -> Record:
    """A file that is one JSON object over several lines."""
    with path.open("rb") as file:
        text = file.read(LONGEST_BYTES + 1)
    if len(text) > LONGEST_BYTES:
        raise ValueError(f"{path}:1: an object of more than {LONGEST_BYTES} bytes; allowed: up to that")
    value = parsed(text.removeprefix(b"\xef\xbb\xbf"), path, 1)
    if not isinstance(value, dict):
        raise ValueError(f"{path}:1: expected an object, found {type(value).__name__}")
    return Record(f"{path}:1", value)


def _requests(holder: Record) -> Iterator[Record]:
    found = holder.values.get("requests")
    if not isinstance(found, list):
        raise holder.wrong("requests", "a list of requests")
    for number, request in enumerate(found, 1):
        place = f"{holder.place}: request {number}"
        if not isinstance(request, dict):
            raise ValueError(f"{place}: expected an object, found {type(request).__name__}")
        yield Record(place, request)


def _raw_request(record: Record, block_tokens: int, tally: Tally) -> AgentRequest:
    if record.values.get("type") not in _LEAVES:
        raise record.wrong("type", "'n', 's' or 'subagent'")
    ids = record.ids("hash_ids") if record.known("hash_ids") else []
    most = -(-record.whole("in") // block_tokens)
    if len(ids) > most:
        raise ValueError(f"{record.place}: hash_ids has {len(ids)} blocks; {record.whole('in')} tokens have at most {most}")
    return AgentRequest(
        record.whole("in"),
        record.whole("out"),
        record.number("t", _LONGEST_S),
        _seconds(record, "think_time", tally),
        _seconds(record, "api_time", tally),
        _seconds(record, "ttft", tally),
        ids,
    )


def _seconds(record: Record, key: str, tally: Tally) -> float | None:
    """A time, None where it is missing or null; a negative one (requests that overlapped) is taken as 0 and counted."""
    if not record.known(key):
        return None
    value = record.number(key, _LONGEST_S, -_LONGEST_S)
    if value < 0:
        tally.changed[f"negative {key}: taken as 0"] += 1
    return max(0.0, value)
