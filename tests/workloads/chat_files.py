"""Chats of the shape of LMSYS-Chat-1M and WildChat, made by hand, and their files as the hub's tools write them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
START = datetime(2023, 4, 9, 0, 2, 53, tzinfo=UTC)

_TIME = pa.timestamp("us", tz="UTC")
_MODERATION = pa.list_(pa.struct({"flagged": pa.bool_(), "category_scores": pa.struct({"hate": pa.float64()})}))
LMSYS_SCHEMA = pa.schema(
    {
        "conversation_id": pa.string(),
        "model": pa.string(),
        "conversation": pa.list_(pa.struct({"content": pa.string(), "role": pa.string()})),
        "turn": pa.int64(),
        "language": pa.string(),
        "openai_moderation": _MODERATION,
        "redacted": pa.bool_(),
    }
)
_UTTERANCE = {
    "content": pa.string(),
    "country": pa.string(),
    "hashed_ip": pa.string(),
    "header": pa.struct({"accept-language": pa.string(), "user-agent": pa.string()}),
    "language": pa.string(),
    "redacted": pa.bool_(),
    "role": pa.string(),
    "timestamp": _TIME,
    "toxic": pa.bool_(),
    "turn_identifier": pa.int64(),
}
WILDCHAT_SCHEMA = pa.schema(
    {
        "conversation_hash": pa.string(),
        "model": pa.string(),
        "timestamp": _TIME,
        "conversation": pa.list_(pa.struct(_UTTERANCE)),
        "turn": pa.int64(),
        "language": pa.string(),
        "openai_moderation": _MODERATION,
        "hashed_ip": pa.string(),
        "header": pa.struct({"accept-language": pa.string(), "user-agent": pa.string()}),
    }
)


def lmsys(name: str, *messages: tuple[str, str | None], model: str = "vicuna-13b", language: str = "English") -> Row:
    talk = [{"content": content, "role": role} for role, content in messages]
    moderation = [{"flagged": False, "category_scores": {"hate": 0.1}} for _ in talk]
    row = {"conversation_id": name, "model": model, "conversation": talk, "turn": len(talk) // 2, "language": language}
    return {**row, "openai_moderation": moderation, "redacted": False}


def wildchat(name: str, first_id: int, *turns: tuple[str, str, float | None], user: str = "aa11") -> Row:
    """Turns of (question, answer, seconds from START at which the answer had arrived)."""
    talk: list[Row] = []
    shared = {"country": "Chile", "header": {"accept-language": "es", "user-agent": "x"}, "redacted": False, "toxic": False}
    for i, (question, answer, at_s) in enumerate(turns):
        logged = None if at_s is None else START + timedelta(seconds=at_s)
        both = {**shared, "language": "Spanish", "turn_identifier": first_id + i}
        talk.append({**both, "content": question, "role": "user", "timestamp": None, "hashed_ip": user})
        talk.append({**both, "content": answer, "role": "assistant", "timestamp": logged, "hashed_ip": None})
    last = max((m["timestamp"] for m in talk if m["timestamp"] is not None), default=None)
    row = {"conversation_hash": name, "model": "gpt-4-0314", "timestamp": last, "conversation": talk, "turn": len(turns)}
    return {**row, "language": "Spanish", "openai_moderation": [], "hashed_ip": user, "header": shared["header"]}


def write_parquet(path: Path, rows: list[Row], schema: pa.Schema) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=2)
    return path


def write_json_lines(path: Path, rows: list[Row], times: str = "iso") -> Path:
    """Times as ISO texts, or as `datasets` writes them: Unix milliseconds."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat() if times == "iso" else round(value.timestamp() * 1000)
        raise TypeError(type(value))

    path.write_text("".join(json.dumps(row, default=plain) + "\n" for row in rows))
    return path
