"""What a decision costs: CPU µs of `choose` for every policy at 64 replicas, and of an index of a million entries.

`pytest tests/benchmarks/test_policy_speed.py -m benchmark -s` prints the figures; measure on a quiet machine.
"""

import random
import time
import tracemalloc
from collections.abc import Callable, Sequence

import pytest

from replicas.profile import EngineProfile
from replicas.view import Observation, ReplicaView
from routers.policies import POLICIES
from routers.policy import KvEvent, Policy, RoutedRequest, TryEnd
from routers.prefixes.block_index import ApproximateIndex, BlockIndex, ExactIndex
from routers.prefixes.prefix_index import PrefixIndex
from tests.routers.every_policy import built, pool_for
from workloads.request import Prompt, Segment

pytestmark = pytest.mark.benchmark

REPLICAS = 64
TURNS = 4  # a prompt: one of 8 system prompts, then question and answer of each turn
STATELESS_US, OTHER_US = 2.0, 25.0
# rules that keep no more than a ring or a count; all others look into an index or score every replica
STATELESS = {
    "random",
    "round_robin",
    "least_outstanding",
    "power_of_two",
    "power_of_two_stale",
    "consistent_hash",
    "consistent_hash_two_choices",
    "maglev",
    "least_tokens",
    "join_idle_queue",
}


def conversation(number: int, turns: int = TURNS) -> Prompt:
    segments = [Segment(1 + number % 8, 800)]
    for turn in range(turns):
        segments += [Segment(1_000_000 + 100 * number + 2 * turn, 120), Segment(1_000_001 + 100 * number + 2 * turn, 200)]
    return Prompt.of(tuple(segments))


def requests(n: int, first: int = 0) -> list[RoutedRequest]:
    return [RoutedRequest(i, i, 1, i % 97, i % 5, conversation(i % 500), 256, 1e9) for i in range(first, first + n)]


def cpu_us(work: Callable[[], object], calls: int, repeats: int = 7) -> float:
    """The least CPU time of some repeats, a call."""
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent) / calls * 1e6


def warmed(name: str) -> tuple[Policy, list[ReplicaView]]:
    """The policy after 2,000 requests, a quarter of them under way, at replicas with all kinds of gauges."""
    views, policy = pool_for(name, REPLICAS), built(name, REPLICAS, EngineProfile.load("h100-vllm-llama8b"))
    dice = random.Random(1)
    for view in views:
        seen = Observation(dice.randrange(5), dice.randrange(40), dice.random(), 0.1 * dice.random())
        view.waiting, view.running, view.kv_used, view.observed_s = seen.waiting, seen.running, seen.kv_used, 0.0
        policy.on_observation(view, 0.0)
        policy.on_probe(view.replica_id, seen, 0.0)
    for request in requests(2000):
        now_s = 0.001 * request.rid
        decision = policy.choose(request, views, now_s)
        policy.on_sent(request, decision, now_s)
        if request.rid % 4:
            policy.on_first_token(request, decision, now_s)
            policy.on_end(request, decision, TryEnd(True, 200, decision.replica_id, 1, True, 50), now_s)
        else:
            views[decision.replica_id].in_flight += 1
            views[decision.replica_id].in_flight_tokens += request.prompt.tokens
    return policy, views


@pytest.mark.parametrize("name", POLICIES)
def test_a_choice_at_64_replicas(name: str) -> None:
    policy, views = warmed(name)
    asked = requests(500, first=2000)
    choose, now_s = policy.choose, 2.0

    def work() -> None:
        for request in asked:
            choose(request, views, now_s)

    def whole() -> None:
        for request in asked:
            decision = choose(request, views, now_s)
            policy.on_sent(request, decision, now_s)
            policy.on_first_token(request, decision, now_s)
            policy.on_end(request, decision, ended, now_s)

    ended = TryEnd(True, 200, 0, 1, True, 50)
    spent = cpu_us(work, len(asked))
    print(f"\n{name}: {spent:.2f} µs a choice, {cpu_us(whole, len(asked), repeats=3):.2f} µs a request from choice to end")
    assert spent <= (STATELESS_US if name in STATELESS else OTHER_US) * 1.5  # the machine is not always quiet


def fill(index: BlockIndex | PrefixIndex, conversations: int) -> None:
    numbers = [0] * REPLICAS
    for number in range(conversations):
        prompt, replica_id = conversation(number), number % REPLICAS
        if isinstance(index, PrefixIndex):
            index.insert(prompt, replica_id)
        elif isinstance(index, ExactIndex):
            numbers[replica_id] += 1
            index.heard(replica_id, KvEvent(numbers[replica_id], told(prompt)), 0.0)
        else:
            index.sent(prompt, replica_id, 0.0)


def told(prompt: Prompt) -> tuple[tuple[int, int], ...]:
    starts: Sequence[int] = (0, *prompt.ends[:-1])
    return tuple((key, (end // 16 - start // 16) * 16) for key, start, end in zip(prompt.keys, starts, prompt.ends, strict=True))


def look_up(index: BlockIndex | PrefixIndex, asked: Sequence[Prompt]) -> None:
    for prompt in asked:
        if isinstance(index, PrefixIndex):
            index.longest_match(prompt)
        else:
            index.matched(prompt, 1.0)


def touch(index: BlockIndex | PrefixIndex, asked: Sequence[Prompt]) -> None:
    for prompt in asked:
        if isinstance(index, PrefixIndex):
            index.insert(prompt, 1)
        else:
            index.sent(prompt, 1, 1.0)


@pytest.mark.parametrize("kind", ["radix", "approximate", "exact"])
def test_an_index_of_a_million_entries(kind: str) -> None:
    made: dict[str, Callable[[], BlockIndex | PrefixIndex]] = {
        "radix": lambda: PrefixIndex(range(REPLICAS), 1 << 40),
        "approximate": lambda: ApproximateIndex(range(REPLICAS), 16, 1 << 40, 120.0),
        "exact": lambda: ExactIndex(range(REPLICAS), 16, 1 << 40),
    }
    index = made[kind]()
    tracemalloc.start()
    fill(index, 12_500)
    megabytes = 10 * tracemalloc.get_traced_memory()[0] / 1e6  # a tenth: tracing the whole takes half a minute
    tracemalloc.stop()
    index = made[kind]()
    built = cpu_us(lambda: fill(index, 125_000), 125_000, repeats=1)
    asked = [conversation(number * 1000) for number in range(125)]
    looked = cpu_us(lambda: look_up(index, asked), len(asked))
    added = cpu_us(lambda: touch(index, asked), len(asked))
    print(
        f"\n{kind}: {len(index):,} entries, ~{megabytes:.0f} MB, {built:.1f} µs to add a prompt of {2 * TURNS + 1} segments, "
        f"{looked:.1f} µs to look one up, {added:.1f} µs to touch one"
    )
    assert len(index) >= 1_000_000
    assert looked <= 10.0
    assert added <= 20.0
