"""Names of versions: tags, which stay where they were put, and aliases, which move.

Both stand behind the @ like a number: `tickets@golden`. A tag says "this one, for ever" (what was published, what a regulator saw);
an alias says "the one we mean now". A version with a name is never collected. It refuses to move a tag; who removes one is in the
audit log.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.data.versions import dataset_aliases, dataset_versions
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.store import clock


@dataclass(frozen=True)
class Alias:
    """One name of a version; a tag is `fixed`."""

    dataset: str
    name: str
    number: int
    fixed: bool
    set_at: str
    set_by: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {**asdict(self), "ref": f"{self.dataset}@{self.number}"}


def put(conn: sa.Connection, dataset: str, name: str, number: int, *, fixed: bool, actor: str) -> Alias:
    """Name a version. Doing it again changes nothing. Raises NotFound, Invalid, Conflict (a tag stands elsewhere)."""
    if not re.fullmatch(r"[a-z][a-z0-9.-]{0,62}", name):
        raise Invalid(
            f"{name!r} is no name for a version", where="name", remedy="begin with a letter: golden, 2026-q3 not"
        )
    mine = (dataset_versions.c.dataset == dataset) & (dataset_versions.c.number == number)
    version = conn.execute(sa.select(dataset_versions.c.collected_at).where(mine)).first()
    if version is None or version.collected_at:
        said = "was collected" if version else "is not there"
        raise NotFound(f"{dataset}@{number} {said}", where="datasets", remedy=f"`ciranda datasets show {dataset}`")
    held = next((one for one in every(conn, dataset) if one.name == name), None)
    if held and (held.number, held.fixed) == (number, fixed):
        return held
    if held and held.fixed:
        raise Conflict(
            f"the tag {name} stands on {dataset}@{held.number}, and tags stay",
            where=f"{dataset}@{name}",
            remedy="choose another name, or take it away first",
        )
    alias = Alias(dataset, name, number, fixed, clock.iso(), actor)
    conn.execute(dataset_aliases.delete().where(_is(dataset, name)))
    conn.execute(dataset_aliases.insert().values(**asdict(alias)))
    detail = {"name": name, "fixed": fixed, "before": held.number if held else None}
    audit.record(conn, actor=actor, action="dataset.named", subject=f"{dataset}@{number}", detail=detail)
    return alias


def remove(conn: sa.Connection, dataset: str, name: str, *, actor: str) -> Alias:
    """Take a name away. Raises NotFound."""
    held = next((one for one in every(conn, dataset) if one.name == name), None)
    if held is None:
        raise NotFound(
            f"nothing of {dataset} is called {name!r}", where="datasets", remedy=f"`ciranda datasets show {dataset}`"
        )
    conn.execute(dataset_aliases.delete().where(_is(dataset, name)))
    detail = {"name": name, "fixed": held.fixed}
    audit.record(conn, actor=actor, action="dataset.unnamed", subject=f"{dataset}@{held.number}", detail=detail)
    return held


def every(conn: sa.Connection, dataset: str) -> list[Alias]:
    """The names of a dataset's versions, by name."""
    query = sa.select(dataset_aliases).where(dataset_aliases.c.dataset == dataset).order_by(dataset_aliases.c.name)
    return [Alias(**row._mapping) for row in conn.execute(query)]


def _is(dataset: str, name: str) -> sa.ColumnElement[bool]:
    return (dataset_aliases.c.dataset == dataset) & (dataset_aliases.c.name == name)
