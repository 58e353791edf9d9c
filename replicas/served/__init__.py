"""The simulated engine as an OpenAI-compatible server in wall time: what others use of it."""

from replicas.served.replica import ServedReplica, Serving

__all__ = ["ServedReplica", "Serving"]
