"""Garbage collection: versions that nobody needs lose their rows, and files that no version refers to are removed.

Never collected are the newest KEEP versions of a dataset, those younger than AGE, those with a tag or alias, and those that a
trial, a model version or a turn names. A collected version keeps its entry (number, digest, counts, report), so lineage stays
whole; only its rows are gone.
The order is its safety: a version is marked in one transaction that looks at its uses again, then its tag goes, then the files.
Killed in between, the next run goes on. It works on one pool at a time, under the lock of that pool's writers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import place, shelf
from ciranda.data.place import Place
from ciranda.data.versions import dataset_aliases, dataset_versions, datasets
from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database

KEEP = 3
AGE = timedelta(days=30)
USES = {
    "versions": "a model version",
    "trials": "a trial",
    "turns": "a turn",
    "searches": "a search",
    "labels": "a review",
}
"""Tables of later parts of the loop that name a dataset version in a column `dataset`, where they exist."""


@dataclass(frozen=True)
class Swept:
    """What a run took away, or would take: versions by name, and bytes of files that nothing refers to any more."""

    collected: tuple[str, ...]
    rows: int
    kept: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    dry: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {**asdict(self), "collected": list(self.collected)}


def collect(
    db: Database, home: Home, *, dataset: str = "", keep: int = KEEP, age: timedelta = AGE, dry: bool = True, actor: str
) -> Swept:
    """Collect the versions of one dataset or of all; a dry run only says which, and why the others stay."""
    with db.reading() as conn:
        names = list(conn.execute(sa.select(datasets.c.name).order_by(datasets.c.name)).scalars())
        if dataset and dataset not in names:
            raise NotFound(f"no dataset {dataset!r}", where="datasets", remedy="`ciranda datasets` lists them")
        chosen = [dataset] if dataset else names
        gone, kept = _sorted(conn, chosen, max(1, keep), age)
        rows = _rows(conn, gone)
    if dry:
        return Swept(tuple(_refs(gone)), rows, kept)
    removed, collected = 0, list[tuple[str, int]]()
    for where, sharing in _pools(home, chosen):
        with shelf.alone(where):
            marked = _mark(db, sharing, max(1, keep), age, actor)
            for name, number in _collected(db, sharing):
                shelf.untag(place.of(home, name), number)
                shelf.forget(place.of(home, name), number)
            removed += shelf.sweep(where)
            collected += marked
    with db.reading() as conn:
        return Swept(tuple(_refs(collected)), _rows(conn, collected), kept, removed, dry=False)


def _pools(home: Home, names: list[str]) -> list[tuple[Place, list[str]]]:
    """Each pool once, with those of the datasets that lie in it."""
    pools: dict[str, tuple[Place, list[str]]] = {}
    for name in names:
        where = place.of(home, name)
        pools.setdefault(where.uri, (where, []))[1].append(name)
    return list(pools.values())


def _sorted(conn: sa.Connection, names: Any, keep: int, age: timedelta) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Versions to collect, and why each of the others stays."""
    young = clock.iso(clock.now() - age)
    named = {(one.dataset, one.number): one.name for one in conn.execute(sa.select(dataset_aliases))}
    used, gone, kept = _used(conn), list[tuple[str, int]](), dict[str, str]()
    for name in names:
        query = sa.select(dataset_versions).where(dataset_versions.c.dataset == name)
        line = conn.execute(query.order_by(dataset_versions.c.number.desc())).all()
        for place_, one in enumerate(line):
            ref = f"{name}@{one.number}"
            if one.collected_at:
                continue
            reason = (
                f"one of the newest {keep}" if place_ < keep
                else f"named {named[name, one.number]}" if (name, one.number) in named
                else f"used by {used[ref]}" if ref in used
                else f"younger than {age.days} days" if one.created_at > young
                else ""
            )  # fmt: skip
            if reason:
                kept[ref] = reason
            else:
                gone.append((name, one.number))
    return gone, kept


def _used(conn: sa.Connection) -> dict[str, str]:
    """Dataset versions that something was made from."""
    used: dict[str, str] = {}
    there = set(sa.inspect(conn).get_table_names())
    for name, word in USES.items():
        if name in there and "dataset" in {one["name"] for one in sa.inspect(conn).get_columns(name)}:
            table = sa.table(name, sa.column("dataset"))
            used |= {str(ref): word for ref in conn.execute(sa.select(table.c.dataset).distinct()).scalars() if ref}
    return used


def _mark(db: Database, names: list[str], keep: int, age: timedelta, actor: str) -> list[tuple[str, int]]:
    """Say in the database that these versions have no rows any more; who uses one a moment later is told so."""
    with db.writing() as conn:
        gone, _ = _sorted(conn, names, keep, age)
        for name, number in gone:
            mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == number)
            conn.execute(dataset_versions.update().where(mine).values(collected_at=clock.iso()))
            audit.record(conn, actor=actor, action="dataset.collected", subject=f"{name}@{number}", detail={})
    return gone


def _collected(db: Database, names: list[str]) -> list[tuple[str, int]]:
    """Versions that were marked before; a run that died may have left their tags."""
    table = dataset_versions.c
    query = sa.select(table.dataset, table.number).where(table.dataset.in_(names), table.collected_at != "")
    with db.reading() as conn:
        return [(row.dataset, row.number) for row in conn.execute(query)]


def _rows(conn: sa.Connection, gone: list[tuple[str, int]]) -> int:
    table = dataset_versions.c
    query = sa.select(table.dataset, table.number, table.rows)
    held = {(row.dataset, row.number): row.rows for row in conn.execute(query)}
    return sum(held[one] for one in gone)


def _refs(gone: list[tuple[str, int]]) -> list[str]:
    return [f"{name}@{number}" for name, number in gone]
