"""A record of a source becomes a row: by `map`, or as it is when it has our names already.

Paths go into nested objects with dots (`user.id`, `choices.0.text`); `=en` is a constant. What is no text is written as one
where a text belongs (a number as prompt), and what a row's `extra` cannot hold is written as JSON. A field that is asked for
and absent is a bad row only where a row cannot be without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from ciranda.config.source import Map
from ciranda.data import files, rows
from ciranda.data.rows import Row
from ciranda.errors import Invalid

TEXTS = ("prompt", "completion", "system", "rejected", "language", "group", "split", "subject")
VOTES = {"up": 1, "down": -1, "true": 1, "false": -1, "1": 1, "-1": -1, "0": 0, "": 0}
MOST_EXTRA = 100


def row_of(record: object, shape: Map | None, *, origin: str, source: str, strict: bool) -> Row:
    """One record as a row. Raises Invalid with the reason.

    Args:
        shape: Which field is what; None when the record is in a form that `files` knows.
        strict: Without a map: refuse names that nobody knows; else they go to `extra`.
    """
    if isinstance(record, Mapping) and shape:
        return rows.parse(_mapped(record, shape), origin=origin, source=source)
    if isinstance(record, Mapping) and not strict:
        record = _named(record)
    found = files.parsed(record, origin, source, strict)
    if isinstance(found, Invalid):
        raise found
    return found


def field(record: object, path: str) -> Any:
    """What stands at a path; None when nothing does."""
    if path.startswith("="):
        return path[1:]
    if isinstance(record, Mapping) and path in record:
        return record[path]
    for part in path.split("."):
        if isinstance(record, Mapping):
            record = record.get(part)
        elif isinstance(record, Sequence) and not isinstance(record, str) and part.isdecimal():
            record = record[int(part)] if int(part) < len(record) else None
        else:
            return None
    return record


def _mapped(record: Mapping[str, Any], shape: Map) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in TEXTS:
        path = getattr(shape, name)
        value = field(record, path) if path else None
        if value is not None:
            made[name] = value if isinstance(value, str) else str(plain(value))
    if shape.messages:
        made["messages"] = _messages(field(record, shape.messages))
    if shape.thumb:
        made["thumb"] = _vote(field(record, shape.thumb))
    if shape.tags:
        made["tags"] = _tags(field(record, shape.tags))
    if extra := _extra(record, shape):
        made["extra"] = extra
    return made


def _named(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a table or an API: what is empty is absent; with our names, unknown fields are kept beside."""
    there = {name: value for name, value in record.items() if value is not None}
    if "messages" in there:
        there["messages"] = _messages(there["messages"])
    if not {"prompt", "messages"} & set(there) or "completion" not in there:
        return there
    extra = {name: plain(value) for name, value in there.items() if name not in rows.KEYS}
    known = {name: value for name, value in there.items() if name in rows.KEYS}
    extra |= known.get("extra") or {}
    return {**known, "extra": extra} if extra else known


def _messages(value: Any) -> Any:
    """A conversation; a column of text holds it as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _vote(value: Any) -> int:
    text = str(plain(value) if value is not None else "").casefold()
    if text not in VOTES:
        raise Invalid(f"bad row: thumb is {value!r}", where="map: thumb", remedy="map a field with 1, -1 or 0")
    return VOTES[text]


def _tags(value: Any) -> list[str]:
    if isinstance(value, str):
        return [tag.strip() for tag in value.split(",") if tag.strip()]
    return [str(tag) for tag in value] if isinstance(value, Sequence) else []


def _extra(record: Mapping[str, Any], shape: Map) -> dict[str, Any]:
    """The named fields, or all that went nowhere else."""
    if shape.extra == "none":
        return {}
    if shape.extra != "rest":
        found = {path: field(record, path) for path in shape.extra}
        return {path.removeprefix("="): plain(value) for path, value in found.items()}
    taken = {str(path) for name in (*TEXTS, "messages", "thumb", "tags") if (path := getattr(shape, name))}
    used = {path.split(".")[0] for path in taken} | taken
    rest = [name for name in record if name not in used]
    return {name: plain(record[name]) for name in rest[:MOST_EXTRA]}


def plain(value: Any) -> str | int | float | bool | None:
    """A value as `extra` holds it: times as ISO 8601, decimals as numbers, the nested as JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, UUID):
        return str(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_said)


def written(record: object) -> str:
    """A record as it is kept in quarantine."""
    return record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=_said)


def _said(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | memoryview) else str(plain(value)) if _known(value) else str(value)


def _known(value: Any) -> bool:
    return isinstance(value, date | time | Decimal | UUID)
