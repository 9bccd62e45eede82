"""Replays: real traffic of the live version, asked of another one before any user sees it. The record; `loop.replaying` does it.

A replay has a suite of its own, made of recorded requests and frozen at its beginning. The live version's side
is what users really got; nothing of it is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import NotFound
from ciranda.evals import exams
from ciranda.evals.cases import Suite
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata

State = Literal["running", "judging", "complete", "failed"]
OPEN = ("running", "judging")
SUITE = "replay"  # what gates call it

replays = sa.Table(
    "replays",
    metadata,
    sa.Column("id", sa.String(120), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.String(80), nullable=False),
    sa.Column("champion", sa.String(80), nullable=False),
    sa.Column("since", sa.String(32), nullable=False),
    sa.Column("until", sa.String(32), nullable=False),
    sa.Column("seen", sa.Integer, nullable=False),
    sa.Column("cases", sa.Integer, nullable=False),
    sa.Column("suite_digest", sa.String(71), nullable=False),
    sa.Column("judge", sa.String(63), nullable=False),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evaluation", sa.String(120), nullable=False),
    sa.Column("champion_evaluation", sa.String(120), nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("ended_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Replay:
    """One replay as recorded.

    Args:
        seen: Answers of the champion in the window; `cases` of them were drawn, one for each conversation.
        evaluation, champion_evaluation: Ids of the evaluations of both on this suite.
        figures: Comparisons by metric, and how many answers changed.
    """

    id: str
    model: str
    version: str
    champion: str
    since: str
    until: str
    seen: int
    cases: int
    suite_digest: str
    judge: str
    job: str
    state: State
    reason: str
    evaluation: str
    champion_evaluation: str
    figures: dict[str, Any]
    created_at: str
    created_by: str
    ended_at: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return dict(self.__dict__)


def begin(conn: sa.Connection, made: Replay) -> Replay:
    """Keep a replay that begins; one that is known is given back as it is."""
    known = find(conn, made.id)
    if known is not None:
        return known
    conn.execute(replays.insert().values(made.__dict__))
    detail = {"id": made.id, "champion": made.champion, "since": made.since, "until": made.until, "cases": made.cases}
    audit.record(conn, actor=made.created_by, action="replay.asked", subject=made.version, detail=detail)
    return made


def change(conn: sa.Connection, identifier: str, *, state: State, **values: Any) -> None:
    """Set the state of a replay that is under way, and what comes with it; one that has ended stays as it is."""
    ended = {} if state in OPEN else {"ended_at": clock.iso()}
    mine = (replays.c.id == identifier) & replays.c.state.in_(OPEN)
    done = conn.execute(replays.update().where(mine).values(state=state, **ended, **values))
    if state not in OPEN and done.rowcount:
        detail = {"id": identifier, "reason": values.get("reason", "")}
        audit.record(conn, actor="loop", action=f"replay.{state}", subject=get(conn, identifier).version, detail=detail)


def find(conn: sa.Connection, identifier: str) -> Replay | None:
    """The replay of that id, if there is one."""
    row = conn.execute(sa.select(replays).where(replays.c.id == identifier)).first()
    return Replay(**row._mapping) if row else None


def get(conn: sa.Connection, identifier: str) -> Replay:
    """One replay. Raises NotFound."""
    if (found := find(conn, identifier)) is None:
        raise NotFound(f"no replay {identifier!r}", where="replays", remedy="`ciranda replay list` shows them")
    return found


def open_ones(conn: sa.Connection) -> list[Replay]:
    """Those under way, the oldest first."""
    query = sa.select(replays).where(replays.c.state.in_(OPEN)).order_by(replays.c.created_at)
    return [Replay(**row._mapping) for row in conn.execute(query)]


def newest(conn: sa.Connection, model: str) -> Replay | None:
    """The newest replay of a model that did not fail."""
    query = sa.select(replays).where(replays.c.model == model, replays.c.state != "failed")
    row = conn.execute(query.order_by(replays.c.created_at.desc(), replays.c.id.desc()).limit(1)).first()
    return Replay(**row._mapping) if row else None


def suite(db: Database, home: Home, model: str) -> Suite:
    """The suite of a model's newest replay; one without cases when there is none."""
    with db.reading() as conn:
        found = newest(conn, model)
    return frozen(home, found) if found else Suite(SUITE, ())


def frozen(home: Home, one: Replay) -> Suite:
    """The requests of a replay, as its job was given them."""
    (found,) = exams.Spec.of(json.loads((home.jobs / one.job / "spec.json").read_text())).suites
    return found


def page(conn: sa.Connection, models: Sequence[str] | None, *, before: str = "", limit: int = 50) -> list[Replay]:
    """Replays, newest first; `before` is the `created_at` of the last one seen."""
    query = sa.select(replays).order_by(replays.c.created_at.desc(), replays.c.id.desc()).limit(limit)
    if models is not None:
        query = query.where(replays.c.model.in_(tuple(models)))
    if before:
        query = query.where(replays.c.created_at < before)
    return [Replay(**row._mapping) for row in conn.execute(query)]
