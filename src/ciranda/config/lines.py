"""YAML with line numbers: a value that is wrong is named by file, line, key and remedy.

PyYAML's composed nodes know where they stand; pydantic's errors know their path. This file brings the two together.
Duplicate keys, which PyYAML lets the last one win, are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ciranda.errors import Invalid

Shape = TypeVar("Shape", bound=BaseModel)


def read(text: str, shape: type[Shape], *, file: str, manual: str = "`ciranda help model`") -> Shape:
    """Parse `text` into `shape`; `manual` shows every key.

    Raises:
        Invalid: No YAML, no mapping, an unknown or doubled key, a wrong value; every problem of the file is in the message.
    """
    tree = _compose(text, file)
    if not isinstance(tree, yaml.MappingNode):
        raise Invalid("the file holds no `key: value` lines", where=file, remedy="start from `ciranda init`'s example")
    _refuse_doubles(tree, file)
    try:
        return shape.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        problems = [_problem(tree, dict(item), shape, manual) for item in error.errors()]
        first_line, first, remedy = problems[0]
        rest = "".join(f"\n  also {file}:{line}: {message}" for line, message, _ in problems[1:])
        raise Invalid(f"{first}{rest}", where=f"{file}:{first_line}", remedy=remedy) from None


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{file}:{mark.line + 1}" if mark else file
        raise Invalid(
            f"no valid YAML: {getattr(error, 'problem', None) or error}",
            where=line,
            remedy="look at that line and the one above: an indent, a quote or a bracket is off",
        ) from None


def _refuse_doubles(node: yaml.Node, file: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item, file)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise Invalid(
                f"key {key.value!r} stands twice, first on line {seen[key.value]}",
                where=f"{file}:{line}",
                remedy="keep one of the two",
            )
        seen[key.value] = line
        _refuse_doubles(value, file)


def _problem(tree: yaml.Node, item: dict[str, Any], shape: type[BaseModel], manual: str) -> tuple[int, str, str]:
    """Line, message and remedy of one pydantic error."""
    path = [part for part in item["loc"] if part != "[key]"]
    line = _line(tree, path)
    key = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        known = _siblings(shape, path)
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        return line, f"unknown key {key!r}", f"{guess}keys here: {', '.join(known)}" if known else "remove the key"
    if item["type"] == "missing":
        return line, f"key {key!r} is missing", f"add `{path[-1]}: …`"
    message = item["msg"].removeprefix("Value error, ")
    return line, f"{key}: {message} (got {item['input']!r})", f"correct {key!r}; {manual} shows every key"


def _line(node: yaml.Node, path: Sequence[str | int]) -> int:
    line = node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return int(line)


def _siblings(shape: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the mapping around `path` may have, as far as the shape tells."""
    current: Any = shape
    for part in path[:-1]:
        if isinstance(part, int):  # an entry of a list
            current = next(iter(getattr(current, "__args__", ())), None)
            continue
        fields = getattr(current, "model_fields", {})
        field = fields.get(part) or fields.get(f"{part}_")
        if field is None:
            return []
        current = _shape(field.annotation)
    known = getattr(current, "model_fields", {})
    return sorted(field.alias or name for name, field in known.items())


def _shape(annotation: Any) -> Any:
    """What a section is read into, where it may also be left out."""
    given = [one for one in getattr(annotation, "__args__", ()) if hasattr(one, "model_fields")]
    return given[0] if given and type(None) in annotation.__args__ else annotation
