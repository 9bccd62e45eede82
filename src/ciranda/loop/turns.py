"""Turns: one run of the loop for one model, as a row that shows at every moment which step it is in, and who acts next.

A turn is asked for by writing its row; the leader starts it. Ids follow from the event that caused it, so a doubled event is one
turn. An automatic turn obeys the model's cool-down and weekly budget, and may wait for corrections first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.errors import Conflict, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("cause", sa.String(40), nullable=False),
    sa.Column("event", sa.String(120), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("automatic", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(30), nullable=False, index=True),
    sa.Column("step", sa.String(40), nullable=False),
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("next_actor", sa.String(200), nullable=False),
    sa.Column("dataset", sa.String(100)),
    sa.Column("version", sa.String(100)),
    sa.Column("rollout", sa.String(60)),
    sa.Column("asked_at", sa.String(32), nullable=False),
    sa.Column("asked_by", sa.String(200), nullable=False),
    sa.Column("started_at", sa.String(32)),
    sa.Column("ended_at", sa.String(32)),
)

OPEN = ("waiting", "queued", "running")
BUSY = (*OPEN, "released", "awaiting_approval")
ENDED = ("promoted", "rolled_back", "refused", "failed", "unchanged", "cancelled")


@dataclass(frozen=True)
class Turn:
    """A row of `turns`. `steps` holds name, state, started_at, ended_at and a summary for each step so far."""

    id: str
    model: str
    cause: str
    event: str
    reason: str
    automatic: bool
    state: str
    step: str
    steps: list[dict[str, Any]]
    next_actor: str
    dataset: str | None
    version: str | None
    rollout: str | None
    asked_at: str
    asked_by: str
    started_at: str | None
    ended_at: str | None


def ask(
    conn: sa.Connection,
    model: str,
    *,
    cause: str,
    event: str,
    reason: str,
    actor: str,
    automatic: bool = False,
    state: str = "queued",
    next_actor: str = "Ciranda, as soon as it is free",
) -> str:
    """Write the row that starts a turn; asking again for the same event changes nothing. Returns its id.

    Raises:
        Conflict: Another turn of this model is under way.
    """
    identifier = f"turn:{model}:{event}"
    if conn.execute(sa.select(turns.c.id).where(turns.c.id == identifier)).first():
        return identifier
    busy = conn.execute(sa.select(turns.c.id).where(turns.c.model == model, turns.c.state.in_(BUSY))).scalar()
    if busy:
        raise Conflict(
            f"a turn of {model} is under way: {busy}",
            where="turns",
            remedy=f"wait for its end (`ciranda status {model}`), or cancel its release with `ciranda rollback {model}`",
        )
    conn.execute(
        turns.insert().values(
            id=identifier, model=model, cause=cause, event=event, reason=reason, automatic=automatic, state=state,
            step="", steps=[], next_actor=next_actor, asked_at=clock.iso(), asked_by=actor,
        )
    )  # fmt: skip
    audit.record(
        conn, actor=actor, action="turn.asked", subject=identifier, detail={"cause": cause, "reason": reason[:500]}
    )
    return identifier


def barred(conn: sa.Connection, spec: ModelSpec) -> str:
    """Why the model may not turn by itself now: cool-down or weekly budget; empty when it may."""
    now = clock.now()
    since = clock.iso(now - timedelta(days=7))
    starts = conn.execute(
        sa.select(turns.c.asked_at)
        .where(turns.c.model == spec.model, turns.c.automatic.is_(True), turns.c.asked_at > since)
        .order_by(turns.c.asked_at.desc())
    ).scalars().all()  # fmt: skip
    limit = spec.watch.budget.turns_per_week
    if len(starts) >= limit:
        return f"its budget of {limit} automatic turns a week is used"
    if starts and (ready := clock.parse(starts[0]) + timedelta(seconds=spec.watch.cooldown)) > now:
        return f"it cools down until {clock.iso(ready)}"
    return ""


def learnt(conn: sa.Connection, model: str, dataset: str) -> bool:
    """Whether a turn of the model has taken this dataset version, however that ended."""
    mine = (turns.c.model == model) & (turns.c.dataset == dataset)
    return conn.execute(sa.select(turns.c.id).where(mine).limit(1)).first() is not None


def change(conn: sa.Connection, identifier: str, *, actor: str = "loop", **values: Any) -> None:
    """Set columns of a turn; a new state goes into the audit log."""
    before = conn.execute(sa.select(turns.c.state).where(turns.c.id == identifier)).scalar()
    conn.execute(turns.update().where(turns.c.id == identifier).values(**values))
    if (state := values.get("state")) and state != before:
        detail = {key: value for key, value in values.items() if isinstance(value, str)}
        audit.record(conn, actor=actor, action=f"turn.{state}", subject=identifier, detail=detail)


def end(conn: sa.Connection, identifier: str, state: str, *, summary: str = "", next_actor: str = "nobody") -> None:
    """Close a turn with its verdict."""
    row = get(conn, identifier)
    steps = [dict(step) for step in row.steps]
    if steps and summary:
        steps[-1]["summary"] = summary
    change(conn, identifier, state=state, steps=steps, next_actor=next_actor, ended_at=clock.iso())


def note(conn: sa.Connection, identifier: str, name: str, state: str, /, *, summary: str = "", **values: Any) -> None:
    """Record that a step began, went on or ended; a step that runs again after a crash keeps its first start."""
    row = get(conn, identifier)
    steps = [dict(step) for step in row.steps]
    entry = next((step for step in steps if step["name"] == name), None)
    if entry is None:
        entry = {"name": name, "state": state, "started_at": clock.iso(), "ended_at": None, "summary": ""}
        steps.append(entry)
    entry["state"] = state
    entry["summary"] = summary or entry["summary"]
    entry["ended_at"] = clock.iso() if state in ("done", "failed", "refused") else None
    change(conn, identifier, step=name, steps=steps, **values)


def get(conn: sa.Connection, identifier: str) -> Turn:
    """One turn. Raises NotFound."""
    row = conn.execute(sa.select(turns).where(turns.c.id == identifier)).first()
    if row is None:
        raise NotFound(f"no turn {identifier!r}", where="turns", remedy="`ciranda status --json` lists them")
    return Turn(**row._mapping)


def page(database: Database, *, model: str = "", before: str = "", limit: int = 50) -> list[Turn]:
    """Turns, newest first; `before` is the `asked_at` of the last one seen."""
    query = sa.select(turns).order_by(turns.c.asked_at.desc(), turns.c.id.desc()).limit(limit)
    if model:
        query = query.where(turns.c.model == model)
    if before:
        query = query.where(turns.c.asked_at < before)
    with database.reading() as conn:
        return [Turn(**row._mapping) for row in conn.execute(query)]


def in_state(conn: sa.Connection, *states: str) -> list[Turn]:
    """Turns in any of these states, oldest first."""
    query = sa.select(turns).where(turns.c.state.in_(states)).order_by(turns.c.asked_at)
    return [Turn(**row._mapping) for row in conn.execute(query)]


def as_dict(turn: Turn) -> Mapping[str, Any]:
    return dict(turn.__dict__)
