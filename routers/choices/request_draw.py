"""One uniform number for each try of a request, for rules that draw. It does not know what is drawn."""

from collections.abc import Sequence

from routers.policy import RoutedRequest
from workloads.draws import purpose_id, uniform


class RequestDraw:
    """A stream keyed by (seed, purpose); within it every (request, client attempt, router try) has its own number in [0, 1).

    Attempts beyond 65,535 and tries beyond 255 may share a number with another request.
    """

    __slots__ = ("_key",)

    def __init__(self, seed: int, purpose: str) -> None:
        self._key = int(uniform(seed, purpose_id(purpose)) * 2**53)

    def __call__(self, request: RoutedRequest) -> float:
        return uniform(self._key, (request.request_id << 24) + (request.client_attempt << 8) + request.router_try)

    def one_of(self, ids: Sequence[int], request: RoutedRequest) -> int:
        """One of `ids` with equal chance; no draw where there is only one."""
        return ids[0] if len(ids) == 1 else ids[int(self(request) * len(ids))]

    def two_of(self, n: int, request: RoutedRequest) -> tuple[int, int]:
        """Two distinct places in 0…n-1, every ordered pair with equal chance; (0, 0) where n = 1."""
        if n == 1:
            return 0, 0
        first, second = divmod(int(self(request) * (n * (n - 1))), n - 1)
        return first, second + (second >= first)
