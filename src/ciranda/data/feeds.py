"""Datasets that are fed without a model: the applied file of each, `datasets/<name>.yaml`, with a generation.

A dataset has one owner of its sources: a model's file or a file of its own. The same file again changes nothing. Taking a feed away
stops its ingestions; the versions that it made stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ciranda.config.model import DatasetSpec
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

feeds = sa.Table(
    "feeds",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("applied_at", sa.String(32), nullable=False),
    sa.Column("applied_by", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class Feed:
    """One dataset's file as applied."""

    spec: DatasetSpec
    generation: int
    applied_at: str
    applied_by: str


def put(conn: sa.Connection, spec: DatasetSpec, *, actor: str) -> Feed:
    """Make `spec` the dataset's applied file."""
    before = find(conn, spec.dataset)
    if before is not None and before.spec == spec:
        return before
    after = Feed(spec, before.generation + 1 if before else 1, clock.iso(), actor)
    row = {
        "spec": spec.model_dump(mode="json"),
        "generation": after.generation,
        "applied_at": after.applied_at,
        "applied_by": actor,
    }
    if before is None:
        conn.execute(feeds.insert().values(dataset=spec.dataset, **row))
    else:
        conn.execute(feeds.update().where(feeds.c.dataset == spec.dataset).values(**row))
    audit.record(
        conn, actor=actor, action="feed.applied", subject=spec.dataset,
        detail={"generation": after.generation, "spec": row["spec"]},
    )  # fmt: skip
    return after


def remove(conn: sa.Connection, dataset: str, *, actor: str) -> None:
    """Take a feed away. Raises NotFound."""
    if not conn.execute(feeds.delete().where(feeds.c.dataset == dataset)).rowcount:
        raise NotFound(f"{dataset!r} has no file of its own", where="feeds", remedy="`ciranda sources` lists them")
    audit.record(conn, actor=actor, action="feed.removed", subject=dataset)


def find(conn: sa.Connection, dataset: str) -> Feed | None:
    """The dataset's file, or None."""
    row = conn.execute(sa.select(feeds).where(feeds.c.dataset == dataset)).first()
    return _feed(row) if row else None


def every(conn: sa.Connection) -> list[Feed]:
    """All of them, by name."""
    return [_feed(row) for row in conn.execute(sa.select(feeds).order_by(feeds.c.dataset))]


def _feed(row: sa.Row[tuple[object, ...]]) -> Feed:
    return Feed(DatasetSpec.model_validate(row.spec), row.generation, row.applied_at, row.applied_by)
