"""YAML of a study, strictly: numbers as people write them, no key twice, and the line of every key. It knows no study key."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from flows.study import StudyError

MAX_VALUES = 100_000
"""A study of more values than this is a mistake or an attack."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e9 as a number (PyYAML alone reads it as text) and refuses a key given twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)  # only now: a key of its own may replace a merged one (<<)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, place: str) -> Any:
    """The value of a YAML text; StudyError "PLACE:LINE: …" when it is not YAML."""
    try:
        if _size(yaml.compose(text, _Loader), {}) > MAX_VALUES:
            raise StudyError(f"{place}: its aliases stand for more than {MAX_VALUES} values; write them out, or fewer")
        return yaml.load(text, _Loader)
    except StudyError:
        raise
    except RecursionError as error:
        raise StudyError(f"{place}: not valid YAML: nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{place}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Values under a node with every alias written out, so that a few lines cannot stand for billions; 1 for one in itself."""
    if node is None or id(node) in known:
        return 0 if node is None else known[id(node)]
    known[id(node)] = 1
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
    known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


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
