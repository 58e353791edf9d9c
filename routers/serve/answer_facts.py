"""What the books need from an answer's bytes: an error inside a stream, its end, the usage. It looks, and changes nothing.

Engines refuse a stream as HTTP 200 with `data: {"error": …}`, and end every stream of the two OpenAI paths with `[DONE]`.
"""

import re

TAIL = 4096
_ERROR = re.compile(rb'(?:^|\n)data:[ \t]*\{[ \t]*"(?:error"[ \t]*:|object"[ \t]*:[ \t]*"error")')
_CODE = re.compile(rb'"code"[ \t]*:[ \t]*"?(\d{3})\b')
_COMPLETION = re.compile(rb'"(?:completion_tokens|output_tokens)"[ \t]*:[ \t]*(\d{1,9})')
_CACHED = re.compile(rb'"cached_tokens"[ \t]*:[ \t]*(\d{1,9})')
_DONE = b"data: [DONE]"
_LONGEST_CODE = 2048


def stream_error(data: bytes) -> int | None:
    """The status inside the first error event of these bytes of a stream (500 where it names none); None: no error."""
    if b"rror" not in data:
        return None
    match = _ERROR.search(data)
    if match is None:
        return None
    code = _CODE.search(data, match.start(), match.start() + _LONGEST_CODE)
    return int(code[1]) if code is not None and 400 <= int(code[1]) <= 599 else 500


def is_done(tail: bytes) -> bool:
    """Whether the stream's last event is there."""
    return _DONE in tail


def usage(tail: bytes) -> tuple[int | None, int | None]:
    """(output tokens, cached prompt tokens) by the replica's own word."""
    if b"_tokens" not in tail:
        return None, None
    made = _COMPLETION.findall(tail)
    cached = _CACHED.findall(tail)
    return (int(made[-1]) if made else None), (int(cached[-1]) if cached else None)
