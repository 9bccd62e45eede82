"""Fine-tuning jobs as OpenAI's API has them, and what happened in each: who asked for which files, by which method.

A job is an order for one turn of a model's line. It trains nothing itself: the leader asks for the turn when the line is free, and
writes here what the turn says of itself. States: queued, validating_files, running, succeeded, failed, cancelled; the last three
end it. Events are appended as they are seen, each with its time, so that a client may page through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.store import clock
from ciranda.store.database import metadata

State = Literal["queued", "validating_files", "running", "succeeded", "failed", "cancelled"]
ENDED = ("succeeded", "failed", "cancelled")

tunings = sa.Table(
    "tunings",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("tenant", sa.String(100), nullable=False),
    sa.Column("method", sa.String(20), nullable=False),
    sa.Column("training_file", sa.String(60), nullable=False),
    sa.Column("validation_file", sa.String(60)),
    sa.Column("hyperparameters", sa.JSON, nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("suffix", sa.String(64)),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("turn", sa.String(200), index=True),
    sa.Column("version", sa.String(100)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("result_file", sa.String(60)),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("ended_at", sa.String(32)),
)

tuning_events = sa.Table(
    "tuning_events",
    metadata,
    sa.Column("job", sa.String(60), sa.ForeignKey("tunings.id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("level", sa.String(10), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("data", sa.JSON(none_as_null=True)),
)


@dataclass(frozen=True)
class Tuning:
    """A row of `tunings`. `hyperparameters` is what was asked for; `details` the metadata that the client attached."""

    id: str
    model: str
    tenant: str
    method: str
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, Any]
    seed: int
    suffix: str | None
    details: dict[str, str]
    state: State
    turn: str | None
    version: str | None
    error: dict[str, Any] | None
    result_file: str | None
    created_at: str
    created_by: str
    ended_at: str | None

    @property
    def over(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Said:
    """One event that is to be written."""

    message: str
    level: str = "info"
    data: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        return "metrics" if self.data else "message"

    @property
    def mark(self) -> str:
        """What it is about: what stands before the first colon. Said once."""
        return self.message.partition(":")[0]


def add(conn: sa.Connection, job: Tuning) -> None:
    conn.execute(tunings.insert().values(**vars(job)))


def get(conn: sa.Connection, identifier: str, *, tenant: str = "") -> Tuning:
    """One job, of a tenant's when that is given. Raises NotFound."""
    query = sa.select(tunings).where(tunings.c.id == identifier)
    row = conn.execute(query.where(tunings.c.tenant == tenant) if tenant else query).first()
    if row is None:
        raise NotFound(f"Could not find fine tune: {identifier[:100]}", where="tunings", remedy="list the jobs")
    return Tuning(**row._mapping)


def of_turn(conn: sa.Connection, turn: str) -> Tuning | None:
    """The job that a turn is done for, if any."""
    row = conn.execute(sa.select(tunings).where(tunings.c.turn == turn)).first()
    return Tuning(**row._mapping) if row else None


def page(
    conn: sa.Connection, *, tenant: str, models: Sequence[str] | None, after: str = "", limit: int = 20
) -> list[Tuning]:
    """A tenant's jobs of these models (None: of all), newest first; `after` is the id of the last one seen."""
    query = sa.select(tunings).where(tunings.c.tenant == tenant).order_by(tunings.c.id.desc()).limit(limit)
    if models is not None:
        query = query.where(tunings.c.model.in_(models))
    if after:
        query = query.where(tunings.c.id < after)
    return [Tuning(**row._mapping) for row in conn.execute(query)]


def open_(conn: sa.Connection) -> list[Tuning]:
    """Jobs that have not ended, oldest first."""
    query = sa.select(tunings).where(tunings.c.state.not_in(ENDED)).order_by(tunings.c.id)
    return [Tuning(**row._mapping) for row in conn.execute(query)]


def cancelled(conn: sa.Connection, turns: Sequence[str]) -> list[Tuning]:
    """Cancelled jobs among those of these turns."""
    query = sa.select(tunings).where(tunings.c.state == "cancelled", tunings.c.turn.in_(turns))
    return [Tuning(**row._mapping) for row in conn.execute(query)]


def change(conn: sa.Connection, identifier: str, **values: Any) -> None:
    conn.execute(tunings.update().where(tunings.c.id == identifier).values(**values))


def say(conn: sa.Connection, job: str, said: Sequence[Said]) -> None:
    """Append events."""
    last = conn.execute(sa.select(sa.func.max(tuning_events.c.sequence)).where(tuning_events.c.job == job)).scalar()
    rows = [
        {"job": job, "sequence": (last or 0) + number, "at": clock.iso(), "level": one.level, "kind": one.kind,
         "message": one.message, "data": dict(one.data) if one.data else None}
        for number, one in enumerate(said, 1)
    ]  # fmt: skip
    if rows:
        conn.execute(tuning_events.insert(), rows)


def events(conn: sa.Connection, job: str, *, before: int = 0, limit: int = 20) -> list[dict[str, Any]]:
    """Events of a job, newest first; `before` is the sequence of the last one seen."""
    query = sa.select(tuning_events).where(tuning_events.c.job == job)
    if before:
        query = query.where(tuning_events.c.sequence < before)
    query = query.order_by(tuning_events.c.sequence.desc()).limit(limit)
    return [dict(row._mapping) for row in conn.execute(query)]


def marks(conn: sa.Connection, job: str) -> set[str]:
    """What a job's events have said already, by their marks."""
    said = conn.execute(sa.select(tuning_events.c.message).where(tuning_events.c.job == job)).scalars()
    return {message.partition(":")[0] for message in said}
