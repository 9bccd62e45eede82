"""Names that stand behind the @ of a model in place of a number: `smart-home@champion`.

An alias is a label for people and tools, which may be moved at any time. It sends no traffic: what is live is a stage, behind its
gates, and gateways know models alone. Some names always mean what is true: `live`, `previous` (where a rollback would go) and
`newest`. Every move is in the audit log.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.registry import models, versions
from ciranda.registry.history import STAGES
from ciranda.store import clock
from ciranda.store.database import metadata

SHAPE = re.compile(r"[a-z][a-z0-9._-]{0,62}")
TRUE = ("live", "previous", "newest")
RESERVED = frozenset({*TRUE, "latest", *STAGES})

version_aliases = sa.Table(
    "version_aliases",
    metadata,
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("set_at", sa.String(32), nullable=False),
    sa.Column("set_by", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class Alias:
    """One name of one version."""

    model: str
    name: str
    number: int
    set_at: str
    set_by: str

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return {**asdict(self), "ref": self.ref}


def put(conn: sa.Connection, ref: str, name: str, *, actor: str) -> Alias:
    """Let a name stand for a version, which it may leave another one for. Doing it again changes nothing.

    Raises:
        NotFound: No such version.
        Invalid: A name of another shape, or one that always means what is true.
    """
    if not SHAPE.fullmatch(name) or name in RESERVED:
        raise Invalid(
            f"{name!r} is no name for a version" + (": it says what is true already" if name in RESERVED else ""),
            where="alias", remedy="begin with a small letter, such as champion, 2026.q3 not",
        )  # fmt: skip
    version = versions.get(conn, ref)
    models.lock(conn, version.model)
    held = find(conn, version.model, name)
    if held is not None and held.number == version.number:
        return held
    alias = Alias(version.model, name, version.number, clock.iso(), actor)
    conn.execute(version_aliases.delete().where(_is(version.model, name)))
    conn.execute(version_aliases.insert().values(**asdict(alias)))
    detail = {"name": name, "before": held.ref if held else ""}
    audit.record(conn, actor=actor, action="version.named", subject=version.ref, detail=detail)
    return alias


def remove(conn: sa.Connection, model: str, name: str, *, actor: str) -> Alias:
    """Take a name away. Raises NotFound."""
    held = find(conn, model, name)
    if held is None:
        raise NotFound(f"no version of {model} is called {name!r}", where="aliases",
                       remedy=f"`ciranda versions list {model}` shows the names")  # fmt: skip
    conn.execute(version_aliases.delete().where(_is(model, name)))
    audit.record(conn, actor=actor, action="version.unnamed", subject=held.ref, detail={"name": name})
    return held


def find(conn: sa.Connection, model: str, name: str) -> Alias | None:
    """One name, or None."""
    row = conn.execute(sa.select(version_aliases).where(_is(model, name))).first()
    return Alias(**row._mapping) if row else None


def of(conn: sa.Connection, model: str) -> list[Alias]:
    """The names of a model's versions, by name."""
    query = sa.select(version_aliases).where(version_aliases.c.model == model).order_by(version_aliases.c.name)
    return [Alias(**row._mapping) for row in conn.execute(query)]


def resolve(conn: sa.Connection, text: str) -> str:
    """The version that somebody means, as model@number: by its number, by a name, or by `live`, `previous`, `newest`.

    Raises:
        Invalid: It names no version.
        NotFound: Nothing carries that name.
    """
    model, at, name = text.rpartition("@")
    if not at or not model or name.isdecimal():
        return "{}@{}".format(*versions.split(text))
    models.get(conn, model)
    if name in TRUE:
        known = {"live": versions.live, "previous": versions.previous, "newest": _newest}[name](conn, model)
        if known is None:
            raise NotFound(
                f"{model} has no {name} version", where="versions", remedy=f"`ciranda versions list {model}`"
            )
        return known.ref
    held = find(conn, model, name)
    if held is None:
        names = ", ".join([one.name for one in of(conn, model)] + list(TRUE))
        raise NotFound(f"no version of {model} is called {name[:100]!r}; there are {names}", where="aliases",
                       remedy=f"`ciranda versions name {model}@<n> {name[:63]}`")  # fmt: skip
    return held.ref


def free(conn: sa.Connection, ref: str) -> None:
    """Raise Conflict while a name stands for the version: somebody relies on it."""
    model, number = versions.split(ref)
    names = [one.name for one in of(conn, model) if one.number == number]
    if names:
        raise Conflict(f"{ref} is called {', '.join(names)}", where="aliases",
                       remedy=f"`ciranda versions unname {model} {names[0]}` first")  # fmt: skip


def _newest(conn: sa.Connection, model: str) -> versions.Version | None:
    return next(iter(versions.of(conn, model)), None)


def _is(model: str, name: str) -> sa.ColumnElement[bool]:
    return (version_aliases.c.model == model) & (version_aliases.c.name == name)
