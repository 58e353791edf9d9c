"""A study names any guard with any of its parameters; what is wrong is one line that names the key and what is allowed."""

import inspect
import json
import re
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from flows.load_study import load_study
from flows.study import StudyError
from routers.guards import GUARDS, build_guard
from tests.routers.fake_driver import guard_context
from tests.routers.guards.test_guard_stacks import PROFILE, VARIANTS


def guarded(name: str, parameters: str) -> Any:
    return load_study("smoke", [f"guards.0.guards=[{{name: {name}, parameters: {parameters}}}]"])


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_guard_and_variant_is_accepted(name: str) -> None:
    for variant in VARIANTS[name]:
        study = guarded(name, json.dumps(variant))
        assert study.guards[0].guards[0].named().parameters == variant


@pytest.mark.parametrize("name", sorted(GUARDS))
def test_every_guard_has_defaults(name: str) -> None:
    assert build_guard(name, replace(guard_context(4), profile=PROFILE)) is not None


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("retry", "{bucket: 0.5}", ["retry: bucket = 0.5", "at least 1"]),
        ("client_throttle", "{k: 0.5}", ["client_throttle: k = 0.5", "at least 1"]),
        ("client_throttle", "{window: 3}", ["client_throttle: unknown parameter 'window'", "window_s"]),
        ("concurrency", "{per_replica: many}", ["concurrency: per_replica = 'many'", "a whole number or null"]),
        ("concurrency", "{pool: 0}", ["concurrency: pool = 0", "at least 1"]),
        ("adaptive_concurrency", "{algorithm: vegas}", ["algorithm = 'vegas'", "gradient2, envoy"]),
        ("adaptive_concurrency", "{least: 30, most: 20}", ["most = 20", "at least 30"]),
        ("adaptive_concurrency", "{algorithm: envoy, initial: 9}", ["initial = 9", "envoy starts at its least"]),
        ("token_backlog", "{per_replica: 1.5}", ["token_backlog: per_replica = 1.5", "a whole number or null"]),
        ("slo_shed", "{ttft_s: -1}", ["slo_shed: ttft_s = -1", "at least 0.001"]),
        ("ejection", "{max_ejected: 10}", ["ejection: max_ejected = 10", "from 0.0 to 1.0"]),
        ("ejection", "{max_ejection_s: 1}", ["max_ejection_s = 1", "at least 30.0"]),
        ("breaker", "{on_4xx: maybe}", ["on_4xx = 'maybe'", "ignored, failure, success"]),
        ("queue", "{cap: null}", ["queue: cap = None", "a whole number"]),
        ("queue", "{order: random}", ["order = 'random'", "fifo, lifo, adaptive"]),
        ("replica_queue", "{codel_target_s: 1.0}", ["codel_interval_s = 0.1", "at least 1.0"]),
        ("gateway_queue", "{max_concurrent: true}", ["gateway_queue: max_concurrent = True", "a whole number"]),
    ],
)
def test_what_is_wrong_is_told_in_one_line(name: str, parameters: str, said: list[str]) -> None:
    with pytest.raises(StudyError) as error:
        guarded(name, parameters)
    message = str(error.value)
    assert "\n" not in message
    for part in ["guards.0.guards.0.parameters", *said]:
        assert part in message


@pytest.mark.parametrize("name", sorted(GUARDS))
def test_every_setting_of_a_guard_is_used(name: str) -> None:
    """One that is checked and then read nowhere would be a silent one."""
    module = sys.modules[GUARDS[name].__module__]
    for kind in [v for k, v in vars(module).items() if k.endswith("Settings") and isinstance(v, type)]:
        source = inspect.getsource(sys.modules[kind.__module__]) + inspect.getsource(module)
        for field in fields(kind):
            own = kind.__module__ in (module.__name__, "routers.lines.waiting_line")
            assert not own or len(re.findall(rf"\.{field.name}\b", source)) >= 1 + (f'"{field.name}"' in source), field.name
