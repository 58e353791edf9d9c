"""Which column of a user's table holds what: as mapped, else by usual names. It does not read the columns."""

import re
from collections.abc import Mapping, Sequence

from workloads.sources.source import printable

CLOCKS = {"start_s": 1, "start_ms": 10**3, "start_us": 10**6, "start_ns": 10**9}
"""Keys of a numeric start time, with their units in a second."""
_NAMES = {
    "input_tokens": (
        *("input_tokens", "prompt_tokens", "context_tokens", "contexttokens", "request_tokens", "prefill_tokens"),
        *("num_input_tokens", "num_prompt_tokens", "num_prefill_tokens", "n_prompt_tokens", "input_length", "prompt_length"),
        *("context_length", "input_len", "prompt_len", "isl"),
    ),
    "output_tokens": (
        *("output_tokens", "completion_tokens", "generated_tokens", "generatedtokens", "response_tokens", "decode_tokens"),
        *("reply_tokens", "num_output_tokens", "num_completion_tokens", "num_decode_tokens", "n_completion_tokens"),
        *("output_length", "response_length", "completion_length", "generation_length", "output_len", "completion_len", "osl"),
    ),
    "user_tokens": ("user_tokens", "new_tokens", "message_tokens"),
    "start_s": ("start_s", "arrived_at", "arrival_s", "arrived_at_s", "arrival_time_s", "timestamp_s", "time_s"),
    "start_ms": ("start_ms", "arrival_ms", "arrived_at_ms", "arrival_time_ms", "timestamp_ms", "time_ms"),
    "start_us": ("start_us", "arrival_us", "arrival_time_us", "timestamp_us", "time_us"),
    "start_ns": ("start_ns", "arrival_ns", "timestamp_ns", "time_ns", "start_time_unix_nano", "starttimeunixnano"),
    "session": ("session", "session_id", "conversation", "conversation_id", "conv_id", "chat_id", "thread_id", "dialog_id"),
    "tenant": ("tenant", "tenant_id", "user", "user_id", "client", "client_id", "customer_id"),
    "model": ("model", "model_name", "model_id"),
    "language": ("language", "lang"),
    "think_s": ("think_s", "think_time_s"),
    "hash_ids": ("hash_ids", "block_ids", "block_hashes"),
}
"""Usual names, in lower case with `_` for anything but letters and digits."""
_ANY_CLOCK = (
    *("timestamp", "time", "ts", "datetime", "date_time", "start", "start_time", "started_at", "arrival", "arrival_time"),
    *("request_time", "created", "created_at"),
)
"""Names that say "time" but no unit: taken as `start_time` where they hold dates, ambiguous where they hold numbers."""
KEYS = (*_NAMES, "start_time", "block_tokens")
_NEEDS_BOTH = (("input_tokens", "user_tokens"), ("output_tokens",))


def has_lengths(names: Sequence[str]) -> bool:
    """True when some column has a usual name for a prompt's tokens and some other one for the answer's."""
    return all(any(_named(names, key) for key in keys) for keys in _NEEDS_BOTH)


def column_names(path: object, names: Sequence[str], mapped: Mapping[str, str], dated: Sequence[str]) -> dict[str, str]:
    """Key → column (`block_tokens`: its number as text). `dated` names the columns that hold dates rather than numbers.

    Raises ValueError in one line that says how to map: an unknown key or column, a key that is missing, or one that several
    columns could be.
    """
    _check(path, names, mapped)
    made = dict(mapped)
    for key in _NAMES:
        if key not in made and not _settled(key, made) and (found := _named(names, key)):
            if len(found) > 1:
                raise ValueError(f"{path}: {key} could be any of {_listed(found)}; say which: --map {key}=COLUMN")
            made[key] = found[0]
    clocks = [key for key in (*CLOCKS, "start_time") if key in made]
    if len(clocks) > 1:
        raise ValueError(f"{path}: a start time as {_listed(made[c] for c in clocks)}; say which: --map {clocks[0]}=COLUMN")
    if not clocks:
        made |= _dateless(path, names, dated)
    for keys in _NEEDS_BOTH:
        if not any(key in made for key in keys):
            raise ValueError(f"{path}: no column for {keys[0]} among {_listed(names)}; say which: --map {keys[0]}=COLUMN")
    if "session" not in made:
        made.pop("think_s", None)
    if "block_tokens" not in made:
        made.pop("hash_ids", None)
    return made


def _check(path: object, names: Sequence[str], mapped: Mapping[str, str]) -> None:
    for key, column in mapped.items():
        if key not in KEYS:
            raise ValueError(f"--map {key}={column}: no such key; allowed: {', '.join(KEYS)}")
        if key == "block_tokens":
            if not (column.isascii() and column.isdecimal() and 0 < int(column[:12]) <= 1 << 20):
                raise ValueError(f"--map block_tokens={column[:60]}: allowed: a number of tokens from 1 to {1 << 20}")
        elif names.count(column) != 1:
            what = "no such column" if column not in names else "several columns of that name"
            raise ValueError(f"{path}: --map {key}={column}: {what}; its columns: {_listed(names)}")
    if "input_tokens" in mapped and "user_tokens" in mapped:
        raise ValueError("--map input_tokens= and user_tokens=: map one, the whole prompt of a call or its new message")
    for key, needs in (("think_s", "session"), ("hash_ids", "block_tokens"), ("block_tokens", "hash_ids")):
        if key in mapped and needs not in mapped:
            raise ValueError(f"--map {key}={mapped[key]}: needs --map {needs}=… too")


def _settled(key: str, made: Mapping[str, str]) -> bool:
    """True for a key that something else has settled already."""
    if key in ("input_tokens", "user_tokens"):
        return "input_tokens" in made or "user_tokens" in made
    return key in CLOCKS and any(clock in made for clock in (*CLOCKS, "start_time"))


def _dateless(path: object, names: Sequence[str], dated: Sequence[str]) -> dict[str, str]:
    """The column of dates or times without a unit in its name, if there is one."""
    found = [name for name in names if _plain(name) in _ANY_CLOCK]
    dates = [name for name in found if name in dated]
    if len(dates) == 1:
        return {"start_time": dates[0]}
    if not found:
        return {}
    if dates:
        raise ValueError(f"{path}: start_time could be any of {_listed(dates)}; say which: --map start_time=COLUMN")
    first = printable(found[0])[:60]
    raise ValueError(
        f"{path}: column {first!r} holds times in an unknown unit; say it: --map start_s={first} (start_ms, _us, _ns)"
    )


def _named(names: Sequence[str], key: str) -> list[str]:
    return [name for name in names if _plain(name) in _NAMES[key]]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _listed(names: object) -> str:
    text = ", ".join(map(repr, names))  # type: ignore[call-overload]
    return text if len(text) < 400 else f"{text[:400]}…"
