"""`preble`: goes where most of the prompt is cached, or else where it costs least in all (E2). It guesses caches and times."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd
from routers.prefixes.block_index import ApproximateIndex, engine_block_tokens
from routers.tries import EXPECTED_OUTPUT_TOKENS

_RECENT = 200  # answers whose times and lengths are remembered


@dataclass(frozen=True, slots=True)
class PrebleSettings:
    """Constants of the released code: 3 minutes of load, 198,516 tokens of KV where the engine is unknown, 0.15 s a decoded token
    until the first answers.

    `prefill_s_per_token` null: the engine's own, or 1.2e-4 (that code's line for Mistral 7B on an A6000). `rebalance`: a replica
    with more than so many times the least load gives the request away (15 in the code, where it is switched off: null).
    `window_requests` is ours: more than so many requests are never remembered.
    """

    window_s: float = 180.0
    window_requests: int = 65_536
    prefill_s_per_token: float | None = None
    decode_s_per_token: float = 0.15
    index_blocks: int | None = None
    rebalance: float | None = None

    def __post_init__(self) -> None:
        within("window_s", self.window_s, 0.001)
        within("window_requests", self.window_requests, 1)
        within("prefill_s_per_token", self.prefill_s_per_token, 0.0)
        within("decode_s_per_token", self.decode_s_per_token, 0.0)
        within("index_blocks", self.index_blocks, 1)
        within("rebalance", self.rebalance, 1.0)


class Preble(Policy):
    """More of the prompt cached somewhere than not: exploit, the least loaded of those that hold most of it; else explore,
    argmin of load + eviction + prefill cost in seconds.

    Load: prefill of the uncached tokens and decode of the mean output (at the replica's median time a token) of all that was
    sent there in the last `window_s`. Prefill: of this prompt's tokens that are not cached there. Eviction: where the prompt
    does not fit, prefill of as many tokens again, if the least recent prefix there was used within the window. Source:
    Srivatsa et al., "Preble: Efficient Distributed Prompt Scheduling for LLM Serving", ICLR 2025 (arXiv 2407.00023), section
    3.2, and WukLab/preble `multi_node/global_scheduler_with_time.py`. Unverified: the paper's weight of an evicted prefix by
    its share of hits; here each such prefix counts once. Left out: its copying of hot prefixes and the local scheduler.
    Weakness: with one popular long prompt all exploit one replica, unless `rebalance` is set.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings = settings_of(PrebleSettings, context.parameters, "preble")
        profile = context.profile
        size = engine_block_tokens(profile)
        self._blocks = settings.index_blocks or (198_516 // size if profile is None else profile.kv_blocks)
        self._index = ApproximateIndex(context.replica_ids, size, self._blocks, None)
        measured_s = 1.2e-4 if profile is None else profile.step.prefill_s
        self._prefill_s = measured_s if settings.prefill_s_per_token is None else settings.prefill_s_per_token
        self._load_s = dict.fromkeys(context.replica_ids, 0.0)
        self._window: deque[tuple[float, int, float]] = deque()  # (sent_s, replica, its load)
        self._token_s = {i: _Recent(settings.decode_s_per_token) for i in context.replica_ids}
        self._lengths: deque[int] = deque()
        self._length_sum = 0
        self._first_token_s: dict[int, float] = {}
        self._exploit = Prebuilt("exploit: most is cached")
        self._explore = Prebuilt("explore: least cost")
        self._rebalance = Prebuilt("exploit, but too loaded: least load")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        self._forget_load(now_s)
        matched = self._index.matched(request.prompt, now_s)
        load_s = self._load_s
        most, chosen, lightest_s = 0, -1, inf
        if matched:
            for view in replicas:
                cached = matched.get(view.replica_id, 0)
                if cached > most or (cached == most and most and load_s[view.replica_id] < lightest_s):
                    most, chosen, lightest_s = cached, view.replica_id, load_s[view.replica_id]
        if most <= request.prompt.tokens - most:
            return self._explore[self._cheapest(request, replicas, matched, now_s)]
        if self._settings.rebalance is not None:
            lightest = min(replicas, key=lambda v: load_s[v.replica_id]).replica_id
            if load_s[chosen] > self._settings.rebalance * load_s[lightest]:
                return self._rebalance[lightest]
        return self._exploit[chosen]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        replica_id = decision.replica_id
        new_tokens = request.prompt.tokens - self._index.matched(request.prompt, now_s).get(replica_id, 0)
        expected = min(request.max_tokens, EXPECTED_OUTPUT_TOKENS)
        output_tokens = self._length_sum / len(self._lengths) if self._lengths else expected
        seconds = self._prefill_s * new_tokens + self._token_s[replica_id].median() * output_tokens
        self._window.append((now_s, replica_id, seconds))
        self._load_s[replica_id] += seconds
        self._index.sent(request.prompt, replica_id, now_s)
        self._forget_load(now_s)

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._first_token_s[request.rid] = now_s

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        first_token_s = self._first_token_s.pop(request.rid, None)
        if not end.ok or first_token_s is None or end.output_tokens < 2:
            return
        self._lengths.append(end.output_tokens)
        self._length_sum += end.output_tokens
        if len(self._lengths) > _RECENT:
            self._length_sum -= self._lengths.popleft()
        recent = self._token_s.get(decision.replica_id)
        if recent is not None:
            recent.add((now_s - first_token_s) / (end.output_tokens - 1))

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._index.set_replicas(replica_ids)
        self._load_s = {i: self._load_s.get(i, 0.0) for i in replica_ids}
        self._window = deque(entry for entry in self._window if entry[1] in self._load_s)
        unknown_s = self._settings.decode_s_per_token
        self._token_s = {i: self._token_s.get(i) or _Recent(unknown_s) for i in replica_ids}

    def _cheapest(self, request: RoutedRequest, replicas: Sequence[ReplicaView], matched: Mapping[int, int], now_s: float) -> int:
        load_s, index, prefill_s, tokens = self._load_s, self._index, self._prefill_s, request.prompt.tokens
        whole_s, blocks, since_s = prefill_s * tokens, tokens // index.block_tokens, now_s - self._settings.window_s
        least_s, cheapest = inf, replicas[0].replica_id
        for view in replicas:
            replica_id = view.replica_id
            cached = matched.get(replica_id)
            new_s = whole_s if cached is None else prefill_s * (tokens - cached)
            cost_s = load_s[replica_id] + new_s
            if cost_s >= least_s:
                continue
            new_blocks = blocks if cached is None else blocks - cached // index.block_tokens
            if index.blocks_of(replica_id) + new_blocks > self._blocks and index.oldest_s(replica_id) > since_s:
                cost_s += new_s
            if cost_s < least_s:
                least_s, cheapest = cost_s, replica_id
        return cheapest

    def _forget_load(self, now_s: float) -> None:
        window, since_s = self._window, now_s - self._settings.window_s
        while window and (window[0][0] <= since_s or len(window) > self._settings.window_requests):
            _, replica_id, seconds = window.popleft()
            left_s = self._load_s[replica_id] - seconds
            self._load_s[replica_id] = left_s if left_s > 1e-9 else 0.0  # what rounding leaves is no load


class _Recent:
    """The median of the last numbers given."""

    def __init__(self, unknown: float) -> None:
        self._unknown = unknown
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, value: float) -> None:
        self._in_order.append(value)
        insort(self._sorted, value)
        if len(self._in_order) > _RECENT:
            del self._sorted[bisect_left(self._sorted, self._in_order.popleft())]

    def median(self) -> float:
        return self._sorted[len(self._sorted) // 2] if self._sorted else self._unknown
