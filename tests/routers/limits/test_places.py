"""Places: whatever is told in whatever order, nothing stays once all have left."""

from hypothesis import given
from hypothesis import strategies as st

from routers.limits.places import Places

events = st.lists(
    st.tuples(st.sampled_from(("grant", "send", "end", "leave")), st.integers(0, 3), st.integers(0, 2), st.integers(1, 9))
)


def test_a_grant_becomes_a_try_and_a_try_ends() -> None:
    places = Places()
    places.grant(1, 5)
    assert (places.granted, places.sent) == (5, 0)
    places.send(1, 7, 5)
    assert (places.granted, places.sent, places.at(7)) == (0, 5, 5)
    places.end(1, 7)
    places.end(1, 7)  # told twice
    assert (places.sent, places.at(7), bool(places)) == (0, 0, False)


def test_a_pair_has_two_tries_and_the_half_that_failed_elsewhere_ends_the_latest() -> None:
    places = Places()
    places.send(1, 7)
    places.send(1, 8)
    places.end(1, 7)
    assert (places.at(7), places.at(8)) == (0, 1)
    places.end(1, 9)
    assert not places


@given(events)
def test_sums_are_those_of_the_parts_and_return_to_zero(events: list[tuple[str, int, int, int]]) -> None:
    places = Places()
    for what, rid, replica, weight in events:
        if what == "grant":
            places.grant(rid, weight)
        elif what == "send":
            places.send(rid, replica, weight)
        elif what == "end":
            places.end(rid, replica)
        else:
            places.leave(rid)
        assert places.sent == sum(places.at(i) for i in range(3))
        assert min(places.sent, places.granted) >= 0
    for rid in range(4):
        places.leave(rid)
    assert (places.sent, places.granted, bool(places)) == (0, 0, False)
