"""SGLang's own longest-prefix-first order and ours, on the same queues over the same cached prefixes."""

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicas.radix_cache import RadixCache, RadixLease
from replicas.schedulers.prefix_order import MOST_SORTED, LongestPrefixFirst
from replicas.sequence import Sequence
from workloads.request import Prompt, Segment

pytestmark = pytest.mark.engine

Segments = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Queue:
    """Prompts in the order of arrival, over a tree that holds the `cached` ones; `page` tokens are cached together."""

    cached: tuple[Segments, ...]
    waiting: tuple[Segments, ...]
    page: int

    def to_json(self) -> str:
        return json.dumps(
            {"cached": [tokens(s) for s in self.cached], "waiting": [tokens(s) for s in self.waiting], "page": self.page}
        )


Sorter = Callable[[Queue], list[int]]


def tokens(segments: Segments) -> list[int]:
    return [content * 1_000_000 + i for content, n in segments for i in range(n)]


def drawn(seed: int, most_waiting: int = 40) -> Queue:
    """Growing sessions behind a few system prompts, some of them as short as what SGLang calls a short prefix."""
    draw = random.Random(seed)
    systems = [(1 + i, draw.choice([5, 31, 32, 33, 60, 200])) for i in range(4)]
    sessions: list[Segments] = []
    for number in range(draw.randint(2, most_waiting)):
        base = draw.choice(sessions) if sessions and draw.random() < 0.5 else (draw.choice(systems),)
        sessions.append((*base, (100 + number, draw.choice([1, 7, 32, 40, 100]))))
    cached = tuple(s for s in sessions if draw.random() < 0.3)
    waiting = [s if draw.random() < 0.7 else (*s, (10_000 + n, draw.randint(1, 50))) for n, s in enumerate(sessions)]
    draw.shuffle(waiting)
    return Queue(cached, tuple(waiting), draw.choice([1, 1, 16]))


def ours(queue: Queue) -> list[int]:
    cache = RadixCache(100_000, queue.page)
    for segments in queue.cached:
        prompt, lease = prompt_of(segments), RadixLease(cache.root)
        lease.blocks = prompt.tokens // queue.page
        cache.take(lease.blocks)
        cache.insert(lease, prompt.keys, prompt.ends, prompt.tokens)
    waiting, order = LongestPrefixFirst(cache), []
    for number, segments in enumerate(queue.waiting):
        waiting.push(Sequence(number, prompt_of(segments), -1 - number, 1))
    waiting.sort()
    while (sequence := waiting.head()) is not None:
        order.append(sequence.try_id)
        waiting.pop()
    return order


def prompt_of(segments: Segments) -> Prompt:
    return Prompt.of(tuple(Segment(*s) for s in segments))


@pytest.fixture(scope="module")
def theirs(sglang_python: Path) -> Iterator[Sorter]:
    command = [str(sglang_python), "-W", "ignore", str(Path(__file__).with_name("sglang_order.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def order(queue: Queue) -> list[int]:
            to.write(queue.to_json() + "\n")
            to.flush()
            line = answers.readline()
            assert line, f"SGLang's policy died on {queue}"
            found: list[int] = json.loads(line)
            return found

        yield order
        to.close()
        process.kill()


def test_random_queues_are_served_in_the_same_order(theirs: Sorter) -> None:
    """Hundreds of queues; most of them must be out of the order of arrival, or the comparison says little."""
    queues = [drawn(seed) for seed in range(400)]
    orders = [theirs(queue) for queue in queues]
    assert sum(order != sorted(order) for order in orders) > 300
    assert [seed for seed, queue in enumerate(queues) if ours(queue) != orders[seed]] == []


@pytest.mark.parametrize("number", [MOST_SORTED, MOST_SORTED + 1])
def test_a_long_queue_is_served_as_it_stands(number: int, theirs: Sorter) -> None:
    queue = Queue((((1, 100),),), tuple(((1 + n % 2, 100), (100 + n, 10)) for n in range(1, number + 1)), 1)
    order = theirs(queue)
    assert ours(queue) == order
    assert (order == sorted(order)) == (number > MOST_SORTED)
