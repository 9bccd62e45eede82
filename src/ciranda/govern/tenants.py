"""Bounds of tenants: what all keys of one customer, team or app may use together.

A tenant is a name on keys; a row is here only while it has bounds. Taking the last bound away takes the row away.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ciranda.config.bounds import Bounds
from ciranda.errors import Invalid
from ciranda.govern import access, audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("changed_at", sa.String(32), nullable=False),
    sa.Column("changed_by", sa.String(200), nullable=False),
)


def limit(conn: sa.Connection, name: str, limits: Bounds, *, actor: str) -> None:
    """Put other bounds in place of a tenant's. Raises Invalid for what no key could carry."""
    if not access.TENANT.fullmatch(name):
        raise Invalid(f"no name for a tenant: {name[:100]!r}", where="tenant", remedy="letters, digits, . _ - only")
    before = bounds(conn).get(name, {})
    conn.execute(tenants.delete().where(tenants.c.name == name))
    if limits.to_dict():
        conn.execute(
            tenants.insert().values(name=name, limits=limits.to_dict(), changed_at=clock.iso(), changed_by=actor)
        )
    audit.record(
        conn, actor=actor, action="tenant.limited", subject=name, detail={"before": before, "limits": limits.to_dict()}
    )


def bounds(conn: sa.Connection) -> dict[str, dict[str, Any]]:
    """What binds, by tenant."""
    return {row.name: row.limits for row in conn.execute(sa.select(tenants).order_by(tenants.c.name))}


def names(database: Database) -> dict[str, dict[str, Any]]:
    """Every tenant that has an open key or bounds, with its bounds."""
    with database.reading() as conn:
        bound = bounds(conn)
        carried = conn.execute(sa.select(access.keys.c.tenant).where(access.keys.c.revoked_at.is_(None)).distinct())
        return {name: bound.get(name, {}) for name in sorted({*bound, *(row.tenant for row in carried)})}
