"""Token counts of text without a tokenizer. It does not know any model's vocabulary."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ESTIMATOR = "estimated: 0.05/char + 0.75/space + 1.12/punctuation + 0.46/digit + 2/non-ASCII (GPT-2 means within 2%)"


def _byte_weights() -> bytes:
    """Hundredths of a token for each byte of UTF-8; the bytes that continue a character weigh nothing."""
    weights = np.zeros(256, dtype=np.uint8)
    weights[:128] = 5
    for classed, more in ((b"0123456789", 46), (b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", 112), (b" \t\n\v\f\r", 75)):
        weights[list(classed)] += more
    weights[0xC0:] = 205
    return weights.tobytes()


_WEIGHTS = _byte_weights()


def estimate_tokens(texts: Sequence[str]) -> npt.NDArray[np.int32]:
    """Estimated tokens of each text: 0 for an empty one, else at least 1; linear in the number of characters of four classes.

    The weights are least squares on GPT-2's own counts of 2,435 filtered ShareGPT messages: user and reply means come out 1.7%
    and 1.0% low (116.0 for 118.0, 290.1 for 292.9); one message of more than 20 tokens is off by 5% on average, by 12% at p90
    and 31% at p99 (runs of spaces, rare scripts), short questions come out low (median 15 for 17). White space outside ASCII
    counts as any other non-ASCII character.
    """
    import pyarrow as pa

    return estimate_column(pa.array(texts, pa.large_string()))


def estimate_column(texts: Any) -> npt.NDArray[np.int32]:
    """`estimate_tokens` of an Arrow array of strings without nulls, from its UTF-8 bytes as they lie: about 350 MB a second."""
    import pyarrow as pa

    if not len(texts):
        return np.empty(0, dtype=np.int32)
    _, bounds, data = texts.buffers()
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    edges = np.frombuffer(bounds, dtype=width)[texts.offset : texts.offset + len(texts) + 1]
    hundredths = np.zeros(len(texts), dtype=np.int64)
    filled = np.diff(edges) > 0
    if filled.any():  # texts lie end to end, so a filled one ends where the next filled one begins
        weights = np.frombuffer(data.slice(edges[0], edges[-1] - edges[0]).to_pybytes().translate(_WEIGHTS), dtype=np.uint8)
        hundredths[filled] = np.add.reduceat(weights, edges[:-1][filled] - edges[0], dtype=np.int64)
    return np.where(filled, np.maximum(1, np.rint(hundredths / 100)), 0).astype(np.int32)
