"""Data that is older than somebody expects is an alert, once per time that it went stale; it is closed when rows came."""

from __future__ import annotations

import sqlalchemy as sa

from ciranda.data import freshness
from ciranda.data.freshness import Freshness
from ciranda.monitor import alerts
from ciranda.store.database import Database

KIND = "stale"


def tell(db: Database) -> None:
    """Raise what is stale now, close what no longer is."""
    with db.reading() as conn:
        found = freshness.stale(conn)
        open_ = conn.execute(
            sa.select(alerts.alerts.c.id, alerts.alerts.c.event).where(
                alerts.alerts.c.kind == KIND, alerts.alerts.c.state != "closed"
            )
        ).all()
    wanted = {_event(name, one): (name, one) for name, one in found}
    known = {row.event for row in open_}
    over = [row.id for row in open_ if row.event not in wanted]
    new = {event: one for event, one in wanted.items() if event not in known}
    if over or new:
        with db.writing() as conn:
            for identifier in over:
                alerts.close(conn, identifier, actor="monitor", note="rows came, or less is expected")
            for event, (name, one) in new.items():
                _raise(conn, event, name, one)


def _raise(conn: sa.Connection, event: str, name: str, one: Freshness) -> None:
    body = {"dataset": name, "rows_at": one.rows_at, "looked_at": one.looked_at, "every_s": one.every_s}
    hours = f"{one.every_s / 3600:g} h"
    told = f"its newest rows are of {one.rows_at[:16].replace('T', ' ')} UTC" if one.rows_at else "it has no rows yet"
    alerts.raise_(
        conn, event, model="", kind=KIND, severity="warning", body=body, title=f"{name} is stale: {told}, expected every {hours}"
    )  # fmt: skip


def _event(name: str, one: Freshness) -> str:
    """One event per time that it went stale, under one expectation."""
    return f"{KIND}:{name}:{one.rows_at or 'never'}:{one.every_s:g}"
