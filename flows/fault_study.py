"""A study of gateways' faults as types: scenarios, and what is expected of each arm. It runs none of them."""

import re
from itertools import product
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flows.load_study import KeyPath, apply_set, dotted, find_study
from flows.study import StudyError, content_hash
from flows.study_text import line_of, parse
from routers.gateways import find_gateway
from routers.gateways.faults.scenario import Scenario, Step
from routers.gateways.faults.seen import meaning_of
from routers.gateways.gateway import GatewaySpec, Upstream
from routers.gateways.stub import Behaviour

HASH = "content_hash"
Line = Annotated[str, Field(min_length=1, max_length=300)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BehaviourKeys(_Strict):
    """How a stub replica answers: see `routers.gateways.stub.Behaviour`."""

    status: Annotated[int, Field(ge=200, le=599)] = 200
    first_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    gap_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    chunks: Annotated[int, Field(ge=1, le=10_000)] = 4
    headers_first: bool = False


class StepKeys(_Strict):
    """One step: see `routers.gateways.faults.scenario.Step`."""

    name: str
    requests: int = 1
    at_once: int = 1
    behaviour: BehaviourKeys | None = None
    replicas: list[int] = []
    again: str = ""
    form: Literal["text", "token_ids"] = "text"
    session: Annotated[str, Field(pattern=r"^[\x21-\x7e]{0,80}$")] = ""
    warm: int = 0
    direct: bool = False
    acknowledged: Literal["delayed", "at_once"] = "delayed"
    stays_open: bool = False
    leave_after_s: float | None = None
    until_answered_s: float | None = None
    wait_s: float = 0.0

    @model_validator(mode="after")
    def _a_step(self) -> Self:
        self.step()
        return self

    def step(self) -> Step:
        behaviour = None if self.behaviour is None else Behaviour(**self.behaviour.model_dump())
        given = self.model_dump(exclude={"behaviour", "replicas"})
        return Step(**given, behaviour=behaviour, replicas=tuple(self.replicas))


class FaultKeys(_Strict):
    """One scenario for each of `gateways` × `policies`, in each arm of `expect`, and what must be seen there.

    `expect` is arm → step.quantity → a number, or [least, most] where null is no limit. `kind` control: nothing is wrong with it,
    and the same is measured for comparison.
    """

    number: Annotated[int, Field(ge=1, le=999)]
    title: Line
    kind: Literal["fault", "control"] = "fault"
    gateways: Annotated[list[str], Field(min_length=1)]
    policies: Annotated[list[str], Field(min_length=1)]
    replicas: Annotated[int, Field(ge=1, le=64)] = 3
    tells_load: bool = False
    parameters: dict[str, Any] = {}
    steps: Annotated[list[StepKeys], Field(min_length=1, max_length=20)]
    expect: dict[Literal["default", "bare"], dict[str, Any]]

    @field_validator("gateways")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            find_gateway(name)
        return value

    @field_validator("expect")
    @classmethod
    def _said(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not value.get("default"):
            raise ValueError("must say what the default arm does: {default: {step.quantity: number}}")
        for wanted in value.values():
            for name, bounds in wanted.items():
                bounds_of(name, bounds)
        return value

    @model_validator(mode="after")
    def _runnable(self) -> Self:
        replicas = tuple(Upstream(f"http://127.0.0.1:{1024 + i}") for i in range(self.replicas))
        for gateway, policy in product(self.gateways, self.policies):
            known = find_gateway(gateway)
            if policy not in known.policies:
                raise ValueError(f"policies: {policy!r} is no rule of {gateway}; allowed: {', '.join(known.policies)}")
            spec = GatewaySpec(policy, replicas, 1024, 1025, parameters=self.parameters)
            known.launch(spec, Path(known.program), Path())  # only to hear what it refuses
        self.scenarios()
        steps = [step.name for step in self.steps]
        for wanted in self.expect.values():
            for name in wanted:
                step, _, quantity = name.partition(".")
                if step not in steps or not quantity:
                    raise ValueError(f"expect: {name!r} must be step.quantity; steps: {', '.join(steps)}")
                meaning_of(quantity)
        return self

    def wanted(self, arm: str) -> dict[str, Any]:
        """What is expected of an arm, as written."""
        return next((said for name, said in self.expect.items() if name == arm), {})

    def scenarios(self) -> list[list[Scenario]]:
        """For each gateway and policy the scenario in each arm, the default one first."""
        steps, parameters = tuple(step.step() for step in self.steps), tuple(self.parameters.items())
        arms = sorted(self.expect, key=("default", "bare").index)
        return [
            [Scenario(gateway, policy, steps, arm, self.replicas, self.tells_load, parameters) for arm in arms]
            for gateway, policy in product(self.gateways, self.policies)
        ]


class FaultStudy(_Strict):
    """A whole study of gateways' faults."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)] = "gateway-faults"
    title: Line = "Known faults of real gateways"
    faults: Annotated[list[FaultKeys], Field(min_length=1, max_length=100)]

    def resolved(self) -> dict[str, Any]:
        content = self.model_dump(mode="json")
        return {**content, HASH: content_hash(content)}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)


def bounds_of(name: str, bounds: object) -> tuple[float, float]:
    """(least, most) of an expectation as written; ValueError for what is none."""
    pair = bounds if isinstance(bounds, list) and len(bounds) == 2 else [bounds, bounds]
    least, most = _limit(pair[0], -inf), _limit(pair[1], inf)
    if least is None or most is None or (least, most) == (-inf, inf):
        raise ValueError(f"{name} = {bounds!r} is not allowed; a number, or [least, most] with null for no limit")
    if least > most:
        raise ValueError(f"{name} = {bounds!r} is not allowed; the least comes first")
    return least, most


def _limit(value: object, none: float) -> float | None:
    """A limit as written, `none` for null; None for what is no limit."""
    if value is None:
        return none
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None


def holds_faults(name_or_path: str) -> bool:
    """Whether a preset or file is a study of this kind: it has the key `faults`. False for what cannot be found or read."""
    try:
        text = find_study(name_or_path).read_text(encoding="utf-8")
    except (StudyError, OSError, UnicodeDecodeError):
        return False
    return re.search(r"^faults:", text, re.MULTILINE) is not None


def load_fault_study(name_or_path: str, sets: list[str] | None = None) -> FaultStudy:
    """The study, changed by `key.path=value` texts; StudyError (one line: place, key, value, what is allowed)."""
    path = find_study(name_or_path)
    text = path.read_text(encoding="utf-8")
    data = parse(text, str(path))
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study is a mapping of keys; allowed: {', '.join(FaultStudy.model_fields)}")
    data.pop(HASH, None)
    for change in sets or []:
        apply_set(data, change)
    try:
        return FaultStudy.model_validate(data)
    except ValidationError as error:
        raise StudyError(_first_problem(error, text, path, bool(sets))) from error


def _first_problem(error: ValidationError, text: str, path: Path, changed: bool) -> str:
    first = next((e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0])
    key: KeyPath = tuple(first["loc"])
    line = None if changed else line_of(text, key)
    said = str(first["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    said = "is required" if first["type"] == "missing" else said
    if first["type"] == "extra_forbidden":
        said = f"unknown key; allowed: {', '.join(_keys_at(key[:-1]))}"
    value = "" if first["type"] == "missing" or isinstance(first["input"], dict) else f" = {str(first['input'])[:80]}"
    return f"{path}{f':{line}' if line else ''}: {dotted(key)}{value}: {said}"


def _keys_at(key: KeyPath) -> list[str]:
    """The keys of the mapping at a place of the study."""
    names = [part for part in key if isinstance(part, str)]
    models: dict[str, type[BaseModel]] = {"faults": FaultKeys, "steps": StepKeys, "behaviour": BehaviourKeys}
    return list((models.get(names[-1], FaultStudy) if names else FaultStudy).model_fields)
