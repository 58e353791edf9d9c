"""Which part of a workload one sender plays. Ids stay those of the whole plan, so every draw of randomness stays too."""

from dataclasses import replace

import numpy as np

from replay.retry import RetryRule
from workloads.request_table import UNKNOWN_US
from workloads.workload import Workload


def share_of(workload: Workload, sender: int, senders: int) -> tuple[Workload, int]:
    """The workload with only this sender's sessions (session_id mod senders = sender) having times, and how many requests it has.

    What has no time is never due.
    """
    table = workload.table
    own = table.session_id % senders == sender
    arrival_us = np.where(own, table.arrival_us, UNKNOWN_US)
    return replace(workload, table=replace(table, arrival_us=arrival_us)), int(own.sum())


def rule_of(rule: RetryRule, senders: int) -> RetryRule:
    """The rule for one of several senders: each holds its part of the population's retry budget, at least one retry."""
    return replace(rule, budget_burst=max(min(1.0, rule.budget_burst), rule.budget_burst / senders))
