"""The rows of reproductions: a version that is trained again, to see how near it comes.

States: waiting (asked for), running, complete (compared; `verdict` says how near), failed, cancelled. `loop.reproduce` is the only
writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.store.database import metadata

OPEN = ("waiting", "running")

reproductions = sa.Table(
    "reproductions",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.String(100), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("verdict", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("asked_at", sa.String(32), nullable=False),
    sa.Column("asked_by", sa.String(200), nullable=False),
    sa.Column("ended_at", sa.String(32)),
)


@dataclass(frozen=True)
class Reproduction:
    """A row of `reproductions`."""

    id: str
    model: str
    version: str
    state: str
    job: str
    verdict: Mapping[str, Any]
    reason: str
    asked_at: str
    asked_by: str
    ended_at: str | None

    @property
    def open(self) -> bool:
        return self.state in OPEN


def get(conn: sa.Connection, identifier: str) -> Reproduction:
    """One reproduction. Raises NotFound."""
    row = conn.execute(sa.select(reproductions).where(reproductions.c.id == identifier)).first()
    if row is None:
        raise NotFound(
            f"no reproduction {identifier!r}", where="reproductions", remedy="GET /api/v1/reproductions lists them"
        )
    return Reproduction(**row._mapping)


def of(conn: sa.Connection, version: str, *, limit: int = 20) -> list[Reproduction]:
    """Those of a version, newest first."""
    query = sa.select(reproductions).where(reproductions.c.version == version)
    found = conn.execute(query.order_by(reproductions.c.asked_at.desc(), reproductions.c.id.desc()).limit(limit))
    return [Reproduction(**row._mapping) for row in found]


def unfinished(conn: sa.Connection) -> list[Reproduction]:
    """Those under way, and those that were cancelled last, whose jobs may still run; oldest first."""
    query = sa.select(reproductions).where(reproductions.c.state.in_((*OPEN, "cancelled")))
    found = conn.execute(query.order_by(reproductions.c.asked_at.desc()).limit(200)).all()
    return [Reproduction(**row._mapping) for row in reversed(found)]


def change(conn: sa.Connection, identifier: str, *, states: tuple[str, ...] = OPEN, **values: Any) -> bool:
    """Set columns while it is in one of these states; whether it was."""
    mine = (reproductions.c.id == identifier) & reproductions.c.state.in_(states)
    return bool(conn.execute(reproductions.update().where(mine).values(**values)).rowcount)
