"""The plans that the probe's tests use. They hold no tests."""

import json
from dataclasses import replace

from reports.frontier import Sizes
from reports.probe.asks import PHASES
from reports.probe.plan import ProbePlan, Variant

SPIKE = json.dumps({"kind": "spike", "d_s": 20.0, "k": 3.0}, sort_keys=True)
PULSES = tuple(
    json.dumps(trigger, sort_keys=True)
    for trigger in (
        {"kind": "spike", "d_s": 20.0, "k": 3.0},
        {"kind": "kill", "d_s": 20.0, "replica_id": 0},
        {"kind": "pause", "d_s": 20.0, "replica_id": 0},
        {"kind": "flush", "d_s": 20.0, "replica_id": None},
        {"kind": "refuse", "d_s": 20.0, "share": 1.0, "status": 503},
        {"kind": "long_prompts", "d_s": 20.0, "share": 0.2},
        {"kind": "blackout", "d_s": 20.0},
    )
)
VARIANTS = (
    Variant("no_retries", "retry amplification", "without client retries"),
    Variant("cancel", "dead work", "with timed-out requests cancelled in the engine"),
    Variant("no_cache", "prefix-cache collapse", "without a prefix cache"),
    Variant("more_kv", "KV thrash", "with KV memory for all"),
    Variant("queue_cap", "unbounded queue", "with a cap on the engine's queue"),
    Variant("no_affinity", "hot replica", "without affinity", (("consistent_hash", "none"),)),
)

DEFAULT = ProbePlan(
    routers=("round_robin", "least_outstanding", "power_of_two", "consistent_hash", "cache_aware", "epp_weighted"),
    guards=("none", "retry budget", "queue cap"),
    fractions=(0.5, 0.7, 0.9),
    c_ref_rps=30.0,
    pulses=PULSES,
    spike=SPIKE,
    lengths_s=(20.0,),
    sizes=Sizes(),
    variants=VARIANTS,
    cures=("retry budget", "queue cap", "breaker", "codel", "budget and cap"),
    wanted_k=4.0,
    wanted_fraction=0.7,
    steps=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1),
    dwell_s=60.0,
    phases=PHASES,
)
"""As large as the shipped preset: 6 routers × 3 guard sets × 3 loads."""

ONE = replace(
    DEFAULT,
    routers=("round_robin",),
    guards=("none",),
    fractions=(0.7,),
    cures=("budget",),
    placebo_seeds=4,
    phases=("frontier",),
)
"""One arm, one load, the frontier alone."""
