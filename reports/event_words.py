"""Pool events in plain words, long and short. It does not know what they hit."""

from reports.scene import PoolEvent

_LONG = {
    "pause": "{who} stands still, losing nothing",
    "slow": "{who} works {factor:g}× slower",
    "kill": "{who} dies with all it holds and comes back with a cold cache",
    "flush": "the prefix cache of {who} is emptied",
    "refuse": "{who} refuses {share:.0%} of what is sent to it, with status {status:g}",
    "blackout": "the metrics and probes of {who} go unanswered",
}
_SHORT = {
    "pause": ("replica {id} paused", "all replicas paused"),
    "slow": ("replica {id} {factor:g}× slower", "all replicas {factor:g}× slower"),
    "kill": ("replica {id} killed", "all replicas killed"),
    "flush": ("replica {id} cache emptied", "all caches emptied"),
    "refuse": ("replica {id} refuses {share:.0%}", "all refuse {share:.0%}"),
    "blackout": ("replica {id} silent", "all replicas silent"),
}


def long_words(event: PoolEvent) -> str:
    """`replica 0 dies with all it holds and comes back with a cold cache`; a kind that nobody described is named."""
    who = "every replica" if event.replica_id is None else f"replica {event.replica_id}"
    return _LONG.get(event.kind, f"{event.kind} at {{who}}").format(who=who, **event.parameters)


def short_words(event: PoolEvent) -> str:
    """`replica 0 killed`, `all replicas killed`: what fits into a chart."""
    one, every = _SHORT.get(event.kind, (f"replica {{id}} {event.kind}", f"all {event.kind}"))
    return (every if event.replica_id is None else one).format(id=event.replica_id, **event.parameters)
