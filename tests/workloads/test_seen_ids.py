"""Ids that came before, kept as hashes."""

from hypothesis import given
from hypothesis import strategies as st

from workloads.sources.seen_ids import SeenIds


@given(batches=st.lists(st.lists(st.text(max_size=3), max_size=30), max_size=12))
def test_like_a_set_of_the_ids_themselves(batches: list[list[str]]) -> None:
    seen, known = SeenIds(), set[str]()
    for batch in batches:
        expected = []
        for one in batch:
            expected.append(one in known)
            known.add(one)
        assert seen.add(batch) == expected


def test_there_are_few_runs_after_many_batches() -> None:
    seen = SeenIds()
    for batch in range(500):
        assert not any(seen.add([f"{batch}-{i}" for i in range(7)]))
    assert sum(map(len, seen._runs)) == 3500
    assert len(seen._runs) <= 10
    assert all(seen.add([f"{batch}-0" for batch in range(500)]))
