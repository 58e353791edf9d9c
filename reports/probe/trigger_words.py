"""A trigger, kept as JSON, in words: good for a sentence, short enough for a table's head. It does not know what it did."""

import json
from typing import Any

WORDS = {
    "placebo": "no trigger",
    "spike": "a {k:g}× burst of {d_s:g} s",
    "long_prompts": "{share:.0%} long prompts of {prompt_tokens:,} tokens for {d_s:g} s",
    "session_stampede": "a session stampede, {copies:g}× within {spread_s:g} s",
    "tenant_hotspot": "a {k:g}× burst of {d_s:g} s from one tenant",
    "pause": "{who} paused for {d_s:g} s",
    "slow": "{who} {factor:g}× slower for {d_s:g} s",
    "kill": "{who} lost for {d_s:g} s, cold return",
    "flush": "the cache of {who} emptied",
    "refuse": "{who} refusing {share:.0%} with {status:g} for {d_s:g} s",
    "blackout": "no metrics of {who} for {d_s:g} s",
}


def parameters(trigger: str) -> dict[str, Any]:
    """The parameters; raises ValueError in one line for what is no JSON object with a kind."""
    try:
        found = json.loads(trigger)
    except json.JSONDecodeError as error:
        raise ValueError(f"trigger {trigger!r}: not JSON; allowed: an object with kind, d_s and its parameters") from error
    if not isinstance(found, dict) or "kind" not in found:
        raise ValueError(f"trigger {trigger!r}: no kind; allowed: an object with kind, d_s and its parameters")
    return found


def words(trigger: str) -> str:
    """`a 3× burst of 20 s`; a kind that nobody described is named with its parameters."""
    given = parameters(trigger)
    who = "every replica" if given.get("replica_id") is None else f"replica {given['replica_id']}"
    try:
        return WORDS[given["kind"]].format(who=who, **given)
    except (KeyError, ValueError, TypeError):
        return f"{given['kind']} ({', '.join(f'{k} {v}' for k, v in sorted(given.items()) if k != 'kind')})"


def spike_size(trigger: str) -> float | None:
    """k of a burst; None for any other kind."""
    given = parameters(trigger)
    return float(given["k"]) if given["kind"] == "spike" else None


def length_s(trigger: str) -> float:
    """Its length in seconds, 0 where it strikes at once."""
    return float(parameters(trigger).get("d_s") or 0.0)
