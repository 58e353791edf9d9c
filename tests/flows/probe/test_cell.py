"""From an ask to its cell: arms are paired, larger bursts hold smaller ones, and all that decides is part of the identity."""

from dataclasses import replace

import pytest

from flows.probe.cell import Planned, identified, planned
from flows.workload_plan import read_trace
from reports.probe.asks import Ask
from tests.flows.probe.scenes import ask, study


def made(an_ask: Ask) -> Planned:
    trace = read_trace(study())
    return planned(identified(study(), trace, an_ask), trace)


def test_all_arms_meet_the_same_requests() -> None:
    tables = [
        made(ask(k=3.0, router=router, guard=guard)).workload.table
        for router, guard in (
            ("least_outstanding", "none"),
            ("session_affinity", "none"),
            ("prequal", "limited"),
            ("prequal", "throttled"),
        )
    ]
    assert all(table.equals(tables[0]) for table in tables[1:])


def test_a_larger_burst_holds_the_smaller_one() -> None:
    small, large = (made(ask(k=k)).workload.table for k in (2.0, 3.0))
    n = len(small)
    assert len(large) > n
    assert (large.arrival_us[:n] == small.arrival_us).all()
    assert (large.prompt_tokens[:n] == small.prompt_tokens).all()


def test_every_field_of_an_ask_is_part_of_its_cell() -> None:
    plain = ask(k=3.0)
    others = [
        replace(plain, phase="cure"),
        replace(plain, router="prequal"),
        replace(plain, guard="limited"),
        replace(plain, variant="cancel"),
        replace(plain, load_rps=9.9),
        ask(k=3.1),
        replace(plain, pieces=((1.0, 30.0),)),
        replace(plain, seed=2),
        replace(plain, phase="capacity", cold=True),
        replace(plain, phase="capacity"),
    ]
    ids = {identified(study(), read_trace(study()), one).cell_id for one in (plain, *others)}
    assert len(ids) == 1 + len(others)


def test_what_it_is_judged_by_is_part_of_its_cell() -> None:
    other = study().model_copy(update={"slo": study().slo.model_copy(update={"ttft_s": 4.0})})
    ids = {identified(one, read_trace(one), ask(k=3.0)).cell_id for one in (study(), other)}
    assert len(ids) == 2


def test_prompts_without_reuse_share_nothing_and_are_as_long() -> None:
    plain, alone = (made(ask(k=2.0, variant=variant)).workload.table for variant in ("", "no_cache"))
    assert (plain.prompt_tokens == alone.prompt_tokens).all()
    assert (plain.arrival_us == alone.arrival_us).all()
    assert len(set(alone.new_ids.tolist())) == len(alone)
    assert not alone.extends.any()


def test_an_arm_that_the_study_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no router 'oracle'"):
        made(ask(router="oracle"))
    with pytest.raises(ValueError, match="no guard set 'x'"):
        made(ask(guard="x"))
    with pytest.raises(ValueError, match="no variant 'x'; allowed: no_retries, cancel"):
        made(ask(variant="x"))
