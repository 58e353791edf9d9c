"""Which ids came before, at 8 bytes an id. It does not keep the ids themselves."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workloads.content import text_id


class SeenIds:
    """A set of 63-bit hashes of ids in sorted runs: among ten million ids two collide with a chance of 5e-6."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.int64]] = []

    def add(self, ids: Sequence[str]) -> list[bool]:
        """True for each id that came before, in an earlier call or earlier in this one."""
        hashes = np.fromiter((text_id(i) for i in ids), dtype=np.int64, count=len(ids))
        fresh, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), dtype=bool)
        again[first] = False
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            again |= run[places] == hashes
        if len(fresh):
            self._keep(fresh)
        return again.tolist()

    def _keep(self, fresh: npt.NDArray[np.int64]) -> None:
        """Runs grow by merging with the last while that is no longer, so there are few of them."""
        while self._runs and len(self._runs[-1]) <= len(fresh):
            fresh = np.union1d(self._runs.pop(), fresh)
        self._runs.append(fresh)
