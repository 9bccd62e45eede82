"""Tags on datasets and on their fields: the words that people filter by and that policies decide by.

A tag is a short word in small letters (`pii`, `customer`, `region:eu`). It stands on a dataset (the empty field) or on one of its
fields; a tag may be set before the first version is committed, so that a policy holds from the first row on. Tags of single rows
are the rows' own and live with them. Functions take a connection: tags change in the transaction that audits the change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from ciranda.data import fields
from ciranda.errors import Invalid
from ciranda.store.database import metadata

TAG = re.compile(r"[^\W_][\w.:-]{0,62}")
MOST = 50  # of one dataset or field

data_tags = sa.Table(
    "data_tags",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("field", sa.String(120), primary_key=True),
    sa.Column("tag", sa.String(63), primary_key=True, index=True),
)


def tag(text: str) -> str:
    """A tag as it is stored: small letters. Raises Invalid."""
    word = text.strip().lower()
    if not TAG.fullmatch(word):
        raise Invalid(
            f"{text[:80]!r} is no tag",
            where="tags",
            remedy="one word: letters, digits, and . : _ - inside it, up to 63",
        )
    return word


def put(conn: sa.Connection, dataset: str, field: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Put these tags in place of those of a dataset or field; returns them as stored. Raises Invalid."""
    fields.dataset(dataset), fields.field(field)
    words = sorted({tag(one) for one in tags})
    if len(words) > MOST:
        raise Invalid(f"{len(words)} tags", where="tags", remedy=f"at most {MOST} stand on one dataset or field")
    conn.execute(data_tags.delete().where(data_tags.c.dataset == dataset, data_tags.c.field == field))
    if words:
        conn.execute(data_tags.insert(), [{"dataset": dataset, "field": field, "tag": word} for word in words])
    return tuple(words)


def of(conn: sa.Connection, dataset: str) -> dict[str, tuple[str, ...]]:
    """The tags of a dataset by field; those of the dataset as a whole are under the empty name."""
    return of_all(conn, [dataset]).get(dataset, {})


def of_all(conn: sa.Connection, datasets: Sequence[str] | None = None) -> dict[str, dict[str, tuple[str, ...]]]:
    """The tags of these datasets (of all, without any), by dataset and field."""
    query = sa.select(data_tags).order_by(data_tags.c.dataset, data_tags.c.field, data_tags.c.tag)
    if datasets is not None:
        query = query.where(data_tags.c.dataset.in_(datasets))
    found: dict[str, dict[str, list[str]]] = {}
    for row in conn.execute(query):
        found.setdefault(row.dataset, {}).setdefault(row.field, []).append(row.tag)
    return {dataset: _frozen(by_field) for dataset, by_field in found.items()}


def used(conn: sa.Connection) -> list[tuple[str, int]]:
    """Every tag, with how many datasets have it on themselves or on a field; the most used first."""
    count = sa.func.count(sa.distinct(data_tags.c.dataset))
    query = sa.select(data_tags.c.tag, count).group_by(data_tags.c.tag).order_by(count.desc(), data_tags.c.tag)
    return [(row[0], int(row[1])) for row in conn.execute(query)]


def _frozen(by_field: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {field: tuple(words) for field, words in by_field.items()}
