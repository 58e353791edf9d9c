"""A number is a function of its key alone, however it is asked for."""

from workloads.draws import Draws, purpose_id, uniform


def test_the_draws_of_a_purpose_are_those_of_its_full_key() -> None:
    purpose = purpose_id("test")
    draws = Draws(purpose)
    parts = [0, 1, 2, 10**6, (1 << 64) - 1]
    assert [draws.uniform(part) for part in parts] == [uniform(purpose, part) for part in parts]
    assert len({draws.uniform(part) for part in parts}) == len(parts)
