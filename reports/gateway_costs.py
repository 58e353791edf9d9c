"""What stands in front of a live pool and what it costs by itself: added TTFT, processor time, memory. It makes no table."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from reports.leaderboard import NOTHING, Interval
from reports.statistics import t_interval

DIRECT, OURS, PASS_THROUGH = "direct", "stampede", "round_robin"
ADDED = ("ttft_p50_s", "ttft_p99_s")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a gateway does to requests on their way, found in `forms` (kinds of request)."""

    change: str
    where: str
    field: str
    sent: str
    received: str
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GatewayCost:
    """One arm of a live pool in the steady phase.

    `added`: TTFT less that of the direct arm in seconds, by metric: mean of the seeds' differences (each of means over repeats),
    absent where a percentile fell on failures or no direct arm was run. `cpu_s_per_request`: processor time of its process over
    the attempts sent in whole runs. `memory_bytes`: the most in any run. `rewriting`: None where nobody looked.
    """

    router: str
    condition: str
    gateway: str
    arm: str
    version: str
    policy: str
    at_work: str
    added: dict[str, Interval]
    cpu_s: float | None
    cpu_s_per_request: float | None
    memory_bytes: int | None
    rewriting: tuple[Change, ...] | None

    @property
    def kind(self) -> str:
        """direct, pass-through (our router, taking turns), our router with another rule, or a gateway."""
        if self.gateway == DIRECT:
            return "direct"
        if self.gateway:
            return "gateway"
        return "pass-through" if self.policy == PASS_THROUGH else "our router"


@dataclass
class _Arm:
    facts: list[Any] = field(default_factory=list)
    ttft: dict[str, dict[int, list[float | None]]] = field(default_factory=lambda: {m: defaultdict(list) for m in ADDED})


def gateway_costs(con: duckdb.DuckDBPyConnection) -> list[GatewayCost]:
    """A row an arm of the entered scene with a sound run, direct first, then pass-through, our router, gateways."""
    arms: dict[tuple[str, str], _Arm] = defaultdict(_Arm)
    for condition, router, seed, p50, p99, *facts in con.sql("""
        WITH sent AS (SELECT cell_id, count(*) AS attempts FROM attempts WHERE client_attempt >= 1 GROUP BY cell_id)
        SELECT p.condition, p.router, p.seed, c.ttft_p50_s, c.ttft_p99_s, c.gateway, c.arm, c.policy, l.gateway_version,
               l.gateway_policy, l.reported_policy, l.gateway_cpu_s, l.gateway_memory_bytes, l.rewriting::VARCHAR, s.attempts
        FROM sound p JOIN cells c USING (cell_id) JOIN live_cells l USING (cell_id) LEFT JOIN sent s USING (cell_id)
        WHERE c.phase = 'steady' ORDER BY ALL""").fetchall():
        arm = arms[condition, router]
        arm.facts.append(facts)
        for metric, value in zip(ADDED, (p50, p99), strict=True):
            arm.ttft[metric][seed].append(value)
    direct = {condition: arm for (condition, _), arm in arms.items() if arm.facts[0][0] == DIRECT}
    costs = [_cost(condition, router, arm, direct.get(condition)) for (condition, router), arm in arms.items()]
    order = ("direct", "pass-through", "our router", "gateway")
    return sorted(costs, key=lambda c: (c.condition, order.index(c.kind), c.gateway, c.router))


def _cost(condition: str, router: str, arm: _Arm, direct: _Arm | None) -> GatewayCost:
    gateway, configured, policy, version, asked, at_work, *_ = arm.facts[0]
    attempts = sum(facts[9] or 0 for facts in arm.facts)
    cpu_s = [facts[6] for facts in arm.facts if facts[6] is not None]
    memory = [facts[7] for facts in arm.facts if facts[7] is not None]
    rewriting = next((facts[8] for facts in arm.facts if facts[8] is not None), None)
    known = bool(cpu_s) and len(cpu_s) == len(arm.facts) and gateway != DIRECT
    return GatewayCost(
        router=router,
        condition=condition,
        gateway=gateway,
        arm=configured,
        version=version or "",
        policy=asked or policy,
        at_work=at_work or asked or policy,
        added={} if direct is None or gateway == DIRECT else {m: _added(arm.ttft[m], direct.ttft[m]) for m in ADDED},
        cpu_s=sum(cpu_s) / len(cpu_s) if known else None,
        cpu_s_per_request=sum(cpu_s) / attempts if known and attempts else None,
        memory_bytes=max(memory) if memory and gateway != DIRECT else None,
        rewriting=None if rewriting is None else _changes(json.loads(rewriting)),
    )


def _added(own: dict[int, list[float | None]], direct: dict[int, list[float | None]]) -> Interval:
    """Mean over the seeds that both have of own − direct; nothing where any of their runs is censored."""
    seeds = sorted(own.keys() & direct.keys())
    pairs = [(_mean(own[seed]), _mean(direct[seed])) for seed in seeds]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    if not pairs or len(differences) < len(pairs):
        return Interval(None, None, None, len(pairs), censored=bool(pairs))
    found = t_interval(differences)
    return Interval(found.mean, found.low, found.high, len(differences))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _changes(told: Iterable[dict[str, Any]]) -> tuple[Change, ...]:
    """What was found, the same change to several forms of request once."""
    forms: dict[tuple[str, str, str, str, str], list[str]] = {}
    for row in told:
        change, where, name, sent, received = (str(row.get(key, "")) for key in ("change", "where", "field", "sent", "received"))
        key = (change, where, name, sent, received)
        forms.setdefault(key, []).append(str(row.get("form", "")))
    return tuple(Change(a, b, c, d, e, tuple(found)) for (a, b, c, d, e), found in forms.items())


def added_of(cost: GatewayCost, metric: str) -> Interval:
    return cost.added.get(metric, NOTHING)
