"""The audit log: an append-only hash chain over every state change that matters.

Each event carries the SHA-256 of the one before it, so that a changed, removed or inserted event breaks every later hash.
An event is written in the transaction of the change it describes: neither exists without the other. Sealed segments of
interactions put their digests here too, so that the chain also covers every recorded answer.
It refuses to be edited: on SQLite and PostgreSQL triggers abort UPDATE and DELETE (see the migration), and `verify` finds
what somebody with file access did all the same. It cannot notice that the newest events were cut off; comparing the head
with one noted earlier (`ciranda audit verify --head …`) does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.store import clock
from ciranda.store.database import Database, metadata

GENESIS = "0" * 64
CHAIN_LOCK = 0x43495241  # the PostgreSQL advisory lock that makes appends one at a time; SQLite's BEGIN IMMEDIATE does so by itself

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("action", sa.String(100), nullable=False, index=True),
    sa.Column("subject", sa.String(300), nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
)


@dataclass(frozen=True)
class Event:
    """One line of the log. `detail` is canonical JSON; times are UTC."""

    number: int
    at: str
    actor: str
    action: str
    subject: str
    detail: str
    previous: str
    hash: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found: whether the chain holds, how many events it read, its head, and the first break."""

    ok: bool
    events: int
    head: str
    problem: str = ""


def hash_of(number: int, at: str, actor: str, action: str, subject: str, detail: str, previous: str) -> str:
    """SHA-256 over the canonical JSON of all fields and the previous hash."""
    line = json.dumps([number, at, actor, action, subject, detail, previous], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(line.encode()).hexdigest()


def record(
    conn: sa.Connection, *, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> Event:
    """Append one event inside the caller's writing transaction.

    Args:
        conn: A connection from `Database.writing()`; the event lives or dies with its transaction.
        actor: A key's name, or the part of the platform that acted by itself (`loop`, `rollout`, `collector`).
        action: `noun.verb` in the past tense, such as `version.registered`.
        subject: What it was done to, such as `smart-home@2`.
        detail: JSON values only; no secrets, no message bodies.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})
    last = conn.execute(
        sa.select(audit_events.c.number, audit_events.c.hash).order_by(audit_events.c.number.desc()).limit(1)
    ).first()
    number, previous = (last.number + 1, last.hash) if last else (1, GENESIS)
    text = json.dumps(dict(detail or {}), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    at = clock.iso()
    event = Event(
        number, at, actor, action, subject, text, previous,
        hash_of(number, at, actor, action, subject, text, previous),
    )  # fmt: skip
    conn.execute(audit_events.insert().values(**event.__dict__))
    return event


def verify(database: Database, *, head: str = "") -> Verification:
    """Walk the whole chain. With `head`, also demand that this hash, noted earlier, is still in it."""
    previous, count, seen = GENESIS, 0, not head
    with database.reading() as conn:
        for row in conn.execution_options(yield_per=1000).execute(
            sa.select(audit_events).order_by(audit_events.c.number)
        ):
            event = Event(**row._mapping)
            if broken := problem(event, count + 1, previous):
                return Verification(False, count, previous, broken)
            previous, count = event.hash, count + 1
            seen = seen or event.hash == head
    if not seen:
        return Verification(False, count, previous, f"the noted head {head} is not in the chain: its end was cut off")
    return Verification(True, count, previous)


def problem(event: Event, number: int, previous: str) -> str:
    """Why an event is not the one of that number behind that hash; empty when it is."""
    if event.number != number:
        return f"event {number} is missing: the next one carries number {event.number}"
    if event.previous != previous:
        return f"event {number} ({event.action} {event.subject}) does not continue the event before it"
    expected = hash_of(event.number, event.at, event.actor, event.action, event.subject, event.detail, event.previous)
    return "" if expected == event.hash else f"event {number} ({event.action} {event.subject}) was changed"


def page(
    database: Database,
    *,
    before: int | None = None,
    limit: int = 50,
    subject: str = "",
    action: str = "",
    actor: str = "",
) -> list[Event]:
    """Events, newest first; `before` is the number of the last one seen. Filters match beginnings."""
    query = sa.select(audit_events).order_by(audit_events.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(audit_events.c.number < before)
    for column, text in (("subject", subject), ("action", action), ("actor", actor)):
        if text:
            query = query.where(audit_events.c[column].startswith(text, autoescape=True))
    with database.reading() as conn:
        return [Event(**row._mapping) for row in conn.execute(query)]
