"""Which paths ask for tokens, which are passed to any replica, and which are nobody's business. It looks at nothing else.

Engines serve their operator's calls (`/flush_cache`, `/release_memory_occupation`, `/slow_down`: SGLang takes GET for them)
beside their clients' ones, so outside `/v1/` only what is named here is passed on.
"""

from typing import Literal
from urllib.parse import unquote_to_bytes

# Of one replica's own life, and of no use to a client of a pool.
_PRIVATE = frozenset((b"/v1/load_lora_adapter", b"/v1/unload_lora_adapter"))
# What asks for tokens outside `/v1/`.
_WORK = frozenset(
    (b"/generate", b"/tokenize", b"/detokenize", b"/pooling", b"/classify", b"/score", b"/rerank", b"/encode", b"/invocations")
)
_NO_WORK = frozenset((b"/tokenize", b"/detokenize", b"/v1/tokenize", b"/v1/detokenize"))
# What tells about the model, and changes nothing.
_FACTS = frozenset((b"/", b"/version", b"/ping", b"/model_info", b"/get_model_info", b"/openapi.json", b"/docs"))

Kind = Literal["work", "plain", "private", "unknown"]


def kind_of(method: str, path: bytes) -> Kind:
    """`work` goes by the policy, `plain` past it. A path is judged as a replica would read it: `%61` is `a`."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    if path in _PRIVATE or b"/../" in path or b"/./" in path or b"//" in path or path.endswith((b"/..", b"/.")):
        return "private"
    known = path.startswith(b"/v1/") or path in _WORK
    if method == "POST" and known and path not in _NO_WORK:
        return "work"
    return "plain" if known or (path in _FACTS and method in ("GET", "HEAD")) else "unknown"
