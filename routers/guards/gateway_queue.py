"""`gateway_queue`: the concurrency limit of sglang-router and vllm-router, as it is: neither limits nor queues. To be shown."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.guard import HOLD, SEND, Admission, Guard, GuardContext, Refuse, Release
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class GatewayQueueSettings:
    """The wheels' flags: `--max-concurrent-requests` (theirs is off; 256 is ours), `--rate-limit-tokens-per-second` (null: as
    many), `--queue-size` (0: refuse at once) and `--queue-timeout-secs`."""

    max_concurrent: int = 256
    tokens_per_s: int | None = None
    queue_size: int = 100
    queue_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        within("max_concurrent", self.max_concurrent, 1)
        within("tokens_per_s", self.tokens_per_s, 1)
        within("queue_size", self.queue_size, 0)
        within("queue_timeout_s", self.queue_timeout_s, 0.001)


class GatewayQueueGuard(Guard):
    """Read in vllm-project/router, `src/middleware.rs` and `src/core/token_bucket.rs` (sglang-router has the same two files).

    A token bucket of `max_concurrent` refills by `tokens_per_s` *while* requests run, and each that ends gives its token back:
    so it does not bound what runs at once. Who finds no token waits exactly as long as the bucket takes to refill to one,
    then it is answered 408; at that very moment the token is there, for the next newcomer. Only a token given back earlier
    serves who waits, in order. The queue's size is that of a channel which is emptied at once: it bounds nothing but 0.
    Measured on both wheels: max 2, queue 10, ten at once: 8 are answered 408 after 0.5 s.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings = settings_of(GatewayQueueSettings, context.parameters, "gateway_queue")
        self._most = float(settings.max_concurrent)
        self._rate = float(settings.max_concurrent if settings.tokens_per_s is None else settings.tokens_per_s)
        self._tokens, self._filled_s = self._most, 0.0
        self._inside: set[int] = set()
        self._line: OrderedDict[int, float] = OrderedDict()  # rid → when it is answered 408

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if request.rid in self._inside:
            return SEND  # a retry: it is inside the limit already
        self._refill(now_s)
        if self._tokens >= 1:
            self._take(request.rid)
            return SEND
        if not self._settings.queue_size:
            return Refuse(429)
        wait_s = min((1 - self._tokens) / self._rate, self._settings.queue_timeout_s)
        self._line[request.rid] = now_s + wait_s
        return HOLD

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._line.pop(request.rid, None)
        if request.rid in self._inside:
            self._inside.remove(request.rid)
            self._tokens = min(self._most, self._tokens + 1)

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        left: list[Release] = []
        while self._line and self.next_wake_s() <= now_s:
            left.append(Release(self._line.popitem(last=False)[0], 408))
        self._refill(now_s)
        while self._line and self._tokens >= 1:
            rid, _ = self._line.popitem(last=False)
            self._take(rid)
            left.append(Release(rid))
        return left

    def next_wake_s(self) -> float:
        return next(iter(self._line.values()), float("inf"))

    def _take(self, rid: int) -> None:
        self._tokens -= 1
        self._inside.add(rid)

    def _refill(self, now_s: float) -> None:
        self._tokens = min(self._most, self._tokens + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
