"""A source as somebody writes it for dlt: a resource that goes on after the newest row it gave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dlt

TICKETS: list[dict[str, Any]] = []
KEYS: list[str] = []


@dlt.resource(name="tickets", primary_key="id")
def tickets(
    key: str,
    changed: Any = dlt.sources.incremental("changed", initial_value=0),  # noqa: B008 - dlt's way
) -> Iterator[dict[str, Any]]:
    KEYS.append(key)
    yield from (one for one in TICKETS if one["changed"] >= changed.last_value)


@dlt.source(name="desk")
def desk(key: str) -> Any:
    return tickets(key)


def no_source() -> None:
    raise AssertionError("called")
