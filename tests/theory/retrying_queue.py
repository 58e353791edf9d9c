"""What queueing theory says of clients that time out and retry at one server that goes on with work nobody waits for.

The model: root requests come as a Poisson stream of rate λ to one FIFO server whose service times are exponential of rate µ.
An attempt that is not served within τ seconds of being due fails; the client makes at most n attempts, each b seconds after the
failure of the one before. The server cannot know and serves all attempts to their end (orphaned work).

*Mean field.* Taken as Poisson, all attempts together come at a rate x, and while x < µ the queue is M/M/1: the time in the
system is exponential of rate µ − x (Kleinrock, Queueing Systems I, 1975, §3.2; arrivals see the stationary state). So an attempt
fails with q(x) = exp(−(µ − x)τ), a root makes A(q) = 1 + q + … + q^(n−1) attempts, and x must solve

    x = λ·A(q(x)).                                                                                                     (1)

λ(x) = x / A(q(x)) rises from 0 to its maximum, `upper_edge_rps`, and falls to µ/n at x = µ: for λ between µ/n and the maximum
(1) has two solutions in x < µ. The smaller is stable; at the larger one more attempt makes more than one. Besides, x = nλ is
self-consistent whenever nλ ≥ µ: all attempts fail, and the queue never falls to τ again. So the system is bistable for

    µ/n ≤ λ < max_x x / A(q(x)),

stable below (`lower_edge_rps`: the escape load, the hidden capacity), and above without any calm state. It is the shape that
Bronson et al. (HotOS 2021) draw, and what Alvaro et al. (arXiv 2510.03551) compute from the eigenvalues of the Markov chain: the
chain leaves the calm state in finite time *below* the upper edge, too, which the mean field does not know.

*Fluid.* For the size of a burst that tips it over, let W(t) be the time in which the server would clear its queue. With
a_1 = λ(t) and a_(j+1)(t) = a_j(t − τ − b) where W(t − τ − b) > τ, else 0,

    dW/dt = (a_1 + … + a_n)/µ − 1   (while W > 0).                                                                     (2)

A burst of k·λ for d seconds raises W to (kλ/µ − 1)·d before any retry. The least k after which W(t) stays above τ for ever is
`least_deadly_k`: a little above (µ/λ)(1 + τ/d), infinite below µ/n. What really comes scatters: N requests, a Poisson number, of
exponential work make a W of variance 2N/µ² (a compound Poisson sum), until the first retries are there, τ + b after the burst;
before it there is λ/(µ(µ − λ)) of work (M/M/1), and a request's own service, 1/µ, is part of its time. Hence `survived_k`, from
which a share of the runs comes back. Near the upper edge the calm queue itself wanders up to τ, and this overstates it.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from reports.course import Array


@dataclass(frozen=True)
class RetryingQueue:
    """µ (1/s), τ (s), n attempts in all, b (s)."""

    service_rps: float
    timeout_s: float
    attempts: int
    backoff_s: float

    @property
    def lower_edge_rps(self) -> float:
        """Below this load even the worst queue drains: µ/n."""
        return self.service_rps / self.attempts

    @property
    def upper_edge_rps(self) -> float:
        """Above this load there is no calm state: the maximum of λ(x)."""
        return float(self._load(self._offered()).max())

    def fixed_points_rps(self, load_rps: float) -> list[float]:
        """Every x that solves (1), ascending; n·λ last where it keeps itself up."""
        x = self._offered()
        beyond = self._load(x) - load_rps
        at = np.flatnonzero(np.diff(beyond < 0))
        roots = [float(x[i] + (x[i + 1] - x[i]) * beyond[i] / (beyond[i] - beyond[i + 1])) for i in at]
        stuck = self.attempts * load_rps
        return [*roots, stuck] if stuck >= self.service_rps else roots

    def stuck_after(self, load_rps: float, k: float, spike_s: float, step_s: float = 0.05) -> bool:
        """Whether (2) is still above τ, and not on its way down, long after a spike of k·λ for `spike_s`."""
        delay = round((self.timeout_s + self.backoff_s) / step_s)
        spike, steps = round(spike_s / step_s), round(spike_s / step_s) + 12 * delay
        made = np.zeros((self.attempts, steps))
        made[0] = load_rps
        made[0, :spike] *= k
        wait = np.zeros(steps)
        for t in range(1, steps):
            if t >= delay and wait[t - delay] > self.timeout_s:
                made[1:, t] = made[:-1, t - delay]
            wait[t] = max(0.0, wait[t - 1] + step_s * (made[:, t].sum() / self.service_rps - 1))
        return bool(wait[-delay:].min() > self.timeout_s and wait[-1] >= wait[-delay])

    def least_deadly_k(self, load_rps: float, spike_s: float) -> float:
        """The smallest burst of `spike_s` seconds that (2) does not come back from, to 0.1%; inf below the lower edge."""
        if load_rps < self.lower_edge_rps:
            return float("inf")
        low, high = 1.0, 4 * self.service_rps / load_rps * (1 + self.timeout_s / spike_s)
        while high / low > 1.001:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self.stuck_after(load_rps, middle, spike_s) else (middle, high)
        return high

    def survived_k(self, load_rps: float, spike_s: float, share: float) -> float:
        """The burst that `share` of the runs come back from: W stays, with that probability, below what tips (2) over."""
        z, service_s, usual = NormalDist().inv_cdf(share), 1 / self.service_rps, load_rps * spike_s
        before_s = load_rps * service_s / (self.service_rps - load_rps) + service_s
        room_s = self.least_deadly_k(load_rps, spike_s) * usual * service_s - before_s
        after = load_rps * (self.timeout_s + self.backoff_s)
        low, high = 0.0, room_s
        while high - low > 1e-6:
            middle = (low + high) / 2  # work that the burst brings
            too_much = middle + z * service_s * (2 * (middle / service_s + after)) ** 0.5 > room_s
            low, high = (low, middle) if too_much else (middle, high)
        return low / (usual * service_s)

    def _offered(self) -> Array:
        return np.linspace(0, self.service_rps, 200_001)

    def _load(self, offered_rps: Array) -> Array:
        fails = np.exp(-(self.service_rps - offered_rps) * self.timeout_s)
        load: Array = offered_rps / sum(fails**j for j in range(self.attempts))
        return load
