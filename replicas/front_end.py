"""The process that sends an engine's output chunks to their clients, one after another. It knows no scheduler.

One front end serialises what all streams of a replica get: a step of n sequences gives it n chunks of `chunk_s` each, so the
last one leaves n·chunk_s later, and where that exceeds the step chunks are merged (as vLLM's and SGLang's output collectors
do) instead of piling up. Hence a token is heard `chunk_s` x (sequences running) after the engine made it, in order. The
engine itself is not slowed down, and gaps between tokens are those of the engine.
"""

from collections import deque

from replicas.sequence import Sequence, State

INF = float("inf")


class FrontEnd:
    """Holds back first tokens and ends until their chunk has left; `due_s` is when the next one has."""

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self._held: deque[tuple[float, Sequence, bool]] = deque()  # due, whose, whether it is the end
        self._last_s = 0.0

    @property
    def due_s(self) -> float:
        return self._held[0][0] if self._held else INF

    def hold(self, touched: list[Sequence], now_s: float, told_s: float, streams: int) -> list[Sequence]:
        """Keep what has a chunk to send, from `told_s` on, when the engine hands it over; returns who is told at once: the others
        (cancelled or dropped), and all where nothing takes time."""
        if not self._chunk_s and told_s <= now_s and not self._held:
            return touched
        at_once: list[Sequence] = []
        for sequence in touched:
            if sequence.state > State.FINISHED:
                at_once.append(sequence)
                continue
            due_s = self._last_s = max(self._last_s, told_s + self._chunk_s * (streams + 1))
            if sequence.first_token_s == now_s:
                sequence.first_token_s = due_s
            ended = sequence.state == State.FINISHED
            if ended:
                sequence.ended_s = None
            self._held.append((due_s, sequence, ended))
        return at_once

    def deliver(self, now_s: float) -> list[Sequence]:
        """What has left by now."""
        held, delivered = self._held, []
        while held and held[0][0] <= now_s:
            due_s, sequence, ended = held.popleft()
            if sequence.ended_s is not None:  # cancelled before its first token left
                continue
            if ended:
                sequence.ended_s = due_s
            if sequence not in delivered:  # else its first token left with its end
                delivered.append(sequence)
        return delivered
