"""The rows of searches and trials: what was asked for, and how each run stands.

    searches   what was asked for, frozen: data, base, budget, what may vary
    trials     recipe, state, objective and curve of each run; written before its run begins

States of a search: running, complete, failed. States of a trial: waiting (written, not begun), running, complete, failed.
`train.search` is the only writer; pages and lineage read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.store.database import Database, metadata
from ciranda.train.recipe import Recipe

searches = sa.Table(
    "searches",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("dataset", sa.String(100), nullable=False),
    sa.Column("turn", sa.String(200), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("objective", sa.String(60), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("best", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False, index=True),
    sa.Column("ended_at", sa.String(32)),
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column("id", sa.String(210), primary_key=True),
    sa.Column("search", sa.String(200), sa.ForeignKey("searches.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("recipe", sa.JSON, nullable=False),
    sa.Column("objective", sa.Float),
    sa.Column("loss", sa.Float),
    sa.Column("loss_curve", sa.JSON, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32)),
    sa.UniqueConstraint("search", "number"),
)


@dataclass(frozen=True)
class Trial:
    """A row of `trials`."""

    id: str
    search: str
    number: int
    state: str
    recipe: Recipe
    objective: float | None
    loss: float | None
    loss_curve: tuple[tuple[int, float], ...]
    seconds: float | None
    job: str
    folder: str
    reason: str
    figures: Mapping[str, Any]
    started_at: str
    ended_at: str | None

    @property
    def open(self) -> bool:
        return self.state in ("waiting", "running")


def get(db: Database, identifier: str) -> dict[str, Any]:
    """The row of a search. Raises NotFound."""
    with db.reading() as conn:
        row = conn.execute(sa.select(searches).where(searches.c.id == identifier)).mappings().first()
    if row is None:
        raise NotFound(f"no search {identifier!r}", where="searches", remedy="GET /api/v1/runs lists them")
    return dict(row)


def of(db: Database, identifier: str) -> list[Trial]:
    """The trials of a search, in their order."""
    with db.reading() as conn:
        rows = (
            conn.execute(sa.select(trials).where(trials.c.search == identifier).order_by(trials.c.number))
            .mappings()
            .all()
        )
    return [_trial(dict(row)) for row in rows]


def _trial(row: Mapping[str, Any]) -> Trial:
    curve = tuple((int(step), float(loss)) for step, loss in row["loss_curve"])
    return Trial(**{**row, "recipe": Recipe(**row["recipe"]), "loss_curve": curve})


def change(db: Database, trial: Trial, **values: Any) -> None:
    if "loss_curve" in values:
        values["loss_curve"] = [list(point) for point in values["loss_curve"]]
    with db.writing() as conn:
        conn.execute(trials.update().where(trials.c.id == trial.id).values(**values))


def summary(known: Sequence[Trial], limit: int) -> str:
    """A line for people: how far each trial is."""
    return "; ".join(_line(trial, limit) for trial in known) or "preparing"


def _line(trial: Trial, limit: int) -> str:
    name = f"trial {trial.number + 1} of {limit}"
    if trial.state == "complete":
        return f"{name}: {trial.objective or 0.0:.1%} exact"
    if trial.state == "failed":
        return f"{name}: failed"
    if not trial.loss_curve:
        return f"{name}: starting"
    step, loss = trial.loss_curve[-1]
    return f"{name}: step {step} of {trial.recipe.steps}, loss {loss:.3f}"
