"""Runs that other tools log (MLflow's clients): experiments, runs with parameters and tags, and every point of every metric.

    tracked_experiments   named, numbered for each tenant; 0 is `Default`, there from the start
    tracked_runs          a run with its parameters, its tags, and the newest value of each metric
    tracked_metrics       every point; the same point again is the same row, so a client may send twice

Everything belongs to a tenant. Nothing here trains, gates or serves: these runs are a record. What a client may grow is bounded:
lengths by the same numbers as in MLflow, a run by `MOST_POINTS`. Values of metrics are kept as text, since NaN and the infinities
are values too, and not every database has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Conflict, Invalid, LimitReached, NotFound
from ciranda.govern import audit
from ciranda.store import clock, ids
from ciranda.store.database import metadata

KEY, PARAM, TAG, NAME = 250, 6000, 8000, 500
MOST_POINTS = 1_000_000  # of one run
MOST_KEYS = 2000  # parameters of one run, tags, or metrics
ACTIVE, DELETED = "active", "deleted"
DEFAULT = "Default"
STATES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")

tracked_experiments = sa.Table(
    "tracked_experiments",
    metadata,
    sa.Column("tenant", sa.String(100), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("lifecycle", sa.String(10), nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("tenant", "name"),
)

tracked_runs = sa.Table(
    "tracked_runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("tenant", sa.String(100), nullable=False),
    sa.Column("experiment", sa.Integer, nullable=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("user", sa.String(256), nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("lifecycle", sa.String(10), nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("points", sa.Integer, nullable=False),
    sa.Index("ix_tracked_runs_place", "tenant", "experiment", "started_ms", "id"),
)

tracked_metrics = sa.Table(
    "tracked_metrics",
    metadata,
    sa.Column("run", sa.String(32), sa.ForeignKey("tracked_runs.id"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.String(32), primary_key=True),
)


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    key: str
    value: float
    at_ms: int
    step: int = 0


@dataclass(frozen=True)
class Run:
    """A row of `tracked_runs`. `metrics` holds the newest value of each: [value as text, at_ms, step]."""

    id: str
    tenant: str
    experiment: int
    name: str
    user: str
    status: str
    lifecycle: str
    started_ms: int
    ended_ms: int | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[Any]]
    points: int

    def look(self, entity: str, key: str) -> Any:
        """What a search finds under a name; None when there is nothing."""
        if entity == "metrics":
            held = self.metrics.get(key)
            return float(held[0]) if held else None
        if entity in ("params", "tags"):
            found: dict[str, str] = getattr(self, entity)
            return found.get(key)
        return _attribute(self, key)


ATTRIBUTES = {
    "run_id": "id", "run_name": "name", "Run Name": "name", "name": "name", "status": "status", "user_id": "user",
    "User": "user", "start_time": "started_ms", "Created": "started_ms", "created": "started_ms", "end_time": "ended_ms",
    "lifecycle_stage": "lifecycle", "experiment_id": "experiment",
}  # fmt: skip


def _attribute(run: Run, key: str) -> Any:
    if key not in ATTRIBUTES:
        raise Invalid(f"no attribute {key!r} of a run", where="search", remedy=f"there are {', '.join(ATTRIBUTES)}")
    return getattr(run, ATTRIBUTES[key])


# --- experiments ------------------------------------------------------------------------------------------------------


def experiment(conn: sa.Connection, tenant: str, number: int) -> dict[str, Any]:
    """One experiment of a tenant's. Raises NotFound."""
    table = tracked_experiments
    row = conn.execute(sa.select(table).where(table.c.tenant == tenant, table.c.number == number)).first()
    if row is None and number == 0:
        return _unwritten(tenant)
    if row is None:
        raise NotFound(f"No Experiment with id={number} exists", where="experiments", remedy="search the experiments")
    return dict(row._mapping)


def named(conn: sa.Connection, tenant: str, name: str) -> dict[str, Any]:
    """The experiment of a name. Raises NotFound."""
    table = tracked_experiments
    row = conn.execute(sa.select(table).where(table.c.tenant == tenant, table.c.name == name)).first()
    if row is None and name == DEFAULT:
        return _unwritten(tenant)
    if row is None:
        raise NotFound(
            f"Could not find experiment with name '{name[:100]}'", where="experiments", remedy="create it first"
        )
    return dict(row._mapping)


def _unwritten(tenant: str) -> dict[str, Any]:
    """Experiment 0 of a tenant that has written nothing yet."""
    whole = {"tenant": tenant, "number": 0, "name": DEFAULT, "lifecycle": ACTIVE, "tags": {}}
    return {**whole, "created_ms": 0, "updated_ms": 0}


def _default(conn: sa.Connection, tenant: str) -> None:
    """Write experiment 0, once."""
    table = tracked_experiments
    if not conn.execute(sa.select(table.c.number).where(table.c.tenant == tenant, table.c.number == 0)).first():
        _insert(conn, tenant, 0, DEFAULT, {})


def _insert(conn: sa.Connection, tenant: str, number: int, name: str, tags: Mapping[str, str]) -> None:
    now = clock.now_ms()
    conn.execute(
        tracked_experiments.insert().values(
            tenant=tenant, number=number, name=name, lifecycle=ACTIVE, tags=dict(tags), created_ms=now, updated_ms=now
        )
    )


def create_experiment(conn: sa.Connection, tenant: str, name: str, *, tags: Mapping[str, str], actor: str) -> int:
    """A new experiment's number. Raises Conflict when its name is taken."""
    _demand(name, NAME, "experiment name")
    table = tracked_experiments
    known = conn.execute(sa.select(table.c.lifecycle).where(table.c.tenant == tenant, table.c.name == name)).first()
    if known is not None:
        raise Conflict(
            f"Experiment '{name}' already exists" + (" in deleted state" if known.lifecycle == DELETED else ""),
            where="experiments", remedy="restore it, or choose another name",
        )  # fmt: skip
    _default(conn, tenant)
    last = conn.execute(sa.select(sa.func.max(table.c.number)).where(table.c.tenant == tenant)).scalar() or 0
    _insert(conn, tenant, last + 1, name, checked(tags, TAG, "tag"))
    audit.record(conn, actor=actor, action="experiment.created", subject=f"{tenant}/{last + 1}", detail={"name": name})
    return int(last) + 1


def change_experiment(conn: sa.Connection, tenant: str, number: int, *, actor: str, **values: Any) -> None:
    """Another name, lifecycle or tags of an experiment. Raises NotFound, Conflict."""
    if number == 0:
        _default(conn, tenant)
    held = experiment(conn, tenant, number)
    table = tracked_experiments
    if (name := values.get("name")) and name != held["name"]:
        _demand(name, NAME, "experiment name")
        if conn.execute(sa.select(table.c.number).where(table.c.tenant == tenant, table.c.name == name)).first():
            raise Conflict(f"Experiment '{name}' already exists", where="experiments", remedy="choose another name")
    mine = (table.c.tenant == tenant) & (table.c.number == number)
    conn.execute(table.update().where(mine).values(**values, updated_ms=clock.now_ms()))
    if "lifecycle" in values or "name" in values:
        told = {key: value for key, value in values.items() if key != "tags"}
        audit.record(conn, actor=actor, action="experiment.changed", subject=f"{tenant}/{number}", detail=told)


def experiments(conn: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """All experiments of a tenant, newest first."""
    table = tracked_experiments
    query = sa.select(table).where(table.c.tenant == tenant).order_by(table.c.number.desc())
    found = [dict(row._mapping) for row in conn.execute(query)]
    return found if found and found[-1]["number"] == 0 else [*found, _unwritten(tenant)]


# --- runs -------------------------------------------------------------------------------------------------------------


def create_run(
    conn: sa.Connection, tenant: str, number: int, *, name: str, user: str, started_ms: int, tags: Mapping[str, str], actor: str
) -> Run:  # fmt: skip
    """A new run. Raises NotFound, Invalid when its experiment is deleted."""
    if experiment(conn, tenant, number)["lifecycle"] == DELETED:
        raise Invalid(
            f"the experiment {number} is deleted", where="experiment_id", remedy="restore it, or name another"
        )
    run = Run(
        ids.uuid7().hex, tenant, number, name[:NAME], user[:256], "RUNNING", ACTIVE, started_ms or clock.now_ms(), None, {},
        checked(tags, TAG, "tag"), {}, 0,
    )  # fmt: skip
    conn.execute(tracked_runs.insert().values(**vars(run)))
    audit.record(
        conn, actor=actor, action="run.created", subject=run.id, detail={"experiment": number, "name": run.name}
    )
    return run


def run(conn: sa.Connection, tenant: str, identifier: str, *, to_write: bool = False) -> Run:
    """One run of a tenant's; locked until the transaction ends when it is `to_write`. Raises NotFound, Invalid."""
    query = sa.select(tracked_runs).where(tracked_runs.c.id == identifier, tracked_runs.c.tenant == tenant)
    row = conn.execute(query.with_for_update() if to_write else query).first()
    if row is None:
        raise NotFound(f"Run with id={identifier[:100]} not found", where="runs", remedy="search the runs")
    found = Run(**row._mapping)
    if to_write and found.lifecycle == DELETED:
        raise Invalid(f"The run {identifier} must be in the 'active' state", where="runs", remedy="restore it first")
    return found


def change_run(conn: sa.Connection, identifier: str, **values: Any) -> None:
    conn.execute(tracked_runs.update().where(tracked_runs.c.id == identifier).values(**values))


def log(
    conn: sa.Connection, tenant: str, identifier: str, *, points: Sequence[Point] = (), params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write points, parameters and tags of a run, all or none; what was written before is written once.

    Raises:
        NotFound: No such run. Invalid: A parameter would change, or something is too long. LimitReached: The run is full.
    """
    held = run(conn, tenant, identifier, to_write=True)
    values: dict[str, Any] = {}
    if params:
        values["params"] = _params(held, checked(params, PARAM, "parameter"))
    if tags:
        values["tags"] = bounded({**held.tags, **checked(tags, TAG, "tag")}, "tags")
    if points:
        values |= _points(conn, held, points)
    if values:
        change_run(conn, identifier, **values)


def _params(held: Run, given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if held.params.get(key, value) != value:
            raise Invalid(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with"
                f" value='{held.params[key][:100]}' for run ID='{held.id}'. Attempted logging new value '{value[:100]}'",
                where="params", remedy="log it under another key, or in another run",
            )  # fmt: skip
    return bounded({**held.params, **given}, "parameters")


def _points(conn: sa.Connection, held: Run, points: Sequence[Point]) -> dict[str, Any]:
    if held.points + len(points) > MOST_POINTS:
        raise LimitReached(
            f"the run has {held.points:,} points, and may have {MOST_POINTS:,}", where=held.id, remedy="log fewer steps"
        )
    newest = dict(held.metrics)
    rows = {}
    for one in points:
        _demand(one.key, KEY, "metric name")
        text = repr(float(one.value))
        rows[(one.key, one.at_ms, one.step, text)] = {
            "run": held.id, "key": one.key, "at_ms": one.at_ms, "step": one.step, "value": text,
        }  # fmt: skip
        if one.key not in newest or _place(newest[one.key]) <= _place([text, one.at_ms, one.step]):
            newest[one.key] = [text, one.at_ms, one.step]
    fresh = [row for row in rows.values() if not _known(conn, row)]
    if fresh:
        conn.execute(tracked_metrics.insert(), fresh)
    return {"metrics": bounded(newest, "metrics"), "points": held.points + len(fresh)}


def _place(held: Sequence[Any]) -> tuple[int, int, float]:
    """What makes a point the newest: its step, then its time, then its value."""
    value = float(held[0])
    return int(held[2]), int(held[1]), -math.inf if math.isnan(value) else value


def _known(conn: sa.Connection, row: Mapping[str, Any]) -> bool:
    same = sa.and_(*(tracked_metrics.c[name] == value for name, value in row.items()))
    return conn.execute(sa.select(tracked_metrics.c.run).where(same)).first() is not None


def history(
    conn: sa.Connection, identifier: str, key: str, *, after: Sequence[Any] | None = None, limit: int = 25_000
) -> list[Point]:
    """The points of a metric by time, step and value; `after` is where the page before ended."""
    table = tracked_metrics
    order = (table.c.at_ms, table.c.step, table.c.value)
    query = sa.select(table).where(table.c.run == identifier, table.c.key == key).order_by(*order).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(*after))
    return [Point(row.key, float(row.value), row.at_ms, row.step) for row in conn.execute(query)]


def page(
    conn: sa.Connection, tenant: str, numbers: Sequence[int], *, after: tuple[int, str] | None = None, limit: int
) -> list[Run]:
    """Runs of these experiments, the newest first; `after` is the start and the id of the last one seen."""
    table = tracked_runs
    query = sa.select(table).where(table.c.tenant == tenant, table.c.experiment.in_(numbers))
    if after is not None:
        query = query.where(sa.tuple_(table.c.started_ms, table.c.id) < sa.tuple_(*after))
    query = query.order_by(table.c.started_ms.desc(), table.c.id.desc()).limit(limit)
    return [Run(**row._mapping) for row in conn.execute(query)]


# --- bounds -----------------------------------------------------------------------------------------------------------


def checked(given: Mapping[str, str], longest: int, what: str) -> dict[str, str]:
    """Names and texts within their bounds. Raises Invalid."""
    for key, value in given.items():
        _demand(key, KEY, f"{what} name")
        if len(value) > longest:
            raise Invalid(
                f"the {what} {key!r} has {len(value)} characters", where=what, remedy=f"at most {longest} are kept"
            )
    return dict(given)


def _demand(name: str, longest: int, what: str) -> None:
    if not name or len(name) > longest or any(ord(one) < 32 for one in name):
        raise Invalid(f"no {what}: {name[:100]!r}", where=what, remedy=f"1 to {longest} printable characters")


def bounded(held: dict[str, Any], what: str) -> dict[str, Any]:
    """Not too many of them. Raises LimitReached."""
    if len(held) > MOST_KEYS:
        raise LimitReached(f"over {MOST_KEYS} {what} in one run", where=what, remedy="log an artefact instead")
    return held
