"""Values of a cursor: times, days, numbers and texts, kept as JSON so that they come back as what they were.

A text that reads as a time is compared as a time (`…Z` and `…+00:00` are one moment), so that an API may change how it writes
them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ciranda.errors import Invalid
from ciranda.store import clock


def written(value: Any) -> str:
    """A value as it is kept; empty for none."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return json.dumps({"time" if value.tzinfo else "local": value.isoformat()})
    if isinstance(value, date):
        return json.dumps({"day": value.isoformat()})
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return json.dumps({"number": str(value)})
    return json.dumps({"text": str(value)}, ensure_ascii=False)


def value_of(text: str) -> Any:
    """The reverse of `written`. Raises Invalid for what is no cursor of ours."""
    if not text:
        return None
    try:
        ((kind, value),) = json.loads(text).items()
        if kind in ("time", "local"):
            return datetime.fromisoformat(value)
        if kind == "day":
            return date.fromisoformat(value)
        return _number(value) if kind == "number" else str(value)
    except (ValueError, AttributeError, ArithmeticError) as error:
        raise Invalid(
            f"{text[:80]!r} is no cursor", where="ingestions", remedy="read the source again: `--from beginning`"
        ) from error


def given(text: str, like: Any) -> Any:
    """What a person wrote after `--from`, as a value like the cursor's. Raises Invalid."""
    try:
        if isinstance(like, int | float | Decimal):
            return _number(text)
        if isinstance(like, datetime):
            moment = clock.parse(text)
            return moment if like.tzinfo else moment.replace(tzinfo=None)
        if isinstance(like, date):
            return clock.parse(text).date()
        return text if like is not None else _guessed(text)
    except (ValueError, ArithmeticError) as error:
        raise Invalid(f"{text!r} is not like the cursor, {like!r}", where="--from", remedy="write it alike") from error


def later(one: Any, other: Any) -> Any:
    """The greater of two values; None is the smallest."""
    if one is None or other is None:
        return other if one is None else one
    first, second = _comparable(one), _comparable(other)
    if type(first) is not type(second):
        first, second = str(one), str(other)
    return other if second > first else one


def before(value: Any, lag: float) -> Any:
    """The value less the lag: seconds of a time, or a number. Raises Invalid for a text that is no time."""
    if value is None or not lag:
        return value
    if isinstance(value, datetime):
        return value - timedelta(seconds=lag)
    if isinstance(value, date):
        return value - timedelta(seconds=lag)
    if isinstance(value, int | float | Decimal):
        return Decimal(str(value)) - Decimal(str(lag))
    moment = _comparable(value)
    if not isinstance(moment, datetime):
        raise Invalid(f"no time can be taken from {value!r}", where="data: sources: lag", remedy="leave `lag` out")
    zone = "Z" if value.endswith("Z") else value[-6:] if value[-6:-5] in ("+", "-") else ""
    moment = (datetime.fromisoformat(value) - timedelta(seconds=lag)).replace(tzinfo=None)
    return moment.isoformat(sep=value[10] if len(value) > 10 else "T") + zone


def shown(value: Any) -> str:
    """A value for a query string."""
    if isinstance(value, datetime):
        return clock.iso(value) if value.tzinfo else value.isoformat()
    return str(value)


def _number(text: str) -> int | Decimal:
    return int(text) if text.lstrip("-").isdecimal() else Decimal(text)


def _guessed(text: str) -> Any:
    if text.lstrip("-").isdecimal() and len(text) != 8:
        return int(text)
    try:
        return clock.parse(text)
    except ValueError:
        return text


def _comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float | Decimal):
        return Decimal(str(value))
    try:
        return clock.parse(str(value))
    except ValueError:
        return str(value)
