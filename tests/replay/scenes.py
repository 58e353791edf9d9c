"""Small workloads and cells for tests of the replay: enough to show one effect each."""

from collections.abc import Sequence
from typing import Any

from replay.cell import Cell, Named, PoolSpec, SessionRule
from replay.observation import ObservationRule
from replay.retry import RetryRule
from replicas.view import Role
from workloads.request import Request, Segment
from workloads.workload import Phase, Workload

SYSTEM = Segment(7, 64)


def single_turns(arrivals_s: Sequence[float], prompt_tokens: int = 256, output_tokens: int = 8) -> Workload:
    """One-turn sessions at the given times; prompts share a system prompt of 64 tokens."""
    requests = tuple(
        Request(i, i, 0, at, None, (SYSTEM, Segment(1000 + i, prompt_tokens - 64)), 9_000_000 + i, output_tokens, 0)
        for i, at in enumerate(arrivals_s)
    )
    end_s = max(arrivals_s, default=0.0) + 1.0
    return Workload.of("single turns", 1, (Phase("steady", end_s, len(requests) / end_s),), requests, {})


def sharing(n: int, groups: int = 6, every_s: float = 0.2, shared_tokens: int = 2048) -> Workload:
    """Single turns of `groups` kinds in turn, each kind with a long prompt beginning of its own."""
    requests = tuple(
        Request(i, i, 0, every_s * i, None, (Segment(50 + i % groups, shared_tokens), Segment(1000 + i, 64)), 9_000_000 + i, 8, 0)
        for i in range(n)
    )
    return Workload.of("sharing", 1, (Phase("steady", every_s * n + 1, 1 / every_s),), requests, {})


def conversation(turns: int, think_s: float = 1.0, horizon_s: float = 100.0) -> Workload:
    """One session of several turns, each prompt holding the history."""
    requests: list[Request] = []
    segments: tuple[Segment, ...] = (SYSTEM,)
    for turn in range(turns):
        segments = (*segments, Segment(100 + turn, 50))
        reply_id, output_tokens = 5000 + turn, 40
        arrival_s, think = (0.0, None) if turn == 0 else (None, think_s)
        requests.append(Request(turn, 0, turn, arrival_s, think, segments, reply_id, output_tokens, 0))
        segments = (*segments, Segment(reply_id, output_tokens))
    return Workload.of("conversation", 1, (Phase("steady", horizon_s, turns / horizon_s),), tuple(requests), {})


def cell(
    router: str = "round_robin",
    guards: tuple[tuple[str, dict[str, Any]], ...] = (),
    client: RetryRule | None = None,
    replicas: int = 2,
    roles: tuple[Role, ...] = (),
    changes: dict[str, Any] | None = None,
    **parameters: Any,
) -> Cell:
    """A cell with sensible small defaults; `parameters` are the router's."""
    return Cell(
        router=Named(router, router, parameters),
        guards=tuple(Named(name, name, p) for name, p in guards),
        guard_label="+".join(name for name, _ in guards) or "none",
        pool=PoolSpec("pool", replicas, "h100-vllm-llama8b", "", changes or {}, roles),
        client=client or RetryRule("one try", ttft_timeout_s=None, max_attempts=1),
        session=SessionRule(),
        workload="",
        workload_hash="",
        workload_label="test",
        load_rps=1.0,
        trigger={"kind": "placebo", "k": 1.0, "d_s": 0.0},
        observation=ObservationRule(age_s=0.5),
        max_tokens=4096,
        drain_s=30.0,
        seed=1,
    )
