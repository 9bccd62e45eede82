"""The rows of searches and trials: what was asked for, and how each run stands.

    searches   what was asked for, frozen: data, base, budget, what may vary
    trials     recipe, state, objective and curve of each run; written before its run begins

States of a search: running, complete, failed. States of a trial: waiting (written, not begun), running, complete, failed,
cancelled.
`train.search` is the only writer, but for a cancellation, which closes a row that it then leaves alone; pages and lineage read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Invalid, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata
from ciranda.train.recipe import Recipe

OPEN = ("waiting", "running")

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
        return self.state in OPEN


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


def find(db: Database, name: str) -> Trial:
    """One trial, by its id or by how its id alone ends (`f3a2.0`).

    Raises:
        NotFound: There is none.
        Invalid: Several end so.
    """
    short = trials.c.id.endswith(name, autoescape=True)
    with db.reading() as conn:
        exact = conn.execute(sa.select(trials).where(trials.c.id == name)).mappings().all()
        found = exact or conn.execute(sa.select(trials).where(short).limit(2)).mappings().all()
    if len(found) == 1:
        return _trial(dict(found[0]))
    if not found:
        raise NotFound(f"no run {name!r}", where="trials", remedy="`ciranda runs` lists them")
    raise Invalid(f"several runs end with {name!r}", where="trials", remedy="write more of the name")


def cancel(conn: sa.Connection, trial: Trial, *, actor: str) -> bool:
    """Close an open trial for good; whether it was open until now. Its job is ended by whoever sees the row (`loop.runs`)."""
    mine = (trials.c.id == trial.id) & trials.c.state.in_(OPEN)
    closed = trials.update().where(mine).values(state="cancelled", reason=f"cancelled by {actor}", ended_at=clock.iso())
    if not conn.execute(closed).rowcount:
        return False
    audit.record(conn, actor=actor, action="trial.cancelled", subject=trial.id, detail={"search": trial.search})
    return True


def cancelled(db: Database) -> list[Trial]:
    """Trials that a person ended, newest first."""
    query = sa.select(trials).where(trials.c.state == "cancelled").order_by(trials.c.started_at.desc())
    with db.reading() as conn:
        return [_trial(dict(row)) for row in conn.execute(query.limit(1000)).mappings()]


def _trial(row: Mapping[str, Any]) -> Trial:
    curve = tuple((int(step), float(loss)) for step, loss in row["loss_curve"])
    return Trial(**{**row, "recipe": Recipe(**row["recipe"]), "loss_curve": curve})


def change(db: Database, trial: Trial, **values: Any) -> None:
    """Set columns of an open trial; one that was closed meanwhile (somebody cancelled it) stays as it is."""
    if "loss_curve" in values:
        values["loss_curve"] = [list(point) for point in values["loss_curve"]]
    with db.writing() as conn:
        conn.execute(trials.update().where(trials.c.id == trial.id, trials.c.state.in_(OPEN)).values(**values))


def summary(known: Sequence[Trial], limit: int) -> str:
    """A line for people: how far each trial is."""
    return "; ".join(_line(trial, limit) for trial in known) or "preparing"


def _line(trial: Trial, limit: int) -> str:
    name = f"trial {trial.number + 1} of {limit}"
    if trial.state == "complete":
        return f"{name}: {trial.objective or 0.0:.1%} exact"
    if trial.state in ("failed", "cancelled"):
        return f"{name}: {trial.state}"
    if not trial.loss_curve:
        return f"{name}: starting"
    step, loss = trial.loss_curve[-1]
    return f"{name}: step {step} of {trial.recipe.steps}, loss {loss:.3f}"
