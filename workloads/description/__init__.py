"""What a trace is like, in numbers: arrivals, lengths, turns, reuse, tenants. It does not know what will be sent."""

from workloads.description.arrivals import arrival_statistics, index_of_dispersion
from workloads.description.facts import describe
from workloads.description.reuse import prefix_reuse
from workloads.description.spread import spread

__all__ = ["arrival_statistics", "describe", "index_of_dispersion", "prefix_reuse", "spread"]
