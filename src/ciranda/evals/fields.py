"""Measures of an answer as JSON: does it parse, satisfy its schema, mean the same as the reference, field by field?

`jsonschema` checks schemas, and is named here alone. References to other documents are never followed: a schema is what a user or a
client wrote, and fetching from wherever it points would make a scorer a way into the network.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ciranda.errors import Invalid, Unavailable
from ciranda.evals.cases import Said


def valid(said: Said) -> float:
    """The answer is one JSON object."""
    return float(isinstance(parsed(said.answer), dict))


def same(said: Said) -> float:
    """Answer and reference are JSON and mean the same, order and spaces aside."""
    meant, wanted = parsed(said.answer), parsed(said.reference or "")
    return float(meant is not None and _canonical(meant) == _canonical(wanted))


def field(said: Said, *, path: str) -> float:
    """One field is the reference's; `slots.area` looks inside."""
    answer = parsed(said.answer)
    return float(isinstance(answer, dict) and at(answer, path) == at(parsed(said.reference or ""), path))


def fieldwise(said: Said) -> float | None:
    """How many of the fields are right: F1 over the leaves, so that a missing and an invented field both cost."""
    wanted = parsed(said.reference or "")
    if not isinstance(wanted, dict | list):
        return None
    given = parsed(said.answer)
    if not isinstance(given, dict | list):
        return 0.0
    mine, theirs = Counter(_leaves(given)), Counter(_leaves(wanted))
    common = sum((mine & theirs).values())
    return 2 * common / (sum(mine.values()) + sum(theirs.values())) if mine or theirs else 1.0


def satisfies(said: Said) -> float | None:
    """The answer is JSON that its case's schema allows; None without a schema. Live, the request's own schema counts."""
    if said.case is None or said.case.schema is None:
        return None
    answer = parsed(said.answer)
    return float((answer is not None or said.answer.strip() == "null") and allows(said.case.schema, answer))


def allows(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a JSON Schema allows a value; a schema that is none, or that points elsewhere, allows nothing."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(_validator(json.dumps(schema, sort_keys=True)).is_valid(value))
    except (RecursionError, TypeError, re.error, Unresolvable, *_odd()):
        return False


def demand(schema: Mapping[str, Any], where: str) -> None:
    """Refuse what is no JSON Schema. Raises Invalid; Unavailable when the package that reads them is not installed."""
    from_package = _package()
    try:
        from_package.Draft202012Validator.check_schema(dict(schema))
    except from_package.SchemaError as error:
        raise Invalid(
            f"no JSON Schema: {error.message}", where=where, remedy="write it as json-schema.org says"
        ) from None


def parsed(text: str) -> Any:
    """The JSON value of a text, or None. Anything that trips the parser (depth, huge numbers) is no JSON here."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path; None when nothing does."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf with its path. Places in a list do not count, what stands there does."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, _canonical(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from referencing import Registry

    package, whole = _package(), json.loads(schema)
    kind = package.validators.validator_for(whole, default=package.Draft202012Validator)
    kind.check_schema(whole)
    return kind(whole, registry=Registry())


def _odd() -> tuple[type[Exception], ...]:
    """What the package raises about a schema that is none."""
    package = _package()
    return package.SchemaError, package.exceptions.UnknownType


def _package() -> Any:
    try:
        import jsonschema
    except ImportError:
        raise Unavailable(
            "JSON Schemas cannot be read", where="json_schema", remedy='`pip install "ciranda[evals]"`'
        ) from None
    return jsonschema
