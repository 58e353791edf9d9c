"""The process that takes requests in and sends an engine's output chunks to their clients. It knows no scheduler.

One front end serialises what all streams of a replica get: a step of n sequences gives it n chunks of `chunk_s` each, so the
last one leaves n·chunk_s later, and where that exceeds the step chunks are merged (as vLLM's and SGLang's output collectors
do) instead of piling up. Hence a token is heard `chunk_s` x (sequences running) after the engine made it, in order. The
engine itself is not slowed down, and gaps between tokens are those of the engine. A request that comes in is worked on between
these bursts of chunks: it waits for the one under way, and its own work takes as much longer as the bursts take of the time.
"""

from collections import deque

from replicas.jump import Jump
from replicas.sequence import FINISHED, Sequence

INF = float("inf")
_MOST_BUSY = 0.9  # share of a step that chunks take at most: beyond, they are merged


class FrontEnd:
    """Holds back first tokens and ends until their chunk has left; `due_s` is when the next one has."""

    def __init__(self, chunk_s: float) -> None:
        self.due_s = INF
        self._chunk_s = chunk_s
        self._held: deque[tuple[float, Sequence, bool]] = deque()  # due, whose, whether it is the end
        self._last_s = 0.0

    def slowed_s(self, own_s: float, streams: int, jump: Jump, now_s: float) -> float:
        """Seconds until a request that comes now, and takes `own_s` of an idle front end, is through."""
        step_s = jump.first_s
        burst_s = min(self._chunk_s * streams, _MOST_BUSY * step_s)
        left_s = burst_s - (now_s - jump.began_s) % step_s
        return own_s * step_s / (step_s - burst_s) + (left_s if left_s > 0.0 else 0.0)

    def hold(self, touched: list[Sequence], now_s: float, told_s: float, streams: int) -> list[Sequence]:
        """Keep what has a chunk to send, from `told_s` on, when the engine hands it over; returns who is told at once: the others
        (cancelled or dropped), and all where nothing takes time."""
        if not self._chunk_s and told_s <= now_s and not self._held:
            return touched
        at_once: list[Sequence] = []
        due_s, soonest_s = self._last_s, told_s + self._chunk_s * (streams + 1)
        if due_s < soonest_s:
            due_s = soonest_s
        for sequence in touched:
            if sequence.state > FINISHED:
                at_once.append(sequence)
                continue
            self._last_s = due_s
            if sequence.first_token_s == now_s:
                sequence.first_token_s = due_s
            ended = sequence.state is FINISHED
            if ended:
                sequence.ended_s = None
            self._held.append((due_s, sequence, ended))
        if self._held:
            self.due_s = self._held[0][0]
        return at_once

    def deliver(self, now_s: float) -> list[Sequence]:
        """What has left by now."""
        held = self._held
        delivered: list[Sequence] = []
        while held and held[0][0] <= now_s:
            due_s, sequence, ended = held.popleft()
            if sequence.ended_s is not None:  # cancelled before its first token left
                continue
            if ended:
                sequence.ended_s = due_s
            if not delivered or sequence not in delivered:  # else its first token left with its end
                delivered.append(sequence)
        self.due_s = held[0][0] if held else INF
        return delivered
