"""Sessions of coding agents: very long contexts that grow and are compacted. It knows no users and no common clock."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from workloads.content import content_id, text_id
from workloads.mixing import content_ids
from workloads.sources.agent_requests import AgentSession, is_normalised, is_raw, normalised_sessions, raw_sessions
from workloads.sources.blocks import LOCAL_BLOCK, PROMPT_CHUNK, UNNAMED_TAIL, Blocks, Runs, runs, sorted_prompts
from workloads.sources.download import fetch, on_hub
from workloads.sources.source import ReadOptions, Source, Tally
from workloads.trace_table import list_of

_SEGMENTS_A_TABLE = 1 << 20
_REPO, _REVISION = "semianalysisai/cc-traces-weka-no-subagents-051226", "0ae681ae27a0e3e716b344cb21f1b01bb1313d52"
_LICENCE = "Apache-2.0 (as its card says)"


def recognises(path: Path) -> bool:
    return is_raw(path) or is_normalised(path)


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read the raw sessions (with block ids) or the normalised requests (lengths only); see `agent_requests` for both forms.

    Every turn lists its prompt whole (`restarts`): what the model thought is not in the next prompt, so it rarely is the last
    prompt plus the reply. `think_us` is the source's think time, `gap_us` the time between two starts, else api + think time.
    Raises ValueError "FILE:LINE: …" on a malformed record.
    """
    tally.notes.append("sessions have no common clock, so the trace has no timestamps; every prompt is listed whole")
    if is_normalised(path):
        yield from _tables([(s, _chunks(s))] for s in normalised_sessions(path, tally))
        tally.notes += [
            "lengths only: a prompt that has grown shares all of the one before; a shorter one (compaction) shares no more than "
            "the length of its session's shortest prompt",
        ]
        return
    yield from _tables(_shared(family, tally) for family in raw_sessions(path, tally))
    tally.notes.append(
        "blocks are joined where no other prompt of the session leaves them; ids of scope local mean nothing in other sessions"
    )


def _tables(families: Iterator[list[tuple[AgentSession, Runs]]]) -> Iterator[Any]:
    """Tables of whole sessions, each of about a million segments."""
    held: list[tuple[AgentSession, Runs]] = []
    segments = 0
    for family in families:
        held += family
        segments += sum(len(r.ids) for _, r in family)
        if segments >= _SEGMENTS_A_TABLE:
            yield _table(held)
            held, segments = [], 0
    if held:
        yield _table(held)


def _table(sessions: Sequence[tuple[AgentSession, Runs]]) -> Any:
    import pyarrow as pa

    requests = [r for s, _ in sessions for r in s.requests]
    turns = np.array([len(s.requests) for s, _ in sessions])
    first = np.zeros(len(requests), dtype=bool)
    first[np.cumsum(turns) - turns] = True
    per_session = np.array([len(r.ids) for _, r in sessions])
    columns = {
        "user_tokens": list_of(turns, pa.array([r.input_tokens for r in requests], pa.int32())),
        "reply_tokens": list_of(turns, pa.array([r.output_tokens for r in requests], pa.int32())),
        "conversation_id": pa.array([s.session_id for s, _ in sessions], pa.string()),
        "model": pa.array([s.model for s, _ in sessions], pa.string()),
        "gap_us": list_of(turns, pa.array([g for s, _ in sessions for g in _gaps_us(s)], pa.int64())),
        "think_us": list_of(turns, pa.array([t for s, _ in sessions for t in _thinks_us(s)], pa.int64())),
        "restarts": list_of(turns, pa.array(~first)),
        "segments": list_of(turns, pa.array(np.concatenate([np.diff(r.bounds) for _, r in sessions]), pa.int32())),
        "segment_ids": list_of(per_session, pa.array(np.concatenate([r.ids for _, r in sessions]), pa.int64())),
        "segment_tokens": list_of(per_session, pa.array(np.concatenate([r.tokens for _, r in sessions]), pa.int32())),
    }
    return pa.table(columns)


def _thinks_us(session: AgentSession) -> Iterator[int | None]:
    for place, request in enumerate(session.requests):
        yield None if place == 0 or request.think_s is None else round(request.think_s * 1e6)


def _gaps_us(session: AgentSession) -> Iterator[int | None]:
    yield None
    for before, request in pairwise(session.requests):
        if before.start_s is not None and request.start_s is not None:
            yield max(0, round((request.start_s - before.start_s) * 1e6))
        elif before.api_s is not None and request.think_s is not None:
            yield round((before.api_s + request.think_s) * 1e6)
        else:
            yield None


def _chunks(session: AgentSession) -> Runs:
    """Prompts known by length share the session's stream so far, cut back to its shortest prompt by a compaction."""
    lengths = [r.input_tokens for r in session.requests]
    name, shortest = text_id(session.family), min(lengths)
    chunks: list[tuple[int, int]] = [(content_id(PROMPT_CHUNK, name, 0), shortest)] if shortest else []
    held, ids, tokens, bounds = shortest, [], [], [0]
    for turn, length in enumerate(lengths, 1):
        if length < held:
            chunks, held = chunks[: min(1, shortest)], shortest
        if length > held:
            chunks.append((content_id(PROMPT_CHUNK, name, turn), length - held))
            held = length
        ids += [i for i, _ in chunks]
        tokens += [t for _, t in chunks]
        bounds.append(len(ids))
    return Runs(np.array(ids, dtype=np.int64), np.array(tokens, dtype=np.int64), np.array(bounds, dtype=np.int64))


def _shared(family: Sequence[AgentSession], tally: Tally) -> list[tuple[AgentSession, Runs]]:
    """The prompts of a session and its sub-agents in segments that they share."""
    if not family:
        return []
    blocks = _blocks(family, tally)
    if family[0].shared_ids:  # other sessions may leave a run of blocks anywhere
        cut = Runs(blocks.ids, blocks.block_lengths(), blocks.bounds)
    else:
        cut = runs(blocks, *sorted_prompts(blocks))
    edges = np.concatenate([[0], np.cumsum([len(s.requests) for s in family])]).tolist()
    return [(s, _some(cut, a, b)) for s, a, b in zip(family, edges[:-1], edges[1:], strict=True)]


def _some(cut: Runs, begin: int, end: int) -> Runs:
    """The runs of prompts `begin` … `end` − 1."""
    a, b = int(cut.bounds[begin]), int(cut.bounds[end])
    return Runs(cut.ids[a:b], cut.tokens[a:b], cut.bounds[begin : end + 1] - a)


def _blocks(family: Sequence[AgentSession], tally: Tally) -> Blocks:
    """All prompts of a family; tokens beyond the blocks that have an id are content of their own request."""
    name, block_tokens = text_id(family[0].family), family[0].block_tokens
    requests = [r for s in family for r in s.requests]
    ids: list[int] = []
    bounds, tails = [0], []
    for request in requests:
        ids += request.block_ids
        if len(request.block_ids) * block_tokens < request.input_tokens:
            tails.append(len(ids))
            ids.append(len(tails))
        bounds.append(len(ids))
    flat = np.array(ids, dtype=np.int64)
    known = flat if family[0].shared_ids else content_ids(LOCAL_BLOCK, name, flat)
    known[tails] = content_ids(UNNAMED_TAIL, name, flat[tails])
    if tails:
        tally.changed["request with tokens beyond its block ids: those are its own"] += len(tails)
    return Blocks.of(known, bounds, [r.input_tokens for r in requests], block_tokens)


AGENT_SESSIONS = Source(
    name="agent_sessions",
    about="Claude Code sessions: contexts of 100 k tokens and more that grow, think times, 64-token prefix block ids",
    licence=_LICENCE,
    citation=f"SemiAnalysis, {_REPO} (recorded with the WEKA kv-cache-tester)",
    recognises=recognises,
    read=read,
    fetch=lambda: fetch("agent_sessions", on_hub(_REPO, ["traces.jsonl"], _REVISION, licence=_LICENCE)),
    published={"sessions": 949, "turns": 136_000, "input_tokens.p50": 168_000, "output_tokens.p50": 345, "prefix_reuse": 0.86},
)
