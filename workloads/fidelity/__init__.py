"""Is what was synthesized what the trace says? A row a quantity, with distances and what chance alone would make of them."""

from workloads.fidelity.load import natural_load_rps, recorded_seconds
from workloads.fidelity.table import fidelity

__all__ = ["fidelity", "natural_load_rps", "recorded_seconds"]
