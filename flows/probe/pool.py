"""The simulated pool that a probe runs on: a study's own, with its engine profile. It changes neither."""

from flows.study import Pool, Study
from replicas.profile import EngineProfile


def pool_of(study: Study) -> Pool:
    """The pool: a probe has one, and it is simulated (`flows.probe.plan.checked`)."""
    return study.pools[0]


def measured_profile(study: Study) -> EngineProfile:
    """The pool's engine profile as it was measured."""
    profile = pool_of(study).profile
    assert profile is not None, "simulated pools have one"
    return EngineProfile.load(profile)


def profile_of(study: Study) -> EngineProfile:
    """The pool's engine profile with the changes that the study makes to it."""
    return measured_profile(study).with_changes(dict(pool_of(study).changes))
