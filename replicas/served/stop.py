"""Where a reply ends before its length, by a stop text or a stop token. It knows what will be said, not when."""

import numpy as np

from replicas.served.ask import Ask
from replicas.served.made_up import Ids
from replicas.served.tokens import Tokens


class Stop:
    """Where a reply ends before its length: after `tokens` tokens, `characters` of whose text are shown; `reason` is the stop."""

    __slots__ = ("characters", "reason", "tokens")

    def __init__(self, tokens: int, characters: int, reason: str | int) -> None:
        self.tokens, self.characters, self.reason = tokens, characters, reason


def find_stop(ids: Ids, ask: Ask, tokens: Tokens) -> Stop | None:
    """The first stop text or stop token of a reply, not before `min_tokens`."""
    found: list[Stop] = []
    if ask.stop:
        words = [tokens.word(i) for i in ids.tolist()]
        text = tokens.lead + " ".join(words)
        ends = np.cumsum([len(words[0]) + len(tokens.lead), *(len(word) + 1 for word in words[1:])])
        floor = int(ends[ask.min_tokens - 1]) if ask.min_tokens else 0
        for stop in ask.stop:
            at = text.find(stop, max(0, floor - len(stop) + 1))
            if at >= 0:
                made = int(np.searchsorted(ends, at + len(stop))) + 1
                found.append(Stop(made, at + len(stop) if ask.keeps_stop else at, stop))
    if ask.stop_ids:
        hits = np.flatnonzero(np.isin(ids, list(ask.stop_ids)))
        hits = hits[hits >= ask.min_tokens]
        if hits.size:
            shown = [tokens.word(i) for i in ids[: hits[0]].tolist()]
            characters = len(tokens.lead + " ".join(shown)) if shown else 0
            found.append(Stop(int(hits[0]) + 1, characters, int(ids[hits[0]])))
    return min(found, key=lambda stop: stop.tokens, default=None)
