"""What an answer amounts to: a row's outcome, status and error. It knows no clock; timeouts are the client's own verdict."""

from replay.send.events import Events

REFUSALS = (429, 503)
_MOST_LETTERS = 200

Verdict = tuple[str, int, str]


def judge(status: int, events: Events, whole: bool, asked_tokens: int | None, body: bytes) -> Verdict:
    """(outcome, status, error) of an answer that ended by itself.

    `whole`: the HTTP message came to its end. `asked_tokens`: the exact output that was asked for; None where the model may stop.
    `body`: what a response that is no stream said. HTTP 200 alone is no success: engines refuse inside the stream, break it off,
    and answer aborted requests with nothing.
    """
    if not status:
        return "error", 0, "closed without an answer"
    if status != 200:
        return _outcome(status), status, _one_line(f"HTTP {status}", body.decode("utf-8", "replace"))
    if events.error:
        return _outcome(events.error_code), events.error_code, _one_line("error event", events.error)
    if not events.done:
        return "error", 0, f"truncated stream: {'ended' if whole else 'closed'} after {events.chunks} chunks"
    return _judge_tokens(events, asked_tokens)


def tokens_of(events: Events) -> int:
    """Output tokens by the engine's own count; 0 where it gave none."""
    count = events.usage.get("completion_tokens", 0)
    return count if isinstance(count, int) else 0


def cached_of(events: Events) -> int:
    """Prompt tokens that the engine found in its cache, where it says so."""
    details = events.usage.get("prompt_tokens_details")
    count = details.get("cached_tokens") if isinstance(details, dict) else 0
    return count if isinstance(count, int) else 0


def broken(what: str, why: object) -> Verdict:
    """A connection that failed, or bytes that are no answer."""
    return "error", 0, _one_line(what, str(why))


def _outcome(status: int) -> str:
    return "refused" if status in REFUSALS else "error"


def _judge_tokens(events: Events, asked_tokens: int | None) -> Verdict:
    tokens = tokens_of(events)
    if events.finish_reason == "abort":
        return "error", 200, "empty answer: finish_reason abort" if not events.chunks else f"aborted after {tokens} tokens"
    if "completion_tokens" not in events.usage:
        return "error", 200, "no usage in the stream: tokens are not known"
    if asked_tokens is not None and tokens != asked_tokens:
        return "error", 200, f"wrong token count: {tokens} of {asked_tokens}"
    if not tokens:
        return "error", 200, "empty answer"
    return "ok", 200, ""


def _one_line(what: str, text: str) -> str:
    words = " ".join(text.split())[:_MOST_LETTERS]
    return f"{what}: {words}" if words else what
