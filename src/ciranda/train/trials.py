"""The rows of searches and trials: what was asked for, and how each run stands.

    searches   what was asked for: data, bases, budgets, what may vary, how many at a time
    trials     recipe, base and mix of each run, its state, figures and curves; written before its run begins

States of a search: running, stopped, complete, failed. States of a trial: waiting (written, not begun), running, complete, failed,
pruned (behind the others, ended early), cancelled (a person ended it). `train.search` is the only writer, but for a
cancellation, which closes a row that it then leaves alone; pages and lineage read. Times that a search or a trial worked before it
was stopped are kept beside the moment it last went on, so that a pause costs no budget.
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
from ciranda.train import endings
from ciranda.train.recipe import Recipe

OPEN = ("waiting", "running")

searches = sa.Table(
    "searches",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("dataset", sa.String(100), nullable=False),
    sa.Column("turn", sa.String(200), nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("objective", sa.String(60), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("workers", sa.Integer, nullable=False, default=0),
    sa.Column("best", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("asked_by", sa.String(200), nullable=False, default="loop"),
    sa.Column("started_at", sa.String(32), nullable=False, index=True),
    sa.Column("since", sa.String(32), nullable=False, default=clock.iso),
    sa.Column("worked_s", sa.Float, nullable=False, default=0.0),
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
    sa.Column("base", sa.String(300), nullable=False, default=""),
    sa.Column("mix", sa.String(63), nullable=False, default=""),
    sa.Column("objective", sa.Float),
    sa.Column("loss", sa.Float),
    sa.Column("loss_curve", sa.JSON, nullable=False),
    sa.Column("checks", sa.JSON, nullable=False, default=list),
    sa.Column("measures", sa.JSON, nullable=False, default=dict),
    sa.Column("seconds", sa.Float),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("since", sa.String(32)),
    sa.Column("worked_s", sa.Float, nullable=False, default=0.0),
    sa.Column("ended_at", sa.String(32)),
    sa.UniqueConstraint("search", "number"),
)

STOPPED = endings.say("halted")


@dataclass(frozen=True)
class Check:
    """What validation said in the middle of a run."""

    step: int
    exact_match: float
    loss: float
    n: int


@dataclass(frozen=True)
class Trial:
    """A row of `trials`.

    Args:
        base: The base's name, `mix` that of the shares of rows; both empty where nothing was said of them.
        objective: Exact match on the validation split, when the run is over.
        loss_curve: (step, loss) so far.
        checks: Validation in the middle of the run.
        measures: What was measured of the result: `latency_ms`, `size_mb`.
        attempt: How often it was begun; a trial that goes on after a stop is the next attempt of the same recipe.
        since: When the attempt under way began to be followed, and `worked_s` what those before it took.
    """

    id: str
    search: str
    number: int
    state: str
    recipe: Recipe
    base: str
    mix: str
    objective: float | None
    loss: float | None
    loss_curve: tuple[tuple[int, float], ...]
    checks: tuple[Check, ...]
    measures: Mapping[str, float]
    seconds: float | None
    job: str
    attempt: int
    folder: str
    reason: str
    figures: Mapping[str, Any]
    started_at: str
    since: str | None
    worked_s: float
    ended_at: str | None

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def spent_s(self) -> float:
        """Seconds of a worker that it took so far."""
        until = clock.parse(self.ended_at) if self.ended_at else clock.now()
        return self.worked_s + ((until - clock.parse(self.since)).total_seconds() if self.since else 0.0)


def get(db: Database, identifier: str) -> dict[str, Any]:
    """The row of a search. Raises NotFound."""
    with db.reading() as conn:
        return held(conn, identifier)


def held(conn: sa.Connection, identifier: str) -> dict[str, Any]:
    """The same, within a transaction."""
    row = conn.execute(sa.select(searches).where(searches.c.id == identifier)).mappings().first()
    if row is None:
        raise NotFound(f"no search {identifier!r}", where="searches", remedy="`ciranda search` lists them")
    return dict(row)


def find_search(db: Database, identifier: str) -> dict[str, Any] | None:
    """The row of a search, where there is one."""
    with db.reading() as conn:
        row = conn.execute(sa.select(searches).where(searches.c.id == identifier)).mappings().first()
    return dict(row) if row else None


def of(db: Database, identifier: str) -> list[Trial]:
    """The trials of a search, in their order."""
    with db.reading() as conn:
        rows = (
            conn.execute(sa.select(trials).where(trials.c.search == identifier).order_by(trials.c.number))
            .mappings()
            .all()
        )
    return [trial(dict(row)) for row in rows]


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
        return trial(dict(found[0]))
    if not found:
        raise NotFound(f"no run {name!r}", where="trials", remedy="`ciranda runs` lists them")
    raise Invalid(f"several runs end with {name!r}", where="trials", remedy="write more of the name")


def cancel(conn: sa.Connection, one: Trial, *, actor: str) -> bool:
    """Close an open trial for good; whether it was open until now. Its job is ended by whoever sees the row (`loop.runs`)."""
    mine = (trials.c.id == one.id) & trials.c.state.in_(OPEN)
    closed = (
        trials.update()
        .where(mine)
        .values(state="cancelled", reason=endings.say("cancelled", actor=actor), ended_at=clock.iso())
    )
    if not conn.execute(closed).rowcount:
        return False
    audit.record(conn, actor=actor, action="trial.cancelled", subject=one.id, detail={"search": one.search})
    return True


def cancelled(db: Database) -> list[Trial]:
    """Trials that a person ended, newest first; not those that may go on when their search does."""
    ended = (trials.c.state == "cancelled") & (trials.c.reason != STOPPED)
    query = sa.select(trials).where(ended).order_by(trials.c.started_at.desc())
    with db.reading() as conn:
        return [trial(dict(row)) for row in conn.execute(query.limit(1000)).mappings()]


def trial(row: Mapping[str, Any]) -> Trial:
    """A row as a value."""
    curve = tuple((int(step), float(loss)) for step, loss in row["loss_curve"])
    checks = tuple(Check(**one) for one in row["checks"])
    return Trial(**{**row, "recipe": Recipe(**row["recipe"]), "loss_curve": curve, "checks": checks})


def change(db: Database, one: Trial, **values: Any) -> None:
    """Set columns of an open trial; one that was closed meanwhile (somebody cancelled it) stays as it is."""
    if "loss_curve" in values:
        values["loss_curve"] = [list(point) for point in values["loss_curve"]]
    if "checks" in values:
        values["checks"] = [vars(check) for check in values["checks"]]
    with db.writing() as conn:
        conn.execute(trials.update().where(trials.c.id == one.id, trials.c.state.in_(OPEN)).values(**values))


def elapsed_s(row: Mapping[str, Any]) -> float:
    """How long a search has worked, pauses aside."""
    if row["state"] != "running":
        return float(row["worked_s"])
    return float(row["worked_s"]) + (clock.now() - clock.parse(row["since"])).total_seconds()


def summary(known: Sequence[Trial], limit: int) -> str:
    """A line for people: how far each trial is."""
    return "; ".join(_line(trial, limit) for trial in known) or "preparing"


def _line(trial: Trial, limit: int) -> str:
    name = f"trial {trial.number + 1} of {limit}"
    if trial.state == "complete":
        return f"{name}: {trial.objective or 0.0:.1%} exact"
    if not trial.open:
        return f"{name}: {trial.state}"
    if not trial.loss_curve:
        return f"{name}: starting"
    step, loss = trial.loss_curve[-1]
    return f"{name}: step {step} of {trial.recipe.steps}, loss {loss:.3f}"
