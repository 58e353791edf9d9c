"""The wheel of timeouts, the gauges, the addresses, the words of the engines, the heads."""

import math

import pytest

from routers.serve.answer_facts import is_done, stream_error, usage
from routers.serve.exposition import Histogram, family, histogram
from routers.serve.gauges import read_gauges
from routers.serve.replica_link import Address
from routers.serve.response_head import BadResponse, parse_response_head
from routers.serve.wheel import SPAN, Wheel


class Item:
    def __init__(self) -> None:
        self.slot = -1
        self.due: list[float] = []

    def on_due(self, now_s: float) -> None:
        self.due.append(now_s)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def turned(wheel: Wheel, clock: Clock, to_s: float, step_s: float = 0.05) -> None:
    while clock.now_s < to_s:
        clock.now_s = min(to_s, clock.now_s + step_s)
        wheel.advance()


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05, 0.33, 1.0, 10.0, 25.0])
@pytest.mark.parametrize("step_s", [0.05, 0.37])
def test_what_is_due_comes_not_early_and_at_most_two_ticks_late(after_s: float, step_s: float) -> None:
    clock = Clock()
    wheel, item = Wheel(0.05, clock), Item()
    wheel.add(item, clock() + after_s)
    turned(wheel, clock, 130.0, step_s)
    (due_s,) = item.due
    assert after_s - 1e-9 <= due_s - 100.0 <= after_s + 0.1 + step_s
    assert item.slot == -1


def test_far_timeouts_are_looked_at_early() -> None:
    clock = Clock()
    wheel, item = Wheel(0.05, clock), Item()
    wheel.add(item, clock() + 1000)
    turned(wheel, clock, 100 + SPAN * 0.05 + 0.1)
    assert len(item.due) == 1


def test_what_is_removed_or_put_off_is_not_due() -> None:
    clock = Clock()
    wheel, gone, later = Wheel(0.05, clock), Item(), Item()
    wheel.add(gone, clock() + 1)
    wheel.add(later, clock() + 1)
    wheel.remove(gone)
    wheel.remove(gone)
    wheel.add(later, clock() + 2)
    turned(wheel, clock, 101.5)
    assert (gone.due, later.due, wheel.size) == ([], [], 1)
    turned(wheel, clock, 102.2)
    assert (len(later.due), wheel.size) == (1, 0)


def test_a_timeout_may_remove_another_of_the_same_tick() -> None:
    clock = Clock()
    wheel = Wheel(0.05, clock)

    class Killer(Item):
        def on_due(self, now_s: float) -> None:
            super().on_due(now_s)
            for other in items:
                wheel.remove(other)

    items = [Killer() for _ in range(5)]
    for item in items:
        wheel.add(item, clock() + 1)
    turned(wheel, clock, 102.0)
    assert sum(len(item.due) for item in items) == 1


def test_a_machine_that_slept_finds_everything_due() -> None:
    clock = Clock()
    wheel, items = Wheel(0.05, clock), [Item() for _ in range(100)]
    for n, item in enumerate(items):
        wheel.add(item, clock() + n / 5)
    clock.now_s += 1e6
    wheel.advance()
    assert all(len(item.due) == 1 for item in items)


SGLANG = b'sglang:num_running_reqs{m="a"} 2\nsglang:num_queue_reqs{m="a"} 1\nsglang:token_usage{m="a"} 0.5\n'
RANKS = (
    b"vllm:num_requests_running 2\nvllm:num_requests_running 3 1700000000\n"
    b"vllm:num_requests_waiting 1\nvllm:num_requests_waiting 0\n"
    b"vllm:kv_cache_usage_perc 0.2\nvllm:kv_cache_usage_perc 0.4\nstampede:latency_seconds 0.7\n"
)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (SGLANG, (1, 2, 0.5, 0.01)),
        (RANKS, (1, 5, 0.3, 0.7)),
        (RANKS.replace(b"kv_cache", b"gpu_cache"), (1, 5, 0.3, 0.7)),
        (b"", None),
        (b"vllm:num_requests_running x\n", None),
        (SGLANG.replace(b"0.5", b"NaN"), None),
        (SGLANG.replace(b" 2", b" 1e400"), None),
        (b"\xff\x00" + SGLANG[:40], None),
    ],
)
def test_gauges_of_either_engine(text: bytes, seen: tuple[float, ...] | None) -> None:
    made = read_gauges(text, 0.01)
    if seen is None:
        assert made is None
    else:
        assert made is not None
        assert (made.waiting, made.running) == seen[:2]
        assert math.isclose(made.kv_used, seen[2])
        assert made.latency_s == seen[3]


@pytest.mark.parametrize(
    ("text", "url", "bootstrap"),
    [
        ("http://h:8001", "http://h:8001", None),
        ("http://h:8001/", "http://h:8001", None),
        ("https://h", "https://h:443", None),
        ("http://h:1/pool/a", "http://h:1/pool/a", None),
        ("http://[::1]:9,8998", "http://[::1]:9", 8998),
    ],
)
def test_addresses(text: str, url: str, bootstrap: int | None) -> None:
    address = Address.of(text)
    assert (address.url, address.bootstrap_port) == (url, bootstrap)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h:1",
        "ftp://h:1",
        "http://",
        "http://h:0x1",
        "http://h:70000",
        "http://u:p@h:1",
        "http://h:1?a=b",
        "http://h:1,x",
        "http://h:1/a b",
        "http://h:1/\r\nx",
    ],
)
def test_what_is_no_address_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^replica .*: ") as raised:
        Address.of(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b'data: {"error": {"message": "full", "code": 503}}\n\n', 503),
        (b'1f\r\ndata: {"error":{"code":"429"}}\n\n\r\n', 429),
        (b'data: {"id": 1}\n\ndata: {"error":{"message":"m"}}\n\n', 500),
        (b'data: {"object":"error","code":400}\n\n', 400),
        (b'data: {"error": {"code": 200}}\n\n', 500),
        (b'data: {"choices":[{"text":"an \\"error\\": x"}]}\n\n', None),
        (b"data: [DONE]\n\n", None),
        (b"", None),
    ],
)
def test_errors_inside_streams(data: bytes, status: int | None) -> None:
    assert stream_error(data) == status


def test_the_usage_is_the_last_word() -> None:
    tail = b'"usage":{"completion_tokens":3}} x "usage": {"completion_tokens": 16, "prompt_tokens_details": {"cached_tokens": 4}}'
    assert usage(tail) == (16, 4)
    assert usage(b'{"usage": {"input_tokens": 1, "output_tokens": 2}}') == (2, None)
    assert usage(b"nothing") == (None, None)
    assert is_done(b"data: [DONE]\n\n")
    assert not is_done(b"data: {}\n\n")


def test_heads_are_parsed_once_and_bodies_counted_anew() -> None:
    data = b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nX: y\r\n\r\n"
    first, second = parse_response_head(data, False), parse_response_head(data, False)
    assert first.body is not second.body
    assert first.for_client == second.for_client == b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nX: y\r\n"
    assert parse_response_head(data, True).body is None
    for _ in range(2):
        with pytest.raises(BadResponse):
            parse_response_head(b"HTTP/1.1 abc\r\n\r\n", False)


def test_labels_are_escaped_and_buckets_add_up() -> None:
    assert family("n", "gauge", "About.", [((("a", 'x"\\\ny'),), 2.0)])[2] == 'n{a="x\\"\\\\\\ny"} 2'
    made = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        made.observe(value)
    assert histogram("h", "About.", [((), made)])[2:] == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="2"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 12",
        "h_count 4",
    ]
