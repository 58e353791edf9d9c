"""What a trace is like: PROVENANCE.md's numbers to their digits, and each statistic against an independent way to it."""

import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.traces import AZURE_CODE, AZURE_CONV, MOONCAKE, blocks, chat, slice_file, trace_of
from workloads.conversation import Conversation, Turn
from workloads.description import arrival_statistics, describe, index_of_dispersion, spread
from workloads.description.arrivals import dispersion_curve, hour_profile, rate_series, unix_seconds, utc, window_counts
from workloads.description.facts import beside_published
from workloads.description.reuse import lengths_only_reuse, reuse
from workloads.description.spread import Spread
from workloads.description.stack_distance import hit_curve, sums_above
from workloads.description.turn_times import ASSUMED, NOMINAL, OWN, turn_order
from workloads.request import Request, Segment
from workloads.request_table import RequestTable
from workloads.sessions import whole_trace
from workloads.sources import SOURCES
from workloads.sources.synthetic import SyntheticParameters, generate
from workloads.trace import load_trace

AIBRIX = "aibrix_8min_up_and_down/lengths_only_full.csv"
VIDUR = "vidur_processed/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv"
AGENTS = "cc_traces_weka_normalized/normalized_sample.jsonl"
ARRIVALS = (
    "n span_s rate_rps gap_cv gap_mean_s zero_gap_share unique_times iod_1s peak_to_mean_1s iod_10s peak_to_mean_10s iod_60s "
    "peak_to_mean_60s gap_acf1 median_5min_cv"
)
"""In the order of PROVENANCE.md."""
QUANTILES = "p1 p25 p50 p75 p90 p95 p99 mean max cv n"


def stated(text: str) -> list[str]:
    return text.split()


def agrees(value: float, digits: str) -> bool:
    """Equal to a number as it is written, in the last place given."""
    places = len(digits.partition(".")[2])
    return abs(value - float(digits)) <= 0.5000001 * 10.0**-places


def assert_stated(facts: dict[str, Any], names: str, written: str) -> None:
    wrong = {
        name: (facts[name], digits)
        for name, digits in zip(stated(names), stated(written), strict=True)
        if not agrees(facts[name], digits)
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("file", "arrivals", "inputs", "outputs"),
    [
        (
            AZURE_CONV,
            "9754 1753.3 5.5634 1.073 0.1798 0 9754 1.31 2.7 3.05 1.58 12.49 1.44 0.05 1.014",
            "40 398 1035 1200.8 4075 4086 4122 1237.7 14050 0.95 9754",
            "16 81 139.5 397 428 463 611.5 221.1 1000 0.77 9754",
        ),
        (
            AZURE_CODE,
            "5100 1645.9 3.0987 13.685 0.3228 0 5100 14.35 21.65 78.7 10.59 193.72 3.42 -0.003 12.004",
            "22 594.5 1472.5 2748.5 5056.4 7294.4 7436 2052.3 7437 0.96 5100",
            "6 9 13 23 54 85 232 27.3 1899 2.25 5100",
        ),
        (
            AIBRIX,
            "2026 455.9 4.444 1.815 0.2251 0.002 2022 4.55 5.4 26.46 3.16 105.93 1.95 0.295 1.638",
            "33.2 165 263.5 378.8 525 648.8 789.2 293.6 2415 0.62 2026",
            "1 16 34 82.8 179 266.8 559.8 73.3 925 1.46 2026",
        ),
    ],
)
def test_slices_have_the_statistics_of_their_provenance(file: str, arrivals: str, inputs: str, outputs: str) -> None:
    facts = describe(load_trace(str(slice_file(file))))
    assert_stated(facts["arrivals"], ARRIVALS, arrivals)
    assert_stated(facts["input_tokens"], QUANTILES, inputs)
    assert_stated(facts["output_tokens"], QUANTILES, outputs)
    assert facts["prefix_reuse"] == 0.0


def test_a_slice_without_times() -> None:
    facts = describe(load_trace(str(slice_file(VIDUR))))
    assert facts["arrivals"] is None
    assert_stated(facts["input_tokens"], QUANTILES, "58 1944.8 2712 3357 3699 3809 3928 2565.3 4035 0.37 5000")
    assert_stated(facts["output_tokens"], QUANTILES, "36 114 165 242 379 879.1 3344.3 305.3 4056 1.87 5000")


def test_mooncake_reuse_lengths_and_jittered_arrivals() -> None:
    facts = describe(load_trace(str(slice_file(MOONCAKE))))
    assert_stated(facts["input_tokens"], QUANTILES, "894 2507.5 7640 16254.5 28637.8 41793 91206.9 12870.1 123192 1.3 5719")
    assert_stated(facts["output_tokens"], QUANTILES, "3 151.5 356 476 608.2 707.1 1104.6 345.7 2000 0.73 5719")
    names = "token_share segment_share requests_with_hit median_share p90_share unique_segments requests_half_hit"
    assert_stated(facts["reuse"], names, "0.3472 0.3409 0.9998 0.2914 0.9436 96534 0.3959")
    arrivals = facts["arrivals"]
    assert (arrivals["zero_gap_share"], arrivals["unique_times"]) == (0.0, 5719)
    # another draw of U(0, 3 s) than PROVENANCE's
    assert arrivals["rate_rps"] == pytest.approx(3.1774, rel=5e-4)
    assert arrivals["gap_cv"] == pytest.approx(1.016, abs=0.03)
    assert arrivals["iod_1s"] == pytest.approx(1.05, abs=0.05)
    assert arrivals["iod_60s"] == pytest.approx(2.36, abs=0.15)


def test_mooncake_as_written_comes_in_batches() -> None:
    lines = slice_file(MOONCAKE).read_text().splitlines()
    ticks = arrival_statistics(np.array([json.loads(line)["timestamp"] / 1e3 for line in lines]))
    written = "5719 1797 3.1825 2.923 0.3143 0.8952 600 7.44 7.24 1.95 1.67 2.71 1.26 -0.117 2.928"
    assert_stated(ticks, ARRIVALS, written)


def test_agent_sessions_are_long_and_think_in_heavy_tails() -> None:
    facts = describe(load_trace(str(slice_file(AGENTS))))
    assert (facts["sessions"], facts["turns"]) == (7, 761)
    assert_stated(facts["turns_per_session"], QUANTILES, "24.2 32 60 153.5 245.4 275.7 299.9 108.7 306 0.92 7")
    inputs = "28277.2 62902 168165 247700 294626 338662 385139 165036 398002 0.62 761"
    assert_stated(facts["input_tokens"], QUANTILES, inputs)
    assert_stated(facts["output_tokens"], QUANTILES, "10 156 345 830 1902 2983 7607.6 787.1 11983 1.71 761")


# Spread --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=60))
def test_spread_equals_numpy(values: list[int]) -> None:
    made = spread(np.array(values, dtype=np.int32))
    assert made is not None
    assert made["mean"] == pytest.approx(np.mean(values))
    assert made["cv"] == pytest.approx(np.std(values) / np.mean(values) if any(values) else 0.0)
    for q in (1, 25, 50, 75, 90, 95, 99):
        assert made[f"p{q}"] == pytest.approx(np.percentile(values, q))
    assert (made["max"], made["n"]) == (max(values), len(values))


def test_unknown_times_are_left_out() -> None:
    made = spread(np.array([np.nan, 1.0, 3.0]))
    assert made is not None
    assert (made["n"], made["mean"]) == (2, 2.0)
    assert spread(np.array([np.nan])) is None
    assert spread([]) is None


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=80))
def test_a_histogram_counts_every_value_once(values: list[int]) -> None:
    made = Spread(np.array(values, dtype=np.int32)).histogram(1.0)
    assert made is not None
    assert sum(made["count"]) == len(values)
    assert made["low"][1:] == made["high"][:-1]
    for low, high, count in zip(made["low"], made["high"], made["count"], strict=True):
        assert count == sum(low <= v < high for v in values)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=80))
def test_a_histogram_of_times_counts_every_value_once(values: list[float]) -> None:
    made = Spread(np.array(values)).histogram(1e-3)
    assert made is not None
    assert sum(made["count"]) == len(values)


# Arrivals ------------------------------------------------------------------------------------------------------------


def test_constant_arrivals_do_not_vary() -> None:
    facts = arrival_statistics(np.arange(601, dtype=np.float64) / 2)
    assert facts["gap_cv"] == pytest.approx(0.0, abs=1e-9)
    assert facts["iod_10s"] == pytest.approx(0.0, abs=1e-2)
    assert facts["peak_to_mean_10s"] == pytest.approx(1.0, abs=0.05)
    assert facts["rate_rps"] == pytest.approx(601 / 300)


def test_too_short_to_say() -> None:
    facts = arrival_statistics(np.array([0.0, 0.5]))
    assert facts["iod_1s"] is None
    assert facts["gap_acf1"] is None
    same = arrival_statistics(np.array([3.0, 3.0]))
    assert (same["rate_rps"], same["gap_cv"], same["unique_times"]) == (None, None, 1)


def test_windows_are_whole_and_the_last_one_has_its_end() -> None:
    assert window_counts(np.array([0.0, 1.0, 1.5, 2.0, 2.5]), 1.0).tolist() == [1, 3]
    assert window_counts(np.array([0.0, 1.0, 1.5, 2.0]), 1.0, span_s=4.0).tolist() == [1, 2, 1, 0]
    assert index_of_dispersion(np.array([0.0, 1.0, 1.5, 2.0, 2.5]), 1.0) == pytest.approx(0.5)
    assert window_counts(np.array([0.0, 0.5]), 1.0).tolist() == []


def test_poisson_stays_at_one_and_batches_do_not() -> None:
    draw = np.random.default_rng(5)
    poisson = np.cumsum(draw.exponential(0.1, 40_000))
    curve = dispersion_curve(poisson)
    assert len(curve["iod"]) == 30
    assert max(abs(np.log(v)) for w, v in zip(curve["window_s"], curve["iod"], strict=True) if w < 50) < 0.25
    batches = dispersion_curve(np.repeat(poisson, 8))
    assert np.median(batches["iod"]) == pytest.approx(8, rel=0.1)


def test_rate_series_has_nice_bins_and_its_mean() -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 86_400, 50_000))
    series = rate_series(times, 1_700_000_000.0)
    assert series is not None
    assert series["bin_s"] == 300.0
    assert series["start_utc"] == "2023-11-14T22:13:20+00:00"
    assert len(series["rate_rps"]) <= 400
    assert np.mean(series["rate_rps"]) == pytest.approx(50_000 / 86_400, rel=0.02)


def test_hours_of_the_day_need_two_days() -> None:
    """10 a.m. to noon UTC only, over four days, at one event a minute."""
    first = 1_700_000_000.0
    midnight = first - first % 86_400 + 86_400
    times = np.concatenate([midnight + day * 86_400 + 36_000 + np.arange(120) * 60.0 for day in range(4)])
    profile = hour_profile(times, float(times[0]))
    assert profile is not None
    assert [h for h, rate in enumerate(profile["rate_rps"]) if rate > 0] == [10, 11]
    assert profile["rate_rps"][10] == pytest.approx(1 / 60, rel=0.02)
    assert hour_profile(times[:240], float(times[0])) is None
    assert unix_seconds(5_000_000) is None
    assert utc(None) is None


# Reuse ---------------------------------------------------------------------------------------------------------------


def lru_hits(requests: list[Request], order: list[int], capacity: float) -> int:
    """Prompt tokens that a least-recently-used cache hits, node by node: the newest requests stay, of one its beginning."""
    last: dict[tuple[int, ...], int] = {}
    tokens: dict[tuple[int, ...], int] = {}
    hits = 0
    for now, number in enumerate(order):
        request = requests[number]
        ids = [s.content_id for s in request.segments]
        path = [tuple(ids[: i + 1]) for i in range(len(ids))]
        tokens |= {node: s.tokens for node, s in zip(path, request.segments, strict=True)}
        in_front, begin = 0, {}
        for node in sorted(last, key=lambda n: (-last[n], len(n))):
            begin[node] = in_front
            in_front += tokens[node]
        for node in path:
            if node not in last:
                break
            hits += int(min(max(capacity - begin[node], 0), tokens[node]))
        answer = (*ids, request.reply_id)
        tokens[answer] = request.output_tokens
        last |= dict.fromkeys([*path, answer], now)
    return hits


def random_requests(draw: random.Random) -> tuple[list[Request], list[int]]:
    """A few sessions that share openings, restart now and then, and are served interleaved."""
    lengths = {content: draw.randint(1, 9) for content in range(5)}
    requests: list[Request] = []
    waiting: dict[int, list[int]] = {}
    for session in range(draw.randint(1, 6)):
        history = [Segment(0, lengths[0])] if draw.random() < 0.6 else []
        for turn in range(draw.randint(1, 5)):
            history = [] if draw.random() < 0.2 else history
            prompt = [*history, *(Segment(c, lengths[c]) for c in draw.choices(range(1, 5), k=draw.randint(1, 3)))]
            made = Request(len(requests), session, turn, 0.0, None, tuple(prompt), 1000 + len(requests), draw.randint(1, 5), 0)
            waiting.setdefault(session, []).append(len(requests))
            requests.append(made)
            history = [*prompt, Segment(made.reply_id, made.output_tokens)]
    order = []
    while waiting:
        session = draw.choice(sorted(waiting))
        order.append(waiting[session].pop(0))
        waiting = {s: left for s, left in waiting.items() if left}
    return requests, order


@pytest.mark.parametrize("seed", range(150))
def test_hits_equal_those_of_a_simulated_cache(seed: int) -> None:
    requests, order = random_requests(random.Random(seed))
    table = RequestTable.of(requests)
    endless = lru_hits(requests, order, float("inf"))
    assert int(reuse(table, np.array(order)).hit.sum()) == endless
    curve = hit_curve(table, np.array(order))
    if not endless:
        assert curve is None
        return
    assert curve is not None
    total = sum(r.prompt_tokens for r in requests)
    for size, share in zip(curve["cache_tokens"], curve["hit_share"], strict=True):
        assert share * total == pytest.approx(lru_hits(requests, order, size))
    assert curve["hit_share"][-1] * total == pytest.approx(endless)
    assert (
        lru_hits(requests, order, curve["half_of_reuse"]) >= endless / 2 > lru_hits(requests, order, curve["half_of_reuse"] - 1)
    )


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=60), st.data())
@settings(max_examples=60)
def test_sums_above_a_threshold(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    values, weights = (np.array([p[i] for p in pairs], dtype=np.int64) for i in (0, 1))
    queries = data.draw(st.lists(st.tuples(st.integers(0, len(pairs)), st.integers(0, 40)), max_size=20))
    upto, threshold = (np.array([q[i] for q in queries], dtype=np.int64) for i in (0, 1))
    expected = [sum(w for v, w in pairs[:n] if v > t) for n, t in queries]
    assert sums_above(values, weights, upto, np.minimum(threshold, values.max(initial=0))).tolist() == expected


def test_history_is_reuse_within_and_a_system_prompt_across() -> None:
    """Two sessions behind one system prompt of 100: the second one finds it in the first; later turns find their own history."""
    prefix = (Segment(7, 100),)
    facts = describe(trace_of(chat("a", (10, 20), (30, 5), prefix=prefix), chat("b", (10, 20), prefix=prefix)))["reuse"]
    assert facts["within_sessions"] == pytest.approx(130 / (110 + 160 + 110))
    assert facts["across_sessions"] == pytest.approx(100 / 380)
    assert facts["token_share"] == pytest.approx(230 / 380)
    assert facts["requests_with_hit"] == pytest.approx(2 / 3)


def test_a_restarted_prompt_finds_its_own_blocks_again() -> None:
    turns = (Turn(1024, 1, blocks(1, 2), restarts=True), Turn(1536, 1, blocks(1, 2, 3), gap_s=1.0, restarts=True))
    facts = describe(trace_of(Conversation("a", turns)))["reuse"]
    assert facts["within_sessions"] == pytest.approx(1024 / 2560)
    assert facts["across_sessions"] == 0.0


def test_the_short_way_for_lengths_agrees_with_the_long_one() -> None:
    trace = trace_of(chat("a", (10, 20), (30, 5), (1, 1)), chat("b", (0, 3)), chat("c", (4, 4), (4, 4)))
    short, long = lengths_only_reuse(trace), reuse(whole_trace(trace))
    assert short.hit.tolist() == long.hit.tolist()
    assert short.facts() == long.facts()


def test_the_order_of_turns_is_the_traces_own_or_said_to_be_assumed() -> None:
    def timed(gap_s: float | None, start_s: float | None) -> Conversation:
        return Conversation(f"{start_s}", (Turn(5, 5), Turn(5, 5, gap_s=gap_s)), start_s=start_s)

    own = trace_of(timed(100.0, 0.0), timed(1.0, 50.0))
    order, basis = turn_order(own)
    assert (order.tolist(), basis) == ([0, 2, 3, 1], OWN)
    assert turn_order(trace_of(timed(None, 0.0), timed(1.0, 50.0)))[1] == NOMINAL
    assert turn_order(trace_of(timed(None, None)))[1] == ASSUMED


# The whole -----------------------------------------------------------------------------------------------------------


def test_everything_is_json_and_every_key_is_there_for_the_smallest_trace() -> None:
    whole = describe(generate(SyntheticParameters(sessions=50)))
    least = describe(trace_of(chat("a", (1, 1))))
    empty = describe(trace_of())
    assert whole.keys() == least.keys() == empty.keys()
    for facts in (whole, least, empty):
        json.dumps(facts, allow_nan=False)


def test_tenants_by_sessions_and_by_turns() -> None:
    sessions = [chat("a", (1, 1), tenant=3), chat("b", (1, 1), tenant=3), chat("c", (1, 1), (1, 1), (1, 1), tenant=4)]
    facts = describe(trace_of(*sessions))
    assert (facts["tenants"], facts["top_10_tenants_share"]) == (2, 1.0)
    assert facts["tenant_curve"][0] == {"rank": 1, "sessions_share": pytest.approx(2 / 3), "turns_share": pytest.approx(2 / 5)}


def test_languages_and_models_are_counted_by_session() -> None:
    sessions = [chat("a", (1, 1), language="English"), chat("b", (1, 1), language="English"), chat("c", (1, 1))]
    facts = describe(trace_of(*sessions))
    assert facts["languages"] == {"distinct": 1, "top": [{"name": "English", "share": pytest.approx(2 / 3)}]}
    assert facts["models"] is None


def test_published_figures_stand_beside_ours() -> None:
    facts = {"arrivals": {"rate_rps": 5.0}, "sessions": 10}
    rows = beside_published(facts, {"arrivals.rate_rps": 4.0, "sessions": 10, "reuse.token_share": 0.4})
    assert [(r["measured"], r["difference_pct"]) for r in rows] == [(5.0, 25.0), (10.0, 0.0), (None, None)]


def test_every_published_figure_is_one_that_describe_measures() -> None:
    """On a trace that holds everything: a clock, sessions, segments."""
    turns = tuple(Turn(512, 5, blocks(i), think_s=None if i == 0 else 1.0, gap_s=None if i == 0 else 2.0) for i in range(3))
    facts = describe(trace_of(*(Conversation(str(i), turns, start_s=i * 3.0 + i % 2) for i in range(400))))
    for name, source in SOURCES.items():
        missing = [r["key"] for r in beside_published(facts, source.published) if r["measured"] is None]
        assert missing == [], name


def test_many_rows_of_lengths_take_little_memory() -> None:
    """Two million one-turn rows: no array of segments or requests is built (they would take 20 times the table)."""
    import tracemalloc

    from workloads.trace_table import Trace, single_turns

    n = 2_000_000
    draw = np.random.default_rng(3)
    columns = {
        "user_tokens": draw.integers(1, 8000, n, dtype=np.int32),
        "reply_tokens": draw.integers(1, 900, n, dtype=np.int32),
        "start_us": np.cumsum(draw.integers(0, 40_000, n)),
    }
    trace = Trace.of_table("by hand", single_turns(columns), {**trace_of().provenance})
    tracemalloc.start()
    facts = describe(trace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts["input_tokens"]["n"] == n
    assert facts["reuse"]["token_share"] == 0.0
    assert peak < 120 * n, f"{peak / n:.0f} bytes a row"
    assert isinstance(trace.table, pa.Table)
