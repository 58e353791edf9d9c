"""The array forms draw and name exactly what the scalar forms do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workloads.content import content_id
from workloads.draws import purpose_id, uniform
from workloads.mixing import content_ids, uniforms

KEYS = st.integers(-(2**62), 2**62)


@given(st.lists(st.tuples(KEYS, KEYS), min_size=1, max_size=20))
def test_equal_to_the_scalar_forms(rows: list[tuple[int, int]]) -> None:
    left, right = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    purpose = purpose_id("test")
    assert uniforms(purpose, left, right).tolist() == [uniform(purpose, a, b) for a, b in rows]
    assert content_ids(3, left, right, 7).tolist() == [content_id(3, a, b, 7) for a, b in rows]
