"""Which rules need the replicas' KV events, said where nobody brings any. It does not know how events travel."""

from routers.policy import Policy


def refuse_deaf(name: str, policy: Policy) -> None:
    """Raises ValueError in one line if `policy` listens to KV events: its index would stay empty, and it would say nothing."""
    if policy.wants_kv_events:
        where = "in prefill_parameters and decode_parameters" if policy.knows_roles else "in its parameters"
        raise ValueError(
            f"router {name!r}: index = 'exact' listens to KV events, which replicas over HTTP do not bring; "
            f"set index=approximate {where}"
        )
