"""The cumulative rule of the OSDI'22 artifact, to be compared with ours. It knows no bands and no spells.

Huang et al., "Metastable Failures in the Wild" (OSDI 2022), artifact github.com/lexiangh/Metastability at d321a8c,
`LookasideCache_Metastability/LoadGenerator/util/find_trigger_sz_for_mtsbl_issue.py` (likewise `run_experiment.py`): one mean
over all seconds since the trigger against one mean over all seconds before it, metastable where it is lower by more than 0.5.
(Theirs is of the cache hit rate; ours here of success. As printed there the first mean is subtracted from itself, and nothing
is ever metastable: what they meant is tested here.)
"""

from reports.verdict import Stretches, success_share

ARTIFACT_DROP = 0.5


def drop_since_trigger(cell: Stretches) -> float:
    """Success before the trigger − success over everything since its end."""
    before, since = success_share(cell.steady), success_share(cell.after)
    assert before is not None
    assert since is not None
    return before - since


def cumulative_recovered(cell: Stretches, drop: float = ARTIFACT_DROP) -> bool:
    return drop_since_trigger(cell) <= drop
