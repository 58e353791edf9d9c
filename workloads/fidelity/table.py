"""The whole comparison of a workload with its trace. It does not know how the rows are shown."""

from typing import Any

from workloads.fidelity.arrivals import arrival_rows
from workloads.fidelity.scene import Scene
from workloads.fidelity.sharing import sharing_rows
from workloads.fidelity.turns import turn_rows
from workloads.trace_table import Trace
from workloads.workload import Workload


def fidelity(trace: Trace, workload: Workload) -> list[dict[str, Any]]:
    """Synthesized against source, a row a quantity, JSON only. The trigger's own sessions are left out.

    Keys: metric, source, synthesized, unit, distance (relative, KS or Wasserstein-1 over the mean: `distance_kind`), noise (what
    chance makes of the distance at these sizes; None: unknown), verdict (same, differs, cannot be told, by design) and why. The
    source's numbers are those of the trace's usable turns, weighted by the chance that the finite run sends them; within 1%, or
    within the noise, is the same. Raises ValueError when the workload was not made of this trace.
    """
    scene = Scene.of(trace, workload)
    return [*arrival_rows(scene), *turn_rows(scene), *sharing_rows(scene)]
