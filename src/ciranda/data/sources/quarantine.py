"""Bad rows, kept aside with the reason and what stood there, until somebody mended the source or gave them up.

A bad row is named by dataset, source, place and content, so finding it again in the next run adds nothing. `retry` gives it
back to the next run, which reads it with the mapping of that day; a row that a whole reading of its source no longer finds is
mended by itself. What stands here may speak of people: a row that is mended or dropped loses its content, and an erasure goes
through this table as through all others of control.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.data.sources.found import Bad, Item
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata

LONGEST = 65_536  # characters of a record that are kept
WAITING = ("waiting", "retry")
EMPTIED = {"record": "", "reason": ""}  # a reason quotes what stood there

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("dataset", sa.String(63), nullable=False, index=True),
    sa.Column("source", sa.String(500), nullable=False),
    sa.Column("origin", sa.String(2000), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("first_at", sa.String(32), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
)


def name_of(dataset: str, source: str, bad: Bad) -> str:
    """The same bad row has the same name in every run."""
    whole = json.dumps([dataset, source, bad.origin, bad.record])
    return f"bad_{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def keep(db: Database, dataset: str, source: str, run: str, found: Sequence[Bad]) -> None:
    """Put bad rows aside; one that is there already is told anew, one that was given up stays so."""
    now = clock.iso()
    named = {bad.name or name_of(dataset, source, bad): bad for bad in found}
    with db.writing() as conn:
        known = _states(conn, named)
        new = [
            {"id": name, "dataset": dataset, "source": source, "origin": bad.origin[:2000], "reason": bad.reason,
             "record": bad.record[:LONGEST], "state": "waiting", "run": run, "first_at": now, "at": now, "actor": ""}
            for name, bad in named.items() if name not in known
        ]  # fmt: skip
        if new:
            conn.execute(quarantine.insert(), new)
        for name, state in known.items():
            if state != "dropped":
                values = {"state": "waiting", "reason": named[name].reason, "run": run, "at": now}
                conn.execute(quarantine.update().where(quarantine.c.id == name).values(**values))


def _states(conn: sa.Connection, named: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    names = list(named)
    for start in range(0, len(names), 500):
        query = sa.select(quarantine.c.id, quarantine.c.state).where(quarantine.c.id.in_(names[start : start + 500]))
        found.update({row.id: row.state for row in conn.execute(query)})
    return found


def retried(db: Database, dataset: str, source: str) -> dict[str, Item]:
    """The rows that somebody wants to be read again, by their names."""
    mine = (quarantine.c.dataset == dataset) & (quarantine.c.source == source) & (quarantine.c.state == "retry")
    with db.reading() as conn:
        rows = conn.execute(sa.select(quarantine).where(mine).order_by(quarantine.c.origin)).all()
    return {row.id: Item(row.origin, _record(row.record)) for row in rows}


def _record(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def settle(conn: sa.Connection, dataset: str, source: str, *, mended: Sequence[str] = (), whole_run: str = "") -> None:
    """Within the transaction that registers a version: what came through is mended.

    Args:
        mended: Rows that were retried and are good now.
        whole_run: A run that read all of the source: what it did not find bad any more is mended.
    """
    now = clock.iso()
    for name in mended:
        conn.execute(quarantine.update().where(quarantine.c.id == name).values(state="mended", at=now, **EMPTIED))
    if whole_run:
        mine = (quarantine.c.dataset == dataset) & (quarantine.c.source == source) & (quarantine.c.run != whole_run)
        conn.execute(
            quarantine.update().where(mine & quarantine.c.state.in_(WAITING)).values(state="mended", at=now, **EMPTIED)
        )


def ask(conn: sa.Connection, dataset: str, *, names: Sequence[str], state: str, actor: str) -> int:
    """`retry` rows or have them `dropped`: the named ones, or all that wait. Raises NotFound when none of them waits."""
    mine = (quarantine.c.dataset == dataset) & quarantine.c.state.in_(WAITING)
    if names:
        mine &= quarantine.c.id.in_(list(names))
    values = {"state": state, "actor": actor, "at": clock.iso()} | (EMPTIED if state == "dropped" else {})
    count = conn.execute(quarantine.update().where(mine).values(**values)).rowcount
    if not count:
        raise NotFound(
            f"no bad row of {dataset} waits{' under these names' if names else ''}", where="quarantine",
            remedy=f"`ciranda quarantine list {dataset}` shows them",
        )  # fmt: skip
    action = {"retry": "quarantine.retried", "dropped": "quarantine.dropped"}[state]
    audit.record(conn, actor=actor, action=action, subject=dataset, detail={"rows": count, "named": list(names)[:50]})
    return count


def page(
    db: Database,
    *,
    dataset: str = "",
    state: str = "",
    within: Sequence[str] | None = None,
    before: str = "",
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Bad rows, the newest first; `before` is the place (`at id`) of the last one seen."""
    query = sa.select(quarantine).order_by(quarantine.c.first_at.desc(), quarantine.c.id.desc()).limit(limit)
    for column, value in (("dataset", dataset), ("state", state)):
        if value:
            query = query.where(quarantine.c[column] == value)
    if within is not None:
        query = query.where(quarantine.c.dataset.in_(list(within)))
    if before:
        at, _, name = before.partition(" ")
        query = query.where(sa.tuple_(quarantine.c.first_at, quarantine.c.id) < sa.tuple_(at, name))
    with db.reading() as conn:
        return [dict(row._mapping) for row in conn.execute(query)]


def place(row: Mapping[str, Any]) -> str:
    """Where a page that ends with this row goes on."""
    return f"{row['first_at']} {row['id']}"


def waiting(db: Database, dataset: str) -> int:
    """How many bad rows of a dataset wait for somebody."""
    mine = (quarantine.c.dataset == dataset) & quarantine.c.state.in_(WAITING)
    with db.reading() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(quarantine).where(mine)).scalar() or 0)
