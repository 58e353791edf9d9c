"""YAML of a study, strictly: numbers as people write them, no key twice, and the line of every key. It knows no study key."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from flows.study import StudyError


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e9 as a number (PyYAML alone reads it as text) and refuses a key given twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    loader.flatten_mapping(node)
    seen: set[object] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, place: str) -> Any:
    """The value of a YAML text; StudyError "PLACE:LINE: …" when it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{place}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error


def line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """The line (from 1) where the deepest known part of a key path stands; None for a path that the text does not hold."""
    node = yaml.compose(text, _Loader)
    line = None
    for part in path:
        step = _step(node, part)
        if step is None:
            break
        mark, node = step
        line = mark.line + 1
    return line


def _step(node: yaml.Node | None, part: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        child = node.value[part]
        return child.start_mark, child
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            if key.value == str(part):
                return key.start_mark, child
    return None
