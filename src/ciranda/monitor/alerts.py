"""Messages that somebody must see: raised once per event, acknowledged by a person, closed when the matter is over.

An alert is raised inside the transaction of what it tells of, together with one delivery per target, so neither can be lost
by a kill. `delivery` brings them out afterwards, outside any transaction. Text in an alert is masked by whoever raises it.
It refuses to be raised twice for one event: the second call finds the first alert and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.errors import Conflict, NotFound
from ciranda.govern import audit
from ciranda.store import clock, ids
from ciranda.store.database import metadata

Severity = Literal["info", "warning", "critical"]
State = Literal["open", "acknowledged", "closed"]

LARGEST_PAGE = 500

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("event", sa.String(300), nullable=False, unique=True),
    sa.Column("model", sa.String(120), nullable=False, index=True),
    sa.Column("kind", sa.String(60), nullable=False),
    sa.Column("severity", sa.String(20), nullable=False),
    sa.Column("title", sa.String(500), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("turn", sa.String(200), nullable=False, default=""),
    sa.Column("acknowledged_by", sa.String(200), nullable=False, default=""),
    sa.Column("acknowledged_at", sa.String(32), nullable=False, default=""),
    sa.Column("closed_at", sa.String(32), nullable=False, default=""),
    sa.Column("note", sa.Text, nullable=False, default=""),
)

deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("alert", sa.String(48), sa.ForeignKey("alerts.id"), nullable=False, index=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("next_at", sa.String(32), nullable=False),
    sa.Column("sent_at", sa.String(32), nullable=False, default=""),
)


@dataclass(frozen=True)
class Alert:
    """One alert. `event` names what it tells of; `body` holds summary, figures, groups and examples for the pages."""

    id: str
    event: str
    model: str
    kind: str
    severity: Severity
    title: str
    body: Mapping[str, Any]
    state: State
    at: str
    turn: str = ""
    acknowledged_by: str = ""
    acknowledged_at: str = ""
    closed_at: str = ""
    note: str = ""


@dataclass(frozen=True)
class Delivery:
    """One alert on its way to one target. `state`: pending, sent, failed (with the reason)."""

    id: str
    alert: str
    target: str
    state: str
    attempts: int
    reason: str
    next_at: str
    sent_at: str


def raise_(
    conn: sa.Connection,
    event: str,
    *,
    model: str,
    kind: str,
    severity: Severity,
    title: str,
    body: Mapping[str, Any] | None = None,
    targets: Sequence[str] = ("log",),
    actor: str = "monitor",
    turn: str = "",
    matter: str = "",
) -> Alert:
    """Raise an alert for an event, once; the same event again gives the alert that is there.

    Args:
        conn: The writing connection of the change that it tells of.
        event: Names the event, deterministically, such as `drift:smart-home@1:input:1`.
        model: Whose matter it is; "" for the platform's own.
        kind: drift, quality, feedback, rollout, storage …
        severity: info, warning or critical.
        title: One sentence with figures.
        body: JSON values for the page: summary, since, figures, groups, examples. No unmasked user text.
        targets: `alerts:` of the model file: log, webhook:https://…, email:….
        actor: Who raises it, for the audit log.
        turn: The turn that it belongs to, when there is one.
        matter: How the events of one matter begin. While an alert of it is not closed, nobody is told again: that alert
            counts the times, and keeps the newest word.
    """
    if known := conn.execute(sa.select(alerts).where(alerts.c.event == event)).mappings().first():
        return Alert(**known)
    if matter and (open_ := _open(conn, model, matter)):
        return _again(conn, open_, title, body or {})
    alert = Alert(
        ids.new("alert"), event, model, kind, severity, title[:500], dict(body or {}), "open", clock.iso(), turn
    )
    conn.execute(alerts.insert().values(**alert.__dict__))
    for target in dict.fromkeys(targets):
        conn.execute(deliveries.insert().values(
            id=ids.new("delivery"), alert=alert.id, target=target, state="pending", next_at=alert.at))  # fmt: skip
    audit.record(conn, actor=actor, action="alert.raised", subject=alert.id,
                 detail={"event": event, "model": model, "kind": kind, "severity": severity})  # fmt: skip
    return alert


def _open(conn: sa.Connection, model: str, matter: str) -> Alert | None:
    """The alert of a matter that is not closed."""
    query = sa.select(alerts).where(
        alerts.c.model == model, alerts.c.state != "closed", alerts.c.event.startswith(matter, autoescape=True)
    )
    found = conn.execute(query.order_by(alerts.c.at.desc())).mappings().first()
    return Alert(**found) if found else None


def _again(conn: sa.Connection, alert: Alert, title: str, body: Mapping[str, Any]) -> Alert:
    """The same matter once more: its newest word, and how often it came."""
    told = {**body, "times": int(alert.body.get("times", 1)) + 1, "latest_at": clock.iso()}
    conn.execute(alerts.update().where(alerts.c.id == alert.id).values(title=title[:500], body=told))
    return replace(alert, title=title[:500], body=told)


def acknowledge(conn: sa.Connection, identifier: str, *, actor: str, note: str = "") -> Alert:
    """Somebody has seen it and takes it. Again by the same person changes nothing.

    Raises:
        NotFound: no such alert.
        Conflict: it is closed, or another person has it.
    """
    alert = get(conn, identifier)
    if alert.state == "acknowledged" and alert.acknowledged_by == actor:
        return alert
    if alert.state != "open":
        owner = f" by {alert.acknowledged_by}" if alert.acknowledged_by else ""
        raise Conflict(f"alert {identifier} is {alert.state}{owner} already", where="alerts",
                       remedy="look at the alert; an open one can be acknowledged")  # fmt: skip
    return _change(conn, alert, actor=actor, action="alert.acknowledged", state="acknowledged",
                   acknowledged_by=actor, acknowledged_at=clock.iso(), note=note)  # fmt: skip


def close(conn: sa.Connection, identifier: str, *, actor: str, note: str = "") -> Alert:
    """The matter is over. Closing a closed alert changes nothing."""
    alert = get(conn, identifier)
    if alert.state == "closed":
        return alert
    return _change(conn, alert, actor=actor, action="alert.closed", state="closed", closed_at=clock.iso(),
                   note=note or alert.note)  # fmt: skip


def close_all(conn: sa.Connection, model: str, *, kinds: Sequence[str], actor: str, note: str = "") -> list[Alert]:
    """Close what is open of these kinds, as when a new version is live and the old one's drift is history."""
    found = conn.execute(sa.select(alerts.c.id).where(
        alerts.c.model == model, alerts.c.kind.in_(list(kinds)), alerts.c.state != "closed"))  # fmt: skip
    return [close(conn, row.id, actor=actor, note=note) for row in found.all()]


def assign(conn: sa.Connection, identifier: str, turn: str) -> None:
    """Note the turn that an alert has led to."""
    conn.execute(alerts.update().where(alerts.c.id == identifier).values(turn=turn))


def forget(conn: sa.Connection, interactions: set[str]) -> None:
    """Take the words of these interactions out of every alert."""
    for row in conn.execute(sa.select(alerts.c.id, alerts.c.body)).all():
        body = scrub(row.body, interactions)
        if body != row.body:
            conn.execute(alerts.update().where(alerts.c.id == row.id).values(body=body))


def scrub(value: Any, interactions: set[str]) -> Any:
    """A JSON value whose examples, pairs of interaction and text, have lost the text of these interactions."""
    if isinstance(value, Mapping):
        return {name: scrub(one, interactions) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and isinstance(value[0], str) and value[0] in interactions:
            return [value[0], ""]
        return [scrub(one, interactions) for one in value]
    return value


def get(conn: sa.Connection, identifier: str) -> Alert:
    """One alert. Raises NotFound."""
    row = conn.execute(sa.select(alerts).where(alerts.c.id == identifier)).mappings().first()
    if row is None:
        raise NotFound(f"no alert {identifier!r}", where="alerts", remedy="list them: GET /api/v1/alerts")
    return Alert(**row)


def page(
    conn: sa.Connection,
    *,
    model: str | None = None,
    models: Sequence[str] | None = None,
    state: str | None = None,
    kind: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Alert]:
    """Alerts, newest first; `before` is the id of the last one seen. `models` restricts to those a key may see."""
    query = sa.select(alerts).order_by(alerts.c.id.desc()).limit(max(1, min(limit, LARGEST_PAGE)))
    for column, value in ((alerts.c.model, model), (alerts.c.state, state), (alerts.c.kind, kind)):
        query = query.where(column == value) if value else query
    if models is not None:
        query = query.where(alerts.c.model.in_(list(models)))
    if before:
        query = query.where(alerts.c.id < before)
    return [Alert(**row) for row in conn.execute(query).mappings()]


def count(conn: sa.Connection, *, model: str | None = None, state: str = "open") -> int:
    """How many alerts are in a state."""
    query = sa.select(sa.func.count()).select_from(alerts).where(alerts.c.state == state)
    return int(conn.execute(query.where(alerts.c.model == model) if model else query).scalar_one())


def deliveries_of(conn: sa.Connection, identifier: str) -> list[Delivery]:
    """Where an alert went, and how that ended."""
    rows = conn.execute(sa.select(deliveries).where(deliveries.c.alert == identifier).order_by(deliveries.c.id))
    return [Delivery(**row) for row in rows.mappings()]


def _change(conn: sa.Connection, alert: Alert, *, actor: str, action: str, **values: Any) -> Alert:
    conn.execute(alerts.update().where(alerts.c.id == alert.id).values(**values))
    audit.record(conn, actor=actor, action=action, subject=alert.id,
                 detail={"model": alert.model, "note": values.get("note", "")})  # fmt: skip
    return get(conn, alert.id)
