"""Registered models as MLflow's clients know them: what they say of models, and versions that they registered.

    registered_models     description, tags and aliases under a name, for each tenant
    registered_versions   a version: which artefacts of which run; when the name is a model's of ours, the candidate that it became

A name of ours and a name of theirs are told apart by whether such a model was applied. Ours: the versions are those of the line,
and nothing here can change what is live. Theirs: a record, which this platform neither serves nor judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

NAME = 250
MOST_TAGS = 500

registered_models = sa.Table(
    "registered_models",
    metadata,
    sa.Column("tenant", sa.String(100), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("aliases", sa.JSON, nullable=False),
    sa.Column("last", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)

registered_versions = sa.Table(
    "registered_versions",
    metadata,
    sa.Column("tenant", sa.String(100), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("stage", sa.String(20), nullable=False),
    sa.Column("ref", sa.String(100), index=True),
    sa.Column("turn", sa.String(200)),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Named:
    """A row of `registered_models`; `last` is the highest number ever given, so that none is given twice."""

    tenant: str
    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    last: int
    created_ms: int
    updated_ms: int


@dataclass(frozen=True)
class Registered:
    """A row of `registered_versions`. `ref` is the version of ours that it became, if any, and `turn` the one that judges it."""

    tenant: str
    name: str
    number: int
    source: str
    run: str
    description: str
    tags: dict[str, str]
    stage: str
    ref: str | None
    turn: str | None
    created_by: str
    created_ms: int
    updated_ms: int


def find(conn: sa.Connection, tenant: str, name: str) -> Named | None:
    """What is said of a name, or None."""
    table = registered_models
    row = conn.execute(sa.select(table).where(table.c.tenant == tenant, table.c.name == name)).first()
    return Named(**row._mapping) if row else None


def get(conn: sa.Connection, tenant: str, name: str) -> Named:
    """What is said of a name. Raises NotFound."""
    found = find(conn, tenant, name)
    if found is None:
        raise NotFound(
            f"Registered Model with name={name[:100]} not found", where="registered models", remedy="create it first"
        )
    return found


def every(conn: sa.Connection, tenant: str) -> list[Named]:
    """Every name of a tenant's, in order."""
    table = registered_models
    query = sa.select(table).where(table.c.tenant == tenant).order_by(table.c.name)
    return [Named(**row._mapping) for row in conn.execute(query)]


def create(
    conn: sa.Connection, tenant: str, name: str, *, description: str = "", tags: Mapping[str, str] | None = None, actor: str
) -> Named:  # fmt: skip
    """A new name. Raises Conflict, Invalid."""
    if not name or len(name) > NAME or "/" in name or ":" in name:
        raise Invalid(
            f"no name for a model: {name[:100]!r}", where="name", remedy=f"1 to {NAME} characters without / and :"
        )
    if find(conn, tenant, name) is not None:
        raise Conflict(f"Registered Model (name={name}) already exists", where="registered models", remedy="use it")
    now = clock.now_ms()
    made = Named(tenant, name, description, dict(tags or {}), {}, 0, now, now)
    conn.execute(registered_models.insert().values(**vars(made)))
    audit.record(conn, actor=actor, action="registered_model.created", subject=f"{tenant}/{name}")
    return made


def change(conn: sa.Connection, named: Named, **values: Any) -> None:
    """Another description, other tags or aliases."""
    if len(values.get("tags", ())) > MOST_TAGS or len(values.get("aliases", ())) > MOST_TAGS:
        raise Invalid(f"over {MOST_TAGS} tags or aliases", where=named.name, remedy="take some away first")
    table = registered_models
    mine = (table.c.tenant == named.tenant) & (table.c.name == named.name)
    conn.execute(table.update().where(mine).values(**values, updated_ms=clock.now_ms()))


def remove(conn: sa.Connection, named: Named, *, actor: str) -> None:
    """Take a name away, with its versions."""
    for table in (registered_versions, registered_models):
        conn.execute(table.delete().where(table.c.tenant == named.tenant, table.c.name == named.name))
    audit.record(conn, actor=actor, action="registered_model.deleted", subject=f"{named.tenant}/{named.name}")


def rename(conn: sa.Connection, named: Named, name: str, *, actor: str) -> Named:
    """The same under another name. Raises Conflict, Invalid."""
    made = create(conn, named.tenant, name, description=named.description, tags=named.tags, actor=actor)
    change(conn, made, aliases=named.aliases, last=named.last)
    table = registered_versions
    mine = (table.c.tenant == named.tenant) & (table.c.name == named.name)
    conn.execute(table.update().where(mine).values(name=name))
    remove(conn, named, actor=actor)
    return get(conn, named.tenant, name)


def add(
    conn: sa.Connection,
    tenant: str,
    name: str,
    number: int,
    *,
    source: str,
    run: str,
    description: str,
    tags: Mapping[str, str],
    ref: str | None,
    actor: str,
) -> Registered:
    """A version under a name; the same number again gives the one that is there."""
    held = version(conn, tenant, name, number)
    if held is not None:
        return held
    now = clock.now_ms()
    made = Registered(
        tenant, name, number, source, run, description, dict(tags), "None", ref, None, actor, now, now
    )  # fmt: skip
    conn.execute(registered_versions.insert().values(**vars(made)))
    told = {"source": source[:500], "run": run, "ref": ref}
    audit.record(conn, actor=actor, action="registered_version.created", subject=f"{name}/{number}", detail=told)
    return made


def version(conn: sa.Connection, tenant: str, name: str, number: int) -> Registered | None:
    """What is said of a version, or None."""
    table = registered_versions
    mine = (table.c.tenant == tenant) & (table.c.name == name) & (table.c.number == number)
    row = conn.execute(sa.select(table).where(mine)).first()
    return Registered(**row._mapping) if row else None


def versions(conn: sa.Connection, tenant: str, name: str) -> list[Registered]:
    """All versions under a name, newest first."""
    table = registered_versions
    query = sa.select(table).where(table.c.tenant == tenant, table.c.name == name).order_by(table.c.number.desc())
    return [Registered(**row._mapping) for row in conn.execute(query)]


def change_version(conn: sa.Connection, one: Registered, **values: Any) -> None:
    """Another description, stage, turn or other tags of a version."""
    if len(values.get("tags", ())) > MOST_TAGS:
        raise Invalid(f"over {MOST_TAGS} tags", where=f"{one.name}/{one.number}", remedy="take some away first")
    table = registered_versions
    mine = (table.c.tenant == one.tenant) & (table.c.name == one.name) & (table.c.number == one.number)
    conn.execute(table.update().where(mine).values(**values, updated_ms=clock.now_ms()))


def remove_version(conn: sa.Connection, one: Registered, *, actor: str) -> None:
    """Take a version of theirs away."""
    table = registered_versions
    mine = (table.c.tenant == one.tenant) & (table.c.name == one.name) & (table.c.number == one.number)
    conn.execute(table.delete().where(mine))
    audit.record(conn, actor=actor, action="registered_version.deleted", subject=f"{one.name}/{one.number}")


def unjudged(conn: sa.Connection) -> list[Registered]:
    """Versions of ours that no turn has been asked for yet, oldest first."""
    table = registered_versions
    query = sa.select(table).where(table.c.ref.is_not(None), table.c.turn.is_(None)).order_by(table.c.created_ms)
    return [Registered(**row._mapping) for row in conn.execute(query)]
