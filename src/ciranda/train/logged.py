"""Models that MLflow's clients log (`log_model`): what they are called, where they come from, and which runs made or used them.

    tracked_models   a folder of artefacts with a name, parameters and tags; its files lie beside those of runs
    tracked_uses     a run that made a model (`output`), or worked with one (`input`)

As with runs (`train.tracking`), this is a record of a tenant's: a logged model is no version of ours, nothing here trains, gates or
serves it, and nothing of it is ever unpickled or run. What is deleted is out of sight; nothing is destroyed. It refuses more than
`MOST` models in one experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Invalid, LimitReached, NotFound
from ciranda.govern import audit
from ciranda.store import clock, ids
from ciranda.store.database import metadata
from ciranda.train import tracking
from ciranda.train.tracking import ACTIVE, DELETED, PARAM, TAG

MOST = 20_000  # of one experiment
MOST_USES = 1000  # of one run
STATES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
MADE, USED = "output", "input"

tracked_models = sa.Table(
    "tracked_models",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(100), nullable=False),
    sa.Column("experiment", sa.Integer, nullable=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("kind", sa.String(500), nullable=False),
    sa.Column("run", sa.String(32), nullable=False),
    sa.Column("status", sa.String(30), nullable=False),
    sa.Column("lifecycle", sa.String(10), nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_tracked_models_place", "tenant", "experiment", "created_ms", "id"),
)

tracked_uses = sa.Table(
    "tracked_uses",
    metadata,
    sa.Column("run", sa.String(32), sa.ForeignKey("tracked_runs.id"), primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("model", sa.String(40), sa.ForeignKey("tracked_models.id"), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Logged:
    """A row of `tracked_models`. `kind` is the client's model type, `run` the run that made it, if one did."""

    id: str
    tenant: str
    experiment: int
    name: str
    kind: str
    run: str
    status: str
    lifecycle: str
    params: dict[str, str]
    tags: dict[str, str]
    created_ms: int
    updated_ms: int

    def look(self, entity: str, key: str) -> Any:
        """What a search finds under a name; None when there is nothing."""
        if entity in ("params", "tags"):
            found: dict[str, str] = getattr(self, entity)
            return found.get(key)
        if entity == "metrics":
            return None
        if key not in ATTRIBUTES:
            raise Invalid(f"no attribute {key!r} of a logged model", where="search",
                          remedy=f"there are {', '.join(ATTRIBUTES)}")  # fmt: skip
        return getattr(self, ATTRIBUTES[key])


ATTRIBUTES = {
    "name": "name", "model_id": "id", "model_type": "kind", "source_run_id": "run", "status": "status",
    "creation_timestamp": "created_ms", "creation_time": "created_ms", "last_updated_timestamp": "updated_ms",
    "experiment_id": "experiment", "lifecycle_stage": "lifecycle",
}  # fmt: skip


def create(
    conn: sa.Connection, tenant: str, number: int, *, name: str, kind: str, run: str, params: Mapping[str, str],
    tags: Mapping[str, str], actor: str,
) -> Logged:  # fmt: skip
    """A new one, whose files are still to come. Raises NotFound, Invalid, LimitReached."""
    if tracking.experiment(conn, tenant, number)["lifecycle"] == DELETED:
        raise Invalid(f"the experiment {number} is deleted", where="experiment_id", remedy="restore it first")
    if run:
        tracking.run(conn, tenant, run)
    held = sa.select(sa.func.count()).where(
        tracked_models.c.tenant == tenant, tracked_models.c.experiment == number, tracked_models.c.lifecycle == ACTIVE
    )
    if (conn.execute(held).scalar() or 0) >= MOST:
        raise LimitReached(f"the experiment has {MOST:,} logged models", where="models", remedy="delete some")
    now = clock.now_ms()
    made = Logged(
        f"m-{ids.uuid7().hex}", tenant, number, name[: tracking.NAME] or f"model-{now}", kind[: tracking.NAME], run, STATES[0],
        ACTIVE, tracking.checked(params, PARAM, "parameter"), tracking.checked(tags, TAG, "tag"), now, now,
    )  # fmt: skip
    conn.execute(tracked_models.insert().values(**vars(made)))
    audit.record(conn, actor=actor, action="logged_model.created", subject=made.id, detail={"experiment": number})
    return made


def get(conn: sa.Connection, tenant: str, identifier: str, *, deleted: bool = False) -> Logged:
    """One of a tenant's; with `deleted`, also one out of sight. Raises NotFound."""
    table = tracked_models
    query = sa.select(table).where(table.c.id == identifier, table.c.tenant == tenant)
    row = conn.execute(query if deleted else query.where(table.c.lifecycle == ACTIVE)).first()
    if row is None:
        raise NotFound(
            f"Logged model with id '{identifier[:100]}' not found", where="models", remedy="search the logged models"
        )
    return Logged(**row._mapping)


def change(conn: sa.Connection, held: Logged, **values: Any) -> None:
    """Other tags, parameters, status or lifecycle. Raises Invalid, LimitReached."""
    for name, longest in (("params", PARAM), ("tags", TAG)):
        if name in values:
            values[name] = tracking.bounded(tracking.checked(values[name], longest, name), name)
    mine = tracked_models.c.id == held.id
    conn.execute(tracked_models.update().where(mine).values(**values, updated_ms=clock.now_ms()))


def delete(conn: sa.Connection, held: Logged, *, actor: str) -> None:
    """Out of sight."""
    change(conn, held, lifecycle=DELETED)
    audit.record(conn, actor=actor, action="logged_model.deleted", subject=held.id)


def page(
    conn: sa.Connection, tenant: str, numbers: Sequence[int], *, after: tuple[int, str] | None = None, limit: int
) -> list[Logged]:
    """Those of these experiments that are in sight, newest first; `after` is when and what the last one seen was."""
    table = tracked_models
    query = sa.select(table).where(
        table.c.tenant == tenant, table.c.experiment.in_(numbers), table.c.lifecycle == ACTIVE
    )
    if after is not None:
        query = query.where(sa.tuple_(table.c.created_ms, table.c.id) < sa.tuple_(*after))
    query = query.order_by(table.c.created_ms.desc(), table.c.id.desc()).limit(limit)
    return [Logged(**row._mapping) for row in conn.execute(query)]


def use(conn: sa.Connection, tenant: str, run: str, models: Mapping[str, int], *, kind: str) -> None:
    """Say which models, each with its step, a run made or used; the newest step counts. Raises NotFound, LimitReached."""
    tracking.run(conn, tenant, run, to_write=True)
    known = {one for one, _ in uses(conn, run, kind)}
    if len(known | set(models)) > MOST_USES:
        raise LimitReached(f"over {MOST_USES} models of one run", where="models", remedy="use another run")
    for identifier, step in models.items():
        get(conn, tenant, identifier)
        here = (tracked_uses.c.run == run) & (tracked_uses.c.kind == kind) & (tracked_uses.c.model == identifier)
        if identifier in known:
            conn.execute(tracked_uses.update().where(here).values(step=step))
        else:
            conn.execute(tracked_uses.insert().values(run=run, kind=kind, model=identifier, step=step))


def uses(conn: sa.Connection, run: str, kind: str) -> list[tuple[str, int]]:
    """The models that a run made or used, each with its step."""
    table = tracked_uses
    query = (
        sa.select(table.c.model, table.c.step).where(table.c.run == run, table.c.kind == kind).order_by(table.c.model)
    )
    return [(row.model, row.step) for row in conn.execute(query)]


def of_run(conn: sa.Connection, run: str) -> list[Logged]:
    """The models that a run made, as far as they are in sight."""
    table, link = tracked_models, tracked_uses
    query = sa.select(table).join(link, link.c.model == table.c.id).where(link.c.run == run, link.c.kind == MADE)
    found = conn.execute(query.where(table.c.lifecycle == ACTIVE).order_by(table.c.created_ms, table.c.id))
    return [Logged(**row._mapping) for row in found]
