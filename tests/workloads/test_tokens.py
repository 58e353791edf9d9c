"""Token counts estimated from bytes."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.tokens import estimate_column, estimate_tokens

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def by_hand(text: str) -> int:
    """The rule, character by character, in hundredths."""
    if not text:
        return 0
    hundredths = 0
    for c in text:
        more = 46 if c in "0123456789" else 112 if c in PUNCTUATION else 75 if c in " \t\n\v\f\r" else 200 if ord(c) > 127 else 0
        hundredths += 5 + more
    return max(1, round(hundredths / 100))


def test_zero_for_nothing_and_at_least_one_for_something() -> None:
    assert estimate_tokens([]).tolist() == []
    assert estimate_tokens(["", ".", "a", "日本語" * 10, "", "\x00"]).tolist() == [0, 1, 1, 62, 0, 1]


@pytest.mark.parametrize(
    ("text", "tokens"), [("a" * 100, 5), ("1" * 100, 51), ("." * 100, 117), (" " * 100, 80), ("é" * 100, 205)]
)
def test_the_weight_of_each_class(text: str, tokens: int) -> None:
    assert estimate_tokens([text]).tolist() == [tokens]


@given(st.lists(st.text()))
def test_bytes_count_as_characters_do(texts: list[str]) -> None:
    assert estimate_tokens(texts).tolist() == [by_hand(text) for text in texts]


def test_a_slice_of_a_column_counts_as_its_texts() -> None:
    texts = ["ab, c", "", "x" * 300, "é", "", "12"] * 5
    for kind in (pa.string(), pa.large_string()):
        column = pa.array(texts, kind)
        for first, stop in ((0, 30), (3, 17), (4, 5), (29, 30), (7, 7)):
            sliced = estimate_column(column.slice(first, stop - first))
            assert sliced.tolist() == [by_hand(text) for text in texts[first:stop]]


def test_a_long_text_does_not_overflow() -> None:
    assert estimate_tokens(["." * (40 << 20)]).tolist() == [math.floor((40 << 20) * 1.17 + 0.5)]
    assert estimate_tokens(["x"]).dtype == np.int32
