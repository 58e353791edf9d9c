"""Token counts of text without a tokenizer. It does not know any model's vocabulary."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# (what to count, tokens each), by least squares on GPT-2 counts of 2,435 ShareGPT messages; every character adds _PER_CHARACTER.
_WEIGHTS = ((r"[0-9]", 0.46), (r"[!-/:-@\[-`{-~]", 1.12), (r"\s", 0.75), (r"[^\x00-\x7f]", 2.0))
_PER_CHARACTER = 0.05

ESTIMATOR = "estimated: 0.05/char + 0.75/space + 1.12/punctuation + 0.46/digit + 2/non-ASCII (GPT-2 means within 2%)"


def estimate_tokens(texts: Sequence[str]) -> npt.NDArray[np.int32]:
    """Estimated tokens of each text: 0 for an empty one, else at least 1; linear in the number of characters of four classes.

    Fitted to GPT-2's own counts on filtered ShareGPT messages: user and reply means come out 1.7% and 1.0% low (116.0 for
    118.0, 290.1 for 292.9); one message of more than 20 tokens is off by 5% on average, by 12% at p90 and 31% at p99 (runs of
    spaces, rare scripts), short questions come out low (median 15 for 17). About 40 MB of text a second.
    """
    import polars as pl

    column = pl.Series("text", list(texts), dtype=pl.String)
    counts = column.str.len_chars().to_numpy() * _PER_CHARACTER
    for pattern, weight in _WEIGHTS:
        counts = counts + column.str.count_matches(pattern).to_numpy() * weight
    empty = column.str.len_bytes().to_numpy() == 0
    return np.where(empty, 0, np.maximum(1, np.rint(counts))).astype(np.int32)
