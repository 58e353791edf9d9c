"""The simulated pool that a probe runs on: a study's own, with its engine profile. It changes neither."""

from flows.study import Pool, Study
from replicas.profile import EngineProfile


def pool_of(study: Study) -> Pool:
    """The pool."""
    return study.pool


def measured_profile(study: Study) -> EngineProfile:
    """The pool's engine profile as it was measured."""
    return EngineProfile.load(pool_of(study).profile)


def profile_of(study: Study) -> EngineProfile:
    """The pool's engine profile with the changes that the study makes to it."""
    return measured_profile(study).with_changes(dict(pool_of(study).changes))
