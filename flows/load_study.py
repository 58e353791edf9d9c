"""From a preset's name or a YAML file, with --set changes, to a checked Study. It writes nothing: a bad study leaves no trace."""

import types
import typing
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from flows.check_names import check_names
from flows.problems import nearest
from flows.study import DERIVED_KEYS, Study, StudyError, without_tags
from flows.study_text import line_of, parse

PRESETS = Path(__file__).parent / "presets"
MAX_DEPTH = 20
"""Parts of a key path in --set; the study's own keys are at most 6 deep."""
KeyPath = tuple[str | int, ...]


def preset_names() -> list[str]:
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def load_study(name_or_path: str, sets: list[str] | None = None, seed: int | None = None, *, trace_known: bool = False) -> Study:
    """The study, changed by `key.path=value` texts in order; with `seed` N its seeds become N, N+1, ….

    `trace_known` True: the trace need not exist any more.
    StudyError (one line: place, key, value, what is allowed) for anything that could not run.
    """
    path = find_study(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read: {error}") from error
    data = parse(text, str(path))
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study is a mapping of keys; allowed: {', '.join(Study.model_fields)}")
    for key in DERIVED_KEYS:
        data.pop(key, None)
    changed = {apply_set(data, change): change for change in sets or []}
    source = _Source(str(path), text, changed)
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        _raise_first(error, source)
    if seed is not None:
        study = _shifted(study, seed)
    for key_path, value, allowed in check_names(study, trace_known):
        raise StudyError(f"{source.place(key_path)}: {dotted(key_path)} = {_short(value)}: {allowed}")
    if study.load.rps is not None:
        study.check_size(study.load.rps)
        study.check_enough(study.load.rps)
    study.check_size(1e-3)
    return study


def find_study(name_or_path: str) -> Path:
    """The YAML file meant; StudyError naming what was looked for."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    preset = PRESETS / f"{name_or_path}.yaml"
    if path.name == name_or_path and preset.is_file():
        return preset
    raise StudyError(f"STUDY = {name_or_path!r}: no such file, nor a preset; presets: {', '.join(preset_names())}")


def _shifted(study: Study, seed: int) -> Study:
    if not 0 <= seed < 2**31 - len(study.seeds):
        raise StudyError(f"--seed = {seed}: must be from 0 to {2**31 - len(study.seeds) - 1}")
    return study.model_copy(update={"seeds": [seed + i for i in range(len(study.seeds))]})


def apply_set(data: dict[str, Any], change: str) -> KeyPath:
    """Put `key.path=value` (value is YAML; list positions are numbers) into `data`; returns the path."""
    key, equals, value_text = change.partition("=")
    if not equals or not key.strip():
        raise StudyError(f"--set {_cut(change)}: must be key.path=value")
    value = parse(value_text, f"--set {_cut(change)}")
    path: KeyPath = tuple(int(part) if part.isdecimal() else part for part in key.strip().split("."))
    if len(path) > MAX_DEPTH:
        raise StudyError(f"--set {_cut(change)}: no key lies {len(path)} deep; at most {MAX_DEPTH}")
    if len(path) == 2 and path[0] == "load" and isinstance(data.get("load"), dict):
        data["load"] = {}  # fraction and rps exclude each other, so setting one replaces the other
    if len(path) > 1 and path[0] not in data and path[0] in Study.model_fields:
        data[path[0]] = _written_default(str(path[0]))
    target: Any = data
    for i, part in enumerate(path[:-1]):
        target = _child(target, part, path[: i + 1], change)
    _put(target, path, value, change)
    return path


def _written_default(key: str) -> Any:
    """A key's default as it would stand in a study file, so that a part of it can be set."""
    default = Study.model_fields[key].get_default()
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json", exclude_unset=True)
    return [item.model_dump(mode="json", exclude_unset=True) if isinstance(item, BaseModel) else item for item in default]


def _child(target: Any, part: str | int, path: KeyPath, change: str) -> Any:
    if isinstance(target, dict):
        if target.get(str(part)) is None:
            target[str(part)] = {}
        return target[str(part)]
    if isinstance(target, list) and isinstance(part, int) and part <= len(target):
        if part == len(target):
            target.append({})
        if isinstance(target[part], str):
            target[part] = {"name": target[part]}
        return target[part]
    return _no_place(target, path, change)


def _put(target: Any, path: KeyPath, value: Any, change: str) -> None:
    last = path[-1]
    if isinstance(target, dict):
        target[str(last)] = value
    elif isinstance(target, list) and isinstance(last, int) and last < len(target):
        target[last] = value
    elif isinstance(target, list) and last == len(target):
        target.append(value)
    else:
        _no_place(target, path, change)


def _no_place(target: Any, path: KeyPath, change: str) -> NoReturn:
    if isinstance(target, list):
        allowed = f"{dotted(path[:-1])} is a list of {len(target)}: use a position from 0 to {len(target)} (one more)"
    else:
        allowed = f"{dotted(path[:-1])} is {target!r}, which holds no keys"
    raise StudyError(f"--set {_cut(change)}: {dotted(path)}: {allowed}")


class _Source:
    """Where each key of a study was written: a line of the file, or a --set."""

    def __init__(self, file: str, text: str, changed: dict[KeyPath, str]) -> None:
        self.file, self.text, self.changed = file, text, changed

    def place(self, path: KeyPath) -> str:
        keys = [str(part) for part in path]
        for set_path, change in reversed(self.changed.items()):
            changed = [str(part) for part in set_path]
            if keys[: len(changed)] == changed or changed[: len(keys)] == keys:
                return f"--set {_cut(change)}"
        line = line_of(self.text, path)
        return f"{self.file}:{line}" if line else self.file


def dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path) or "study"


def _raise_first(error: ValidationError, source: _Source) -> NoReturn:
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path: KeyPath = without_tags(first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise StudyError(f"{source.place(path)}: {_explained(path, first)}{more}") from error


def _explained(path: KeyPath, error: Any) -> str:
    if error["type"] == "extra_forbidden":
        allowed = list(_model_at(path[:-1]).model_fields)
        guess = nearest(str(path[-1]), allowed)
        return f"{dotted(path)} = {_short(error['input'])}: unknown key{guess}; allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{dotted(path)}: is required"
    if error["type"] == "model_type":
        return f"{dotted(path)} = {_short(error['input'])}: must be a mapping of keys: {', '.join(_model_at(path).model_fields)}"
    said = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be").replace("List should", "must")
    return f"{dotted(path)} = {_short(error['input'])}: {said}"


def _short(value: object) -> str:
    try:
        return _cut(repr(value))
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "(a huge number)"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _model_at(path: KeyPath) -> type[BaseModel]:
    """The model whose keys stand at a key path of the study."""
    model: type[BaseModel] = Study
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _inner_model(model.model_fields[part].annotation) or model
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for a in typing.get_args(annotation) if (m := _inner_model(a))), None)
