"""One line of JSON for each try: where it went, why, and how it ended. It holds no prompt, no answer and no key."""

import contextlib
import json
import logging
from pathlib import Path
from types import TracebackType

from routers.tries import Try

log = logging.getLogger("stampede.router")

_BUFFER_BYTES = 1 << 20


class RequestLog:
    """Appends to a file; what is written is seen there after `flush`, at the latest."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=_BUFFER_BYTES)
        self._lost = False

    def __enter__(self) -> "RequestLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.flush()
        with contextlib.suppress(OSError):  # said already
            self._file.close()

    def write(
        self,
        attempt: Try,
        outcome: str,
        status: int,
        error: str,
        sent_s: float,
        first_s: float | None,
        ended_s: float,
        output_tokens: int = 0,
        cached_tokens: int | None = None,
    ) -> None:
        """Times are seconds of the machine's monotonic clock; `first_s` None: no byte of an answer came."""
        request, decision = attempt.request, attempt.decision
        row = {
            "rid": request.rid,
            "request": request.request_id,
            "client_attempt": request.client_attempt,
            "router_try": attempt.router_try,
            "stage": attempt.stage,
            "replica": attempt.replica_id,
            "prefill": decision.prefill_id,
            "reason": decision.reason,
            "scores": decision.scores,
            "prompt_tokens": request.prompt.tokens,
            "max_tokens": request.max_tokens,
            "sent_s": round(sent_s, 6),
            "first_byte_s": None if first_s is None else round(first_s, 6),
            "ended_s": round(ended_s, 6),
            "outcome": outcome,
            "status": status,
            "error": error,
            "output_tokens": output_tokens,
            "cached_tokens": cached_tokens,
        }
        self._put(json.dumps(row) + "\n")

    def flush(self) -> None:
        self._put("")

    def _put(self, text: str) -> None:
        """A full disk costs lines, and no request."""
        if self._lost:
            return
        try:
            self._file.write(text)
            if not text:
                self._file.flush()
        except OSError as error:
            self._lost = True
            log.error("%s: %s; no more requests are logged", self._file.name, error.strerror or error)
