"""The record of a rollout, and the stages that it goes through.

    starting    the candidate's replicas come up; no request reaches it
    shadow      a share of the requests is copied to it; no user sees its answers
    5 %, 25 %   the canary: these shares of the requests are answered by it
    100 %       the end: it is the live version

One row holds everything that the next look needs (position, evidence, how far it has read), so any process can take over at any
moment. `revision` grows with each write: of two that looked at the same state, the later one's write is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import sqlalchemy as sa

from ciranda.config.model import Release
from ciranda.deploy.evidence import Evidence, Stage
from ciranda.errors import Conflict, NotFound
from ciranda.store.database import metadata

State = Literal["awaiting_approval", "running", "held", "promoted", "rolled_back"]
STATES: tuple[State, ...] = get_args(State)
OPEN: tuple[State, ...] = ("awaiting_approval", "running", "held")
WITH_TRAFFIC: tuple[State, ...] = ("running", "held")
STARTING = -1

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("candidate", sa.String(80), nullable=False),
    sa.Column("champion", sa.String(80), nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("stage", sa.String(40), nullable=False),
    sa.Column("stages", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("reading", sa.JSON, nullable=False),
    sa.Column("e_values", sa.JSON, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("turn", sa.String(200), nullable=False),
    sa.Column("started_by", sa.String(200), nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("stage_at", sa.String(32), nullable=False),
    sa.Column("unready_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Rollout:
    """One version on its way to traffic.

    Args:
        step: Place in `stages`; -1 while it is starting. `stage` is its name.
        stages: `{name, kind: shadow | canary | full, percent}` in order.
        reason: Why it is where it is, in words with numbers.
        evidence: What is known, as `evidence.Evidence` writes it; `e_values` the same in figures for people.
        reading: `shares` in force since when, and the champion's latency that answers are compared with.
        unready_at: Since when the candidate has no replica that answers; empty when it has.
    """

    id: str
    model: str
    candidate: str
    champion: str
    state: State
    step: int
    stage: str
    stages: list[dict[str, Any]]
    reason: str
    evidence: dict[str, Any]
    reading: dict[str, Any]
    e_values: dict[str, float]
    revision: int
    turn: str
    started_by: str
    started_at: str
    stage_at: str
    unready_at: str
    ended_at: str

    @property
    def kind(self) -> str:
        """`starting`, `shadow`, `canary` or `full`."""
        return "starting" if self.step == STARTING else str(self.stages[self.step]["kind"])

    @property
    def percent(self) -> float:
        """Percent of the stage: of copies in a shadow, of traffic in a canary."""
        return 0.0 if self.step == STARTING else float(self.stages[self.step]["percent"])

    def judged(self) -> Stage:
        """The present stage as the statistics see it."""
        if self.kind == "shadow":
            return Stage("shadow")
        last = self.stages[self.step + 1]["kind"] == "full"
        return Stage("canary", share=self.percent / 100, last=last)

    def next(self) -> str:
        """The kind of the stage after this one."""
        return str(self.stages[self.step + 1]["kind"])

    def entered(self, *, at: str, at_ms: int) -> Rollout:
        """The rollout at the door of its next stage."""
        stage = self.stages[self.step + 1]
        share = stage["percent"] / 100 if stage["kind"] == "canary" else 0.0
        known = Evidence.from_dict(self.evidence).enter()
        shares = [*self.reading.get("shares", []), [at_ms, share]]
        return replace(
            self, step=self.step + 1, stage=str(stage["name"]), stage_at=at, evidence=known.to_dict(),
            reading={**self.reading, "shares": shares},
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it; the bets themselves stay inside."""
        hidden = ("evidence", "reading", "revision")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}


def plan(release: Release) -> list[dict[str, Any]]:
    """The stages that a model file asks for."""
    shadow = [{"name": "shadow", "kind": "shadow", "percent": release.shadow}] if release.shadow else []
    steps = [
        {"name": f"{percent:g} %", "kind": "full" if percent == 100 else "canary", "percent": percent}
        for percent in release.steps
        if percent > 0
    ]
    return [*shadow, *steps]


def insert(conn: sa.Connection, rollout: Rollout) -> None:
    """Write a new rollout."""
    conn.execute(rollouts.insert().values(**rollout.__dict__))


def save(conn: sa.Connection, rollout: Rollout) -> Rollout:
    """Write a rollout that was read at `rollout.revision`.

    Raises:
        Conflict: Somebody else wrote it since; look again.
    """
    after = replace(rollout, revision=rollout.revision + 1)
    mine = (rollouts.c.id == rollout.id) & (rollouts.c.revision == rollout.revision)
    if conn.execute(rollouts.update().where(mine).values(**after.__dict__)).rowcount != 1:
        raise Conflict(f"rollout {rollout.id} was changed by somebody else", where="rollouts", remedy="look again")
    return after


def open_of(conn: sa.Connection, model: str) -> Rollout | None:
    """The model's rollout that has not ended, if any; there is never more than one."""
    found = _read(conn, rollouts.c.model == model, rollouts.c.state.in_(OPEN))
    return found[0] if found else None


def with_traffic(conn: sa.Connection) -> list[Rollout]:
    """All rollouts whose candidate runs."""
    return _read(conn, rollouts.c.state.in_(WITH_TRAFFIC))


def of(conn: sa.Connection, model: str) -> list[Rollout]:
    """All rollouts of a model, newest first."""
    return _read(conn, rollouts.c.model == model)


def get(conn: sa.Connection, identifier: str) -> Rollout:
    """One rollout. Raises NotFound."""
    found = _read(conn, rollouts.c.id == identifier)
    if not found:
        raise NotFound(
            f"no rollout {identifier}", where="rollouts", remedy="`ciranda status` shows the rollouts under way"
        )
    return found[0]


def _read(conn: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Rollout]:
    query: sa.Select[Any] = sa.select(rollouts).where(*conditions).order_by(rollouts.c.id.desc())
    rows: Sequence[sa.Row[Any]] = conn.execute(query).all()
    return [_rollout(row._mapping) for row in rows]


def _rollout(row: Mapping[Any, Any]) -> Rollout:
    return Rollout(**row)
