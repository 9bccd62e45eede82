"""Cheap scorers on every answer, as they arrive: each answer is scored once, each score is stored once.

The same functions that judge a suite judge live traffic (`evals.scorers`), only without a reference answer. Scores are kept by
interaction and scorer, so a kill between storing them and remembering the cursor means that some are offered twice and
kept once. Answers of every arm are scored, shadows too: that is what releases are compared by.
Answers that the client spoilt (4xx) or left (499) say nothing; a failed answer has quality 0. Judges, which cost,
are asked about a sample (`loop.sampling`) and keep their place here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import sqlalchemy as sa

from ciranda.evals import live
from ciranda.evals.scorers import Scorer
from ciranda.interactions.table import Interaction, Score
from ciranda.store import clock
from ciranda.store.database import Database, metadata

BATCH = 500
BATCHES = 20

quality_states = sa.Table(
    "quality_states",
    metadata,
    sa.Column("model", sa.String(200), primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("scored", sa.Integer, nullable=False),
    sa.Column("updated_at", sa.String(32), nullable=False),
)


class Store(Protocol):
    """The part of `interactions.query.Interactions` that scoring needs."""

    def since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Interaction]: ...

    def insert_scores(self, scores: Sequence[Score]) -> int: ...


def scores_of(one: Interaction, scorers: Sequence[Scorer]) -> dict[str, float]:
    """What the scorers say of an answer; nothing of one that failed or that the client spoilt."""
    if one.failed or one.status >= 400:
        return {}
    said = live.said(one)
    values = ((scorer, scorer.score(said)) for scorer in scorers)
    return {
        scorer.name: min(max(value, 0.0), 1.0) if scorer.bounded else value
        for scorer, value in values
        if value is not None and math.isfinite(value)
    }


def quality_of(one: Interaction, scorers: Sequence[Scorer]) -> float | None:
    """One number in [0, 1], the mean of its scores (bad ones turned round); 0 for a failed answer, None for no opinion."""
    if one.failed:
        return 0.0
    said, bounded = scores_of(one, scorers), [scorer for scorer in scorers if scorer.bounded]
    good = [scorer.good(said[scorer.name]) for scorer in bounded if scorer.name in said]
    return sum(good) / len(good) if good else None


def score(db: Database, store: Store, model: str, scorers: Sequence[Scorer], *, queue: str = "") -> int:
    """Score the answers of a model that came since the last call; returns how many answers that were.

    Args:
        queue: Scorers under another name keep their own place, so that a slow or absent engine holds up no cheap one.
    """
    count, mine = 0, f"{model}+{queue}" if queue else model
    for _ in range(BATCHES):
        cursor = place(db, mine)
        answers = store.since(cursor, model=model, limit=BATCH) if scorers else []
        if not answers:
            break
        store.insert_scores(
            [_row(one, name, value) for one in answers for name, value in scores_of(one, scorers).items()]
        )
        with db.writing() as conn:
            if not moved(conn, mine, cursor, answers[-1].cursor, len(answers)):
                break  # another process scored these; its cursor counts
        count += len(answers)
    return count


def _row(one: Interaction, name: str, value: float) -> Score:
    return Score(one.id, name, value, model=one.model, version=one.version, arm=one.arm, rollout=one.rollout,
                 ts_ms=clock.now_ms())  # fmt: skip


def place(db: Database, model: str) -> str | None:
    """How far the answers of a model (or of a queue of it) were read."""
    with db.reading() as conn:
        found = conn.execute(sa.select(quality_states.c.cursor).where(quality_states.c.model == model)).scalar()
    return str(found) if found else None


def moved(conn: sa.Connection, model: str, cursor: str | None, to: str, count: int) -> bool:
    """Remember how far we are, unless another process has moved on meanwhile."""
    values = {"cursor": to, "updated_at": clock.iso()}
    table, here = quality_states, quality_states.c.model == model
    known = conn.execute(sa.select(table.c.cursor).where(here)).scalar()
    if known != cursor:
        return False
    if cursor is None:
        conn.execute(table.insert().values(model=model, scored=count, **values))
    else:
        conn.execute(table.update().where(here).values(scored=table.c.scored + count, **values))
    return True
