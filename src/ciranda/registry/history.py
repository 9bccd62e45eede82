"""Every change of a version's stage, as rows that are only added: so "what was live at T" is a question with an answer.

One function adds them, nothing changes or removes them, and each is an event of the audit chain in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import sqlalchemy as sa

from ciranda.store import clock
from ciranda.store.database import metadata

Stage = Literal["candidate", "approved", "live", "retired", "refused"]
STAGES: tuple[Stage, ...] = get_args(Stage)

version_stages = sa.Table(
    "version_stages",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("stage", sa.String(20), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class StageChange:
    """One line of a version's history."""

    sequence: int
    model: str
    number: int
    stage: Stage
    at: str
    actor: str
    reason: str


def note(conn: sa.Connection, model: str, number: int, stage: Stage, *, actor: str, reason: str) -> None:
    """Add a line. Only `versions` does, with the change that it tells of."""
    row = {"model": model, "number": number, "stage": stage, "at": clock.iso(), "actor": actor, "reason": reason}
    conn.execute(version_stages.insert().values(**row))


def of(conn: sa.Connection, model: str) -> Sequence[StageChange]:
    """Every change of stage of the model's versions, oldest first."""
    query = sa.select(version_stages).where(version_stages.c.model == model).order_by(version_stages.c.sequence)
    return [StageChange(**row._mapping) for row in conn.execute(query)]


def lives(conn: sa.Connection, model: str) -> list[int]:
    """Numbers of the versions that are or were live, the latest first."""
    query = (
        sa.select(version_stages.c.number)
        .where(version_stages.c.model == model, version_stages.c.stage == "live")
        .order_by(version_stages.c.sequence.desc())
    )
    return list(dict.fromkeys(conn.execute(query).scalars()))


def live_at(conn: sa.Connection, model: str, moment: datetime) -> str | None:
    """The version that was live at that moment, such as `smart-home@1`; None when there was none."""
    before = (version_stages.c.model == model) & (version_stages.c.at <= clock.iso(moment))
    newest_first = sa.select(version_stages).where(before).order_by(version_stages.c.sequence.desc()).limit(1)
    began = conn.execute(newest_first.where(version_stages.c.stage == "live")).first()
    if began is None:
        return None
    same = conn.execute(newest_first.where(version_stages.c.number == began.number)).first()
    return f"{model}@{began.number}" if same and same.sequence == began.sequence else None
