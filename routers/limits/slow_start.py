"""How much traffic a replica gets that has just come back: a share that grows. It does not know why it was away."""

_NEARLY_ONE = 1.0 - 1e-9


class SlowStart:
    """Envoy's slow start as a quota, since a guard can only show or hide a replica, and is not asked about a request.

    Envoy multiplies the replica's weight by max(least, (t / window)^(1 / aggression)), t since its return. Here every request
    that is sent anywhere earns it that share of an equal part (weight / replicas that serve), and each one it is sent costs 1;
    it is shown while it has 1. So it gets at most the share that Envoy would give it, whatever the policy, without a draw:
    a function of what was sent and when. It starts with 1, and saves no second one up.
    """

    def __init__(self, window_s: float, aggression: float, least: float) -> None:
        self._window_s, self._power, self._least = window_s, 1 / aggression, least
        self._since_s: dict[int, float] = {}
        self._credit: dict[int, float] = {}

    def __contains__(self, replica_id: int) -> bool:
        return replica_id in self._since_s

    def __bool__(self) -> bool:
        return bool(self._since_s)

    def begin(self, replica_id: int, now_s: float) -> None:
        if self._window_s > 0:
            self._since_s[replica_id] = now_s
            self._credit[replica_id] = 1.0

    def forget(self, replica_id: int) -> None:
        self._since_s.pop(replica_id, None)
        self._credit.pop(replica_id, None)

    def pass_time(self, now_s: float) -> None:
        """Who has come to the end of its window gets all again."""
        for replica_id in [i for i, since_s in self._since_s.items() if now_s >= since_s + self._window_s]:
            self.forget(replica_id)

    def shows(self, replica_id: int) -> bool:
        return self._credit.get(replica_id, 1.0) >= _NEARLY_ONE

    def on_sent(self, replica_id: int, serving: int, now_s: float) -> None:
        """A request was sent to `replica_id`; so many replicas serve, those that start slowly among them."""
        for warming, since_s in self._since_s.items():
            share = max(self._least, (min(now_s - since_s, self._window_s) / self._window_s) ** self._power)
            earned = share / max(1, serving)
            credit = self._credit[warming] + earned - (warming == replica_id)
            self._credit[warming] = min(1.0 + earned, credit)

    def next_end_s(self) -> float:
        return min((since_s + self._window_s for since_s in self._since_s.values()), default=float("inf"))
