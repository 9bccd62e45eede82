"""Models: the applied spec of each, with a generation that grows with every change.

The spec is what the user's YAML file said when it was last applied, whole, defaults included: a later default changes nothing
that runs. One row per model; the one before stays in the audit chain. Refused here: deleting a model, since its versions and
interactions would lose their cause.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

models = sa.Table(
    "models",
    metadata,
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("applied_at", sa.String(32), nullable=False),
    sa.Column("applied_by", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class Model:
    """One model as applied."""

    name: str
    spec: ModelSpec
    generation: int
    applied_at: str
    applied_by: str


def put(conn: sa.Connection, spec: ModelSpec, *, actor: str) -> Model:
    """Make `spec` the model's applied spec. The same spec again changes nothing, not even the generation."""
    before = find(conn, spec.model)
    if before is not None and before.spec == spec:
        return before
    after = Model(spec.model, spec, before.generation + 1 if before else 1, clock.iso(), actor)
    row = {
        "spec": spec.model_dump(mode="json"),
        "generation": after.generation,
        "applied_at": after.applied_at,
        "applied_by": actor,
    }
    if before is None:
        conn.execute(models.insert().values(model=spec.model, **row))
    else:
        conn.execute(models.update().where(models.c.model == spec.model).values(**row))
    audit.record(
        conn, actor=actor, action="model.applied", subject=spec.model,
        detail={"generation": after.generation, "spec": row["spec"]},
    )  # fmt: skip
    return after


def find(conn: sa.Connection, name: str) -> Model | None:
    """The model, or None when nothing carries this name."""
    row = conn.execute(sa.select(models).where(models.c.model == name)).first()
    return _model(row) if row else None


def get(conn: sa.Connection, name: str) -> Model:
    """The model.

    Raises:
        NotFound: Nothing carries this name; says which names there are.
    """
    found = find(conn, name)
    if found is None:
        names = conn.execute(sa.select(models.c.model).order_by(models.c.model).limit(20)).scalars().all()
        raise NotFound(
            f"no model {name!r}; there {'are ' + ', '.join(names) if names else 'is none yet'}",
            where="models",
            remedy="write models/<name>.yaml, then `ciranda apply models/`",
        )
    return found


def every(conn: sa.Connection) -> list[Model]:
    """All models, by name."""
    return [_model(row) for row in conn.execute(sa.select(models).order_by(models.c.model))]


def lock(conn: sa.Connection, name: str) -> None:
    """Let nobody else change what belongs to this model until the transaction ends (SQLite has one writer anyway)."""
    conn.execute(sa.select(models.c.model).where(models.c.model == name).with_for_update())


def _model(row: sa.Row[tuple[object, ...]]) -> Model:
    return Model(row.model, ModelSpec.model_validate(row.spec), row.generation, row.applied_at, row.applied_by)
