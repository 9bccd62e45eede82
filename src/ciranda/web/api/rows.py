"""Rows of the control database as JSON values, page by page.

The API shows what the owners of the tables wrote, column by column and under the same names, so a new column is in the answer
without a line here. Tables are found by name on the shared metadata, since reading them makes nobody their writer. Pages go on
after the last row seen (by time or number, then by key), never by offset, so that rows that arrive meanwhile shift nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Invalid, NotFound
from ciranda.store.database import Database, metadata
from ciranda.web.api.asked import Page

Item = dict[str, Any]


def table(name: str) -> sa.Table:
    """A table of the control database."""
    return metadata.tables[name]


def every(db: Database, name: str, *, order: str, **equal: Any) -> list[Item]:
    """All rows with these values (a sequence: any of them), ordered by one column."""
    source = table(name)
    with db.reading() as conn:
        found = conn.execute(sa.select(source).where(*_conditions(source, equal)).order_by(source.c[order]))
        return [dict(row._mapping) for row in found]


def newest(db: Database, name: str, *, order: str, **equal: Any) -> Item | None:
    """The last row by one column, or None."""
    source = table(name)
    query = sa.select(source).where(*_conditions(source, equal)).order_by(source.c[order].desc()).limit(1)
    with db.reading() as conn:
        found = conn.execute(query).first()
    return dict(found._mapping) if found else None


def one(db: Database, name: str, *, remedy: str, **equal: Any) -> Item:
    """The row with these values. Raises NotFound."""
    source = table(name)
    with db.reading() as conn:
        found = conn.execute(sa.select(source).where(*_conditions(source, equal))).first()
    if found is None:
        asked = " ".join(str(value) for value in equal.values())
        raise NotFound(f"nothing is called {asked!r}", where=name, remedy=remedy)
    return dict(found._mapping)


def page(db: Database, name: str, asked: Page, *, order: str, **equal: Any) -> Item:
    """One page, newest first, as `items` and the cursor `next` (None at the end)."""
    source = table(name)
    keys = [source.c[order], *(column for column in source.primary_key.columns if column.name != order)]
    query = sa.select(source).where(*_conditions(source, equal)).order_by(*(column.desc() for column in keys))
    if asked.cursor:
        query = query.where(sa.tuple_(*keys) < sa.tuple_(*place(asked.cursor, len(keys))))
    with db.reading() as conn:
        found = [dict(row._mapping) for row in conn.execute(query.limit(asked.limit + 1))]
    last = found[asked.limit - 1] if len(found) > asked.limit else None
    return listed(found[: asked.limit], cursor([last[column.name] for column in keys]) if last else None)


def listed(items: Sequence[Any], following: str | None = None) -> Item:
    """What every list answers with."""
    return {"items": list(items), "next": following}


def cursor(values: Sequence[Any]) -> str:
    """Where a page ended, as text that nobody needs to read."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def place(text: str, length: int) -> list[Any]:
    """The reverse of `cursor`. Raises Invalid for one that we did not make."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        values = None
    if not isinstance(values, list) or len(values) != length or any(isinstance(one, list | dict) for one in values):
        raise Invalid(
            f"{text!r} is no cursor", where="query: cursor", remedy="pass `next` of the page before, or nothing"
        )
    return values


def _conditions(source: sa.Table, equal: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """Equality with each value; `None` leaves the column out, a tuple means any of its values."""
    return [
        source.c[name].in_(value) if isinstance(value, tuple) else source.c[name] == value
        for name, value in equal.items()
        if value is not None
    ]
