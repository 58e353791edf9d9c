"""The requests that have a time of their own, in the order in which they are due. It knows no client and no answer."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from replay.prompts import prompts_alone
from workloads.request import Prompt
from workloads.request_table import Ints, RequestTable

INF = float("inf")
_BLOCK = 4096  # requests that are read from the table at once: several times faster than one by one

# (request_id, session_id, tenant, reply_id, output_tokens, deadline_us or −1, turns_waiting)
Facts = tuple[int, int, int, int, int, int, int]
# when it is due, its facts, what its prompt adds, and whether that is all of it and no other prompt extends it
Arrival = tuple[float, Facts, Prompt, bool]
NO_ARRIVAL: Arrival = INF, (-1,) * 7, Prompt((), ()), True


def planned_arrivals(table: RequestTable, turns_waiting: Ints, horizon_s: float) -> tuple[Iterator[Arrival], Ints]:
    """By time and then by id; and, apart, the ids of those that come after the last phase and so are not due."""
    due_s = table.arrival_us / 1e6
    in_time = np.flatnonzero((due_s >= 0) & (due_s < horizon_s))
    in_time = in_time[np.argsort(due_s[in_time], kind="stable")]
    return _arrivals(table, turns_waiting, in_time, due_s[in_time]), np.flatnonzero(due_s >= horizon_s)


def _arrivals(table: RequestTable, waiting: Ints, requests: Ints, due_s: npt.NDArray[np.float64]) -> Iterator[Arrival]:
    stands_alone = ~(table.extends | np.append(table.extends[1:], False))
    columns = table.session_id, table.tenant, table.reply_id, table.output_tokens, table.deadline_us, waiting
    for first in range(0, len(requests), _BLOCK):
        block = requests[first : first + _BLOCK]
        facts = zip(block.tolist(), *(column[block].tolist() for column in columns), strict=True)
        due = due_s[first : first + _BLOCK].tolist()
        yield from zip(due, facts, prompts_alone(table, block), stands_alone[block].tolist(), strict=True)
