"""Which sessions stay: by language, model, length and time, by share, and by a split that no order or seed can change."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.workloads.traces import blocks, chat, trace_of
from workloads.conversation import Conversation, Turn
from workloads.selection import Selection, select
from workloads.trace_table import Trace


def some() -> Trace:
    made = [
        chat("a", (10, 5), start_s=0.0, language="English", model="m1"),
        chat("b", (10, 5), (20, 5), start_s=10.0, language="German", model="m1"),
        chat("c", (10, 500), (20, 5), (1, 1), start_s=20.0, language="English", model="m2"),
        chat("d", (9000, 5), start_s=30.0, model="m2"),
    ]
    return trace_of(*made)


def kept(**conditions: Any) -> list[str]:
    return [c.conversation_id for c in select(some(), Selection.of(conditions)).conversations]


CASES = [
    ({"language": ["english"]}, ["a", "c"]),
    ({"language": ["English", "German"], "model": ["m1"]}, ["a", "b"]),
    ({"turns": [2, None]}, ["b", "c"]),
    ({"turns": [None, 1]}, ["a", "d"]),
    ({"turns": [2, 2]}, ["b"]),
    ({"input_tokens": [None, 100]}, ["a", "b"]),
    ({"input_tokens": [35, 35]}, ["b"]),  # 10 + 5 + 20: the longest prompt, history included
    ({"output_tokens": [100, None]}, ["c"]),
    ({"window_s": [10, 30]}, ["b", "c"]),
    ({}, ["a", "b", "c", "d"]),
]


@pytest.mark.parametrize(("conditions", "names"), CASES)
def test_whole_sessions_that_meet_every_condition_stay(conditions: dict[str, Any], names: list[str]) -> None:
    assert kept(**conditions) == names


def test_what_goes_is_counted_by_the_first_condition_it_fails() -> None:
    dropped = select(some(), Selection.of({"turns": [2, None], "language": ["English"]})).provenance["rows_dropped"]
    assert dropped == {
        "selected out (sessions): language not English": 2,
        "selected out (sessions): turns not in [2, None]": 1,
    }


def many(order: int = 1) -> Trace:
    return trace_of(*(chat(f"s{i}", (1, 1)) for i in range(4000)[::order]))


def names(trace: Trace) -> set[str]:
    return {c.conversation_id for c in trace.conversations}


def test_train_and_holdout_are_the_whole_and_share_nothing_whatever_the_order() -> None:
    train, holdout = (names(select(many(), Selection(part=part))) for part in ("train", "holdout"))
    assert train | holdout == names(many())
    assert not train & holdout
    assert len(holdout) == pytest.approx(800, abs=4 * 25)
    assert names(select(many(-1), Selection(part="holdout"))) == holdout
    assert holdout < names(select(many(), Selection(part="holdout", holdout=0.4)))


def test_a_smaller_share_is_part_of_a_larger_one_and_seeds_differ() -> None:
    small, large = (names(select(many(), Selection(share=share, seed=5))) for share in (0.25, 0.5))
    assert small < large
    assert len(small) == pytest.approx(1000, abs=4 * 27)
    other = names(select(many(), Selection(share=0.25, seed=6)))
    assert len(small & other) == pytest.approx(250, abs=60)


def test_sessions_without_names_are_split_too() -> None:
    table = many().table.drop_columns(["conversation_id"])
    plain = Trace.of_table("plain", table, many().provenance)
    assert len(select(plain, Selection(part="holdout"))) == pytest.approx(800, abs=4 * 25)


def test_rows_that_share_their_first_block_stay_or_go_together() -> None:
    rows = [Conversation(f"line-{i}", (Turn(1024, 1, blocks(i // 5, 9000 + i)),)) for i in range(1000)]
    trace = trace_of(*rows)
    trace.provenance["has_sessions"] = False
    for selection in (Selection(share=0.3), Selection(part="holdout")):
        chosen = Counter(c.turns[0].segments[0].content_id for c in select(trace, selection).conversations if c.turns[0].segments)
        assert set(chosen.values()) == {5}


BAD = [
    ({"language": ["Klingon"]}, "select keeps no session of 'by hand'"),
    ({"turns": [3, 1]}, "select.turns is \\[3, 1\\]; the least is above the most"),
    ({"turns": 3}, "select.turns is 3; expected \\[least, most\\]"),
    ({"turns": ["two", None]}, "select.turns is .*expected \\[least, most\\]"),
    ({"share": 0}, "select.share is 0; expected > 0 and ≤ 1"),
    ({"part": "half"}, "select.part is 'half'; allowed: all, train, holdout"),
    ({"holdout": 1.0}, "select.holdout is 1.0"),
    ({"languages": ["English"]}, "select.languages is unknown; allowed: language, model"),
    ({"language": "English"}, "select.language is 'English'; expected a list of names"),
]


@pytest.mark.parametrize(("conditions", "said"), BAD)
def test_bad_conditions_are_named(conditions: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        select(some(), Selection.of(conditions))


def test_a_condition_on_what_the_trace_does_not_hold_is_refused() -> None:
    bare = trace_of(Conversation("x", chat("x", (1, 1)).turns))
    with pytest.raises(ValueError, match=r"select.language is \['English'\]; the trace 'by hand' names no language"):
        select(bare, Selection(language=("English",)))
    with pytest.raises(ValueError, match=r"select\.window_s needs a clock"):
        select(bare, Selection(window_s=(0, 1)))


def test_arrays_follow_the_rows() -> None:
    chosen = select(some(), Selection.of({"turns": [2, None]}))
    assert chosen.user_tokens.tolist() == [10, 20, 10, 20, 1]
    assert chosen.turns.tolist() == [2, 3]
    assert np.allclose(chosen.start_s, [0.0, 10.0]), "a selection counts from its own first event"
