"""What is done to a gateway: steps of requests, and how the replicas behave meanwhile. It runs nothing."""

from dataclasses import dataclass, field

from routers.gateways.gateway import ARMS
from routers.gateways.stub import Behaviour
from routers.parameters import one_of, within

TEXT, TOKEN_IDS = "text", "token_ids"
DELAYED, AT_ONCE = "delayed", "at_once"


@dataclass(frozen=True, slots=True)
class Step:
    """`requests` completions in rounds of `at_once`, each of which has a connection of its own; no two prompts share anything.

    `behaviour` is that of `replicas` (all) from here on. `again` names an earlier step whose prompts are sent once more.
    `session` goes into the gateway's session header. The answers of the first `warm` requests give no times. `direct`: as many
    go to the first replica itself, for comparison. `acknowledged`: whether this side delays its TCP acknowledgements. Some
    requests are not waited for: `stays_open` leaves them open until the scenario's end, `leave_after_s` hangs up.
    `until_answered_s`: one request after the other until one is answered, for so long at most. `wait_s`: pause afterwards.
    """

    name: str
    requests: int = 1
    at_once: int = 1
    behaviour: Behaviour | None = None
    replicas: tuple[int, ...] = ()
    again: str = ""
    form: str = TEXT
    session: str = ""
    warm: int = 0
    direct: bool = False
    acknowledged: str = DELAYED
    stays_open: bool = False
    leave_after_s: float | None = None
    until_answered_s: float | None = None
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name = {self.name!r} is not allowed; letters, digits and underscores, a letter first")
        within("requests", self.requests, 1, 10_000)
        within("at_once", self.at_once, 1, 1_000)
        within("warm", self.warm, 0, self.requests - 1)
        one_of("form", self.form, (TEXT, TOKEN_IDS))
        one_of("acknowledged", self.acknowledged, (DELAYED, AT_ONCE))
        for name in ("leave_after_s", "until_answered_s", "wait_s"):
            within(name, getattr(self, name), 0.0, 600.0)
        ways = [self.stays_open, self.leave_after_s is not None, self.until_answered_s is not None, self.direct]
        if sum(ways) > 1:
            raise ValueError("at most one of stays_open, leave_after_s, until_answered_s, direct is allowed in a step")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A gateway with one rule, in one arm, before `replicas` stubs, and the steps that it is put through.

    `tells_load`: the stubs answer SGLang's `/get_load`, which vLLM has not.
    """

    gateway: str
    policy: str
    steps: tuple[Step, ...]
    arm: str = "default"
    replicas: int = 3
    tells_load: bool = False
    parameters: tuple[tuple[str, object], ...] = field(default=())

    def __post_init__(self) -> None:
        one_of("arm", self.arm, ARMS)
        within("replicas", self.replicas, 1, 64)
        if not self.steps:
            raise ValueError("steps = () is not allowed; at least one")
        names: list[str] = []
        for step in self.steps:
            if step.name in names:
                raise ValueError(f"steps: {step.name!r} appears twice; give each its own name")
            if step.again and step.again not in names:
                raise ValueError(f"steps: {step.name}.again = {step.again!r} is not allowed; an earlier step: {', '.join(names)}")
            if any(not 0 <= i < self.replicas for i in step.replicas):
                raise ValueError(f"steps: {step.name}.replicas = {list(step.replicas)} is not allowed; 0 … {self.replicas - 1}")
            names.append(step.name)
