"""Other lines from old versions: a branch begins a dataset at a version of another one, a revert goes back within one.

Neither copies a row: the new version is another tag on the same rows. A branch shares the pool of the dataset it came from, and
inherits its restrictions (policies look at `branched_from`). A revert is a version like any other, with the newest and the one it
goes back to as parents, so that what was undone stays in the record.
"""

from __future__ import annotations

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import place, shelf, versions
from ciranda.data.versions import DatasetVersion, datasets
from ciranda.errors import Conflict, NotFound
from ciranda.store import clock
from ciranda.store.database import Database


def branch(db: Database, home: Home, ref: str, name: str, *, actor: str) -> DatasetVersion:
    """Begin the dataset `name` with the rows of a version. Doing it again gives the branch back.

    Raises Conflict when the name is taken, NotFound when the version (or its rows) is not there.
    """
    origin = present(versions.get(db, ref))
    where = place.of(home, origin.name)
    with shelf.alone(where):
        if held := _taken(db, name):
            if held == origin.ref and (first := versions.get(db, f"{name}@1")).lance_version == origin.lance_version:
                return first
            raise Conflict(f"there is a dataset {name} already", where=name, remedy="choose another name")
        place.share(home, name, where.pool)
        mine = place.of(home, name)
        made = DatasetVersion(
            name, 1, origin.digest, origin.rows, origin.counts, (origin.ref,), {"kind": "branch", "of": origin.ref},
            origin.report, origin.lance_version, clock.iso(), actor,
        )  # fmt: skip
        return versions.register(
            db, made, tag=lambda: shelf.tag(mine, 1, origin.lance_version), pool=where.pool, branched_from=origin.ref
        )


def revert(db: Database, home: Home, ref: str, *, actor: str, parent: str | None = None) -> DatasetVersion:
    """Make the rows of an older version the newest again; returns the newest when it holds them already.

    Raises Conflict when `parent` is not the newest any more, NotFound when the version (or its rows) is not there.
    """
    wanted = present(versions.get(db, ref))
    where = place.of(home, wanted.name)
    with shelf.alone(where):
        newest = versions.get(db, wanted.name)
        if parent and parent != newest.ref:
            raise Conflict(
                f"{parent} is not the newest version of {newest.name}, {newest.ref} is",
                where=newest.name,
                remedy="look at what changed (`ciranda datasets diff`), then revert again",
            )
        if newest.digest == wanted.digest:
            return newest
        made = DatasetVersion(
            newest.name, newest.number + 1, wanted.digest, wanted.rows, wanted.counts, (newest.ref, wanted.ref),
            {"kind": "revert", "to": wanted.ref, "from": newest.ref}, wanted.report, wanted.lance_version, clock.iso(),
            actor,
        )  # fmt: skip
        return versions.register(db, made, tag=lambda: shelf.tag(where, made.number, wanted.lance_version))


def present(version: DatasetVersion) -> DatasetVersion:
    """The version, when its rows are there. Raises NotFound."""
    if version.collected_at:
        raise NotFound(
            f"the rows of {version.ref} were collected at {version.collected_at}",
            where=version.name,
            remedy=f"`ciranda datasets show {version.name}` lists the versions that have rows",
        )
    return version


def _taken(db: Database, name: str) -> str:
    """Where a dataset of this name was branched from, or that it is there; empty when it is not. Raises Invalid."""
    place.checked(name)
    with db.reading() as conn:
        found = conn.execute(sa.select(datasets.c.branched_from).where(datasets.c.name == name)).first()
    return (found.branched_from or name) if found else ""
