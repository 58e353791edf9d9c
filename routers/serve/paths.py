"""Which paths ask for tokens, which are passed to any replica, and which are nobody's business. It looks at nothing else."""

from typing import Literal

# Of one replica's own life, and of no use to a client of a pool.
_PRIVATE = (b"/flush_cache", b"/start_profile", b"/stop_profile", b"/shutdown", b"/reset_prefix_cache", b"/fault")
# What asks for tokens outside `/v1/`.
_WORK = frozenset(
    (b"/generate", b"/tokenize", b"/detokenize", b"/pooling", b"/classify", b"/score", b"/rerank", b"/encode", b"/invocations")
)
_NO_WORK = frozenset((b"/tokenize", b"/detokenize", b"/v1/tokenize", b"/v1/detokenize"))

Kind = Literal["work", "plain", "private", "unknown"]


def kind_of(method: str, path: bytes) -> Kind:
    """`work` goes by the policy, `plain` past it."""
    if path.startswith(_PRIVATE):
        return "private"
    known = path.startswith(b"/v1/") or path in _WORK
    if method == "POST" and known and path not in _NO_WORK:
        return "work"
    return "plain" if known or method in ("GET", "HEAD") else "unknown"
