"""What a scenario of a gateway's fault does, in words. It knows no numbers that were seen."""

from flows.fault_study import FaultKeys


def done_words(fault: FaultKeys) -> list[str]:
    """What is set beside the rule, if anything, and each step in words."""
    told = [f"{name} = {value}" for name, value in fault.parameters.items()]
    told += ["replicas tell their load at /get_load"] if fault.tells_load else []
    return [*(["set: " + ", ".join(told)] if told else []), *(_step_words(fault, i) for i in range(len(fault.steps)))]


def _step_words(fault: FaultKeys, i: int) -> str:
    step = fault.steps[i]
    n = _count(fault, i)
    how = f"{n} requests" if n != 1 else "one request"
    how += f", {step.at_once} at once" if step.at_once > 1 else ", one by one" if n > 1 else ""
    more = [f"the prompts of {step.again} again" if step.again else "", "prompts as token ids" if step.form != "text" else ""]
    more.append("left open" if step.stays_open else "")
    more.append(f"hung up after {step.leave_after_s:g} s" if step.leave_after_s is not None else "")
    more.append(f"until one is answered, {step.until_answered_s:g} s at most" if step.until_answered_s is not None else "")
    more.append("as many straight to the replica" if step.direct else "")
    more.append("acknowledged at once" if step.acknowledged == "at_once" else "")
    more.append(f"then {step.wait_s:g} s of rest" if step.wait_s else "")
    return f"{step.name}: {'; '.join([how, *filter(None, more), *filter(None, [_replica_words(fault, i)])])}"


def _count(fault: FaultKeys, i: int) -> int:
    """How many requests a step sends: as many as the step whose prompts it repeats."""
    again = fault.steps[i].again
    return _count(fault, [step.name for step in fault.steps].index(again)) if again else fault.steps[i].requests


def _replica_words(fault: FaultKeys, i: int) -> str:
    step, how = fault.steps[i], fault.steps[i].behaviour
    if how is None:
        return ""
    who = f"replica {', '.join(map(str, step.replicas))}" if step.replicas else f"{fault.replicas} replicas"
    who = "the replica" if fault.replicas == 1 else who
    says = f"answer{'s' if fault.replicas == 1 or len(step.replicas) == 1 else ''}"
    if how.status != 200:
        return f"{who} {says} {how.status}"
    pace = [f"after {how.first_s:g} s" if how.first_s else "at once"]
    pace.append(f"{how.chunks} chunks {how.gap_s:g} s apart" if how.gap_s else "")
    return f"{who} {says} {', '.join(filter(None, pace))}"
