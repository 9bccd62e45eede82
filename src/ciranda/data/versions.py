"""Versions of a dataset: immutable, numbered, named by the digest of their rows.

The digest is SHA-256 over the sorted fingerprints of the rows (each covers the row's key and every fact except source and
origin), so the same rows give the same digest in any order, from any files, on any machine. A version is a set: the same
example twice is one row. Committing what the newest version already holds gives that version back, so a step that is run again
after a crash makes nothing new.
`commit` takes all rows of the next version, `amend` only what changes; both take rows as values or as Arrow batches, streamed, and
hold nothing but keys and fingerprints in memory.
The order of a commit is its safety: rows are written and synced first, then tagged, then registered in one database
transaction with the audit event. A kill at any line leaves the version before as the newest, and a retry succeeds.
It refuses a parent that is no longer the newest (Conflict), an empty version, and names that could leave the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import columns, place, sets, shelf
from ciranda.data.compare import Diff, diff
from ciranda.data.place import Place, parse_ref
from ciranda.data.rows import Row
from ciranda.data.sets import digest_of
from ciranda.errors import Conflict, NotFound, Refused
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database, metadata

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ciranda.data.checks.findings import Findings

    Array = np.ndarray[Any, Any]

__all__ = [
    "Change", "DatasetVersion", "Diff", "amend", "at", "batches", "commit", "dataset_aliases", "dataset_parents",
    "dataset_versions", "datasets", "diff", "digest_of", "get", "newest_of", "parse_ref", "read", "register",
]  # fmt: skip

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("pool", sa.String(63), nullable=False),
    sa.Column("branched_from", sa.String(80), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("dataset", sa.String(63), sa.ForeignKey("datasets.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("parents", sa.JSON, nullable=False),
    sa.Column("transformation", sa.JSON, nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Column("lance_version", sa.Integer, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("collected_at", sa.String(32), nullable=False),
)

dataset_parents = sa.Table(
    "dataset_parents",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("parent", sa.String(80), primary_key=True, index=True),
    sa.ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
)

dataset_aliases = sa.Table(
    "dataset_aliases",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("fixed", sa.Boolean, nullable=False),
    sa.Column("set_at", sa.String(32), nullable=False),
    sa.Column("set_by", sa.String(200), nullable=False),
    sa.ForeignKeyConstraint(["dataset", "number"], ["dataset_versions.dataset", "dataset_versions.number"]),
)


@dataclass(frozen=True)
class DatasetVersion:
    """One registered version. `counts` holds rows per split, language and source, and per language and split."""

    name: str
    number: int
    digest: str
    rows: int
    counts: dict[str, Any]
    parents: tuple[str, ...]
    transformation: dict[str, Any]
    report: dict[str, Any]
    lance_version: int
    created_at: str
    created_by: str
    collected_at: str = ""

    @property
    def ref(self) -> str:
        """The version's name, as in `smart-home@2`."""
        return f"{self.name}@{self.number}"

    @property
    def parent(self) -> str:
        """The first parent: the version before it in its line, or the one that its line began from."""
        return self.parents[0] if self.parents else ""

    def to_dict(self) -> dict[str, Any]:
        """As the REST API and the pages show it."""
        return {**self.__dict__, "ref": self.ref, "parent": self.parent, "parents": list(self.parents)}


Within = Callable[[sa.Connection, DatasetVersion], None]


@dataclass(frozen=True)
class Change:
    """Everything about a version but its rows.

    Args:
        transformation: What made the rows: kind, sources, checks, cause. Goes into lineage.
        parents: Further versions that the rows come from, beside the newest of the dataset.
        report: What the checks said; `findings` are all of it, kept beside the rows.
        within: Called in the transaction that registers the version (an ingestion moves its cursor there).
    """

    transformation: Mapping[str, Any]
    actor: str
    parents: Sequence[str] = ()
    report: Mapping[str, Any] | None = None
    findings: Findings | None = None
    within: Within | None = None


def commit(
    db: Database,
    home: Home,
    dataset: str,
    rows: columns.Rows,
    *,
    parent: str | None = None,
    transformation: Mapping[str, Any],
    actor: str,
    parents: Sequence[str] = (),
    report: Mapping[str, Any] | None = None,
    findings: Findings | None = None,
    within: Within | None = None,
) -> DatasetVersion:
    """Make `rows` (all of them, not only the new ones) the next version of `dataset`; they are read once, streamed.

    Args:
        parent: The version the rows were made from; None takes the newest there is. The others are those of `Change`.

    Raises Conflict when `parent` is not the newest any more, Refused when there is no row, StorageFull on a full disk.
    """
    change = Change(transformation, actor, parents, report, findings, within)
    where = place.of(home, dataset)
    with shelf.alone(where):
        newest = newest_of(db, dataset)
        before = _Before.of(where, newest)
        arrived, writing = sets.Arrived(before.known), shelf.Writing(where, newest.lance_version if newest else None)
        ids = _append(writing, arrived.fresh(rows))
        lost = arrived.losers()
        prints = sets.ordered(arrived.prints[~lost])
        if not len(prints):
            raise Refused(
                f"dataset {dataset} would be empty", where=dataset, remedy="look at the sources and the check report"
            )
        if newest and newest.digest == sets.digest(prints) and parent in (None, newest.ref, newest.parent):
            return _settled(db, newest, within)
        _refuse_stale(dataset, newest, parent)
        gone = before.held.ids[~sets.within(before.held.prints, prints)]
        writing.delete(sets.joined([gone, ids[lost[arrived.is_fresh]]], "u8"))
        counts = arrived.counts if not lost.any() else sets.Counts.of(writing.scan(sets.COUNTED))
        return _finish(db, where, newest, writing, prints, counts.to_dict(), change)


def amend(
    db: Database,
    home: Home,
    dataset: str,
    *,
    add: columns.Rows = (),
    remove: Iterable[str] = (),
    parent: str | None = None,
    transformation: Mapping[str, Any],
    actor: str,
    parents: Sequence[str] = (),
    report: Mapping[str, Any] | None = None,
    findings: Findings | None = None,
    within: Within | None = None,
) -> DatasetVersion:
    """The newest version with rows added, replaced (a row whose key is there already) and removed (by key): reads only these.

    Raises NotFound when there is no version yet, and what `commit` raises.
    """
    change = Change(transformation, actor, parents, report, findings, within)
    where = place.of(home, dataset)
    with shelf.alone(where):
        newest = get(db, dataset)
        _refuse_stale(dataset, newest, parent)
        before = _Before.of(where, newest)
        arrived, writing = sets.Arrived(before.known), shelf.Writing(where, newest.lance_version)
        ids = _append(writing, arrived.fresh(add))
        lost = arrived.losers()
        kept = arrived.prints[~lost]
        keys = sets.joined([arrived.keys[~lost], sets.of_hex(remove)], "S32")
        touched = sets.within(before.held.keys, sets.ordered(keys))
        touched[touched] = ~sets.within(before.held.prints[touched], sets.ordered(kept))
        gone = before.held.ids[touched]
        counts = sets.Counts.of(shelf.taken(where, newest.lance_version, gone, sets.COUNTED), sign=-1)
        fresh = ids[~lost[arrived.is_fresh]]
        counts.take(shelf.taken(where, writing.version, fresh, sets.COUNTED) if len(fresh) else ())
        prints = sets.merged(before.known, sets.ordered(before.held.prints[touched]), kept[arrived.is_fresh[~lost]])
        if not len(prints):
            raise Refused(f"dataset {dataset} would be empty", where=dataset, remedy="leave some of its rows")
        if newest.digest == sets.digest(prints):
            return _settled(db, newest, within)
        writing.delete(sets.joined([gone, ids[lost[arrived.is_fresh]]], "u8"))
        return _finish(db, where, newest, writing, prints, counts.to_dict(newest.counts), change)


def register(
    db: Database, version: DatasetVersion, *, within: Within | None = None, pool: str = "", branched_from: str = ""
) -> DatasetVersion:
    """Make a version known whose rows are tagged: dataset row, version row, parents, audit event and `within`, all or nothing.

    Raises Conflict when its number was taken in the meantime.
    """
    try:
        with db.writing() as conn:
            _write(conn, version, pool or version.name, branched_from)
            if within:
                within(conn, version)
    except sa.exc.IntegrityError as error:
        raise Conflict(
            f"{version.ref} was committed by somebody else in the meantime",
            where=version.name,
            remedy="build the rows on the newest version and commit again",
        ) from error
    return version


def newest_of(db: Database, dataset: str) -> DatasetVersion | None:
    """The newest registered version, or None."""
    mine = dataset_versions.c.dataset == dataset
    query = sa.select(dataset_versions).where(mine).order_by(dataset_versions.c.number.desc()).limit(1)
    return _first(db, query)


def at(db: Database, dataset: str, moment: str) -> DatasetVersion:
    """The version that was the newest at a moment (ISO 8601, UTC when it names no zone). Raises Invalid, NotFound."""
    until = clock.iso(clock.parse(moment))
    mine = (dataset_versions.c.dataset == dataset) & (dataset_versions.c.created_at <= until)
    query = sa.select(dataset_versions).where(mine).order_by(dataset_versions.c.number.desc()).limit(1)
    if found := _first(db, query):
        return found
    raise NotFound(f"{dataset} had no version at {until}", where=dataset, remedy=f"`ciranda datasets show {dataset}`")


def get(db: Database, ref: str) -> DatasetVersion:
    """A registered version by its name: `smart-home@2`, by a tag or alias: `smart-home@golden`, by a moment at which it was the
    newest: `smart-home@2026-11-23T12:00Z`; `smart-home` alone is the newest. Raises NotFound, Invalid."""
    name, _, which = ref.partition("@")
    if not which:
        found = newest_of(db, name)
    elif which[:4].isdecimal() and which[4:5] == "-":
        return at(db, name, which)
    else:
        place.parse_name(ref)
        number = int(which) if which.isdecimal() else sa.select(dataset_aliases.c.number).where(
            dataset_aliases.c.dataset == name, dataset_aliases.c.name == which
        ).scalar_subquery()  # fmt: skip
        mine = (dataset_versions.c.dataset == name) & (dataset_versions.c.number == number)
        found = _first(db, sa.select(dataset_versions).where(mine))
    if not found:
        raise NotFound(
            f"no dataset version {ref}", where="datasets", remedy="`ciranda datasets show` lists what there is"
        )
    return found


def batches(
    home: Home,
    ref: str,
    *,
    split: str | None = None,
    language: str | None = None,
    source: str | None = None,
    columns: Sequence[str] = columns.COLUMNS,
) -> Iterator[pa.RecordBatch]:
    """A version's rows as Arrow batches, without the database: jobs read this way. Raises NotFound."""
    name, number = parse_ref(ref)
    where = place.of(home, name)
    wanted = {"split": split, "language": language, "source": source}
    return shelf.batches(where, where.tag(number), columns=columns, where=wanted)


def read(
    home: Home, ref: str, *, split: str | None = None, language: str | None = None, source: str | None = None
) -> list[Row]:
    """A version's rows as values."""
    found = batches(home, ref, split=split, language=language, source=source)
    return [row for batch in found for row in columns.rows_of(batch)]


@dataclass(frozen=True)
class _Before:
    """What the version before holds; `known` are its fingerprints in order."""

    held: shelf.Held
    known: Array

    @classmethod
    def of(cls, where: Place, newest: DatasetVersion | None) -> _Before:
        held = shelf.held(where, newest.lance_version) if newest else shelf.Held.nothing()
        return cls(held, sets.ordered(held.prints))


def _append(writing: shelf.Writing, fresh: Iterator[pa.RecordBatch]) -> Array:
    """Write what is new, if anything is; returns the ids."""
    first = next(fresh, None)
    return writing.append(chain([first], fresh)) if first is not None else sets.joined([], "u8")


def _finish(
    db: Database,
    where: Place,
    newest: DatasetVersion | None,
    writing: shelf.Writing,
    prints: Array,
    counts: dict[str, Any],
    change: Change,
) -> DatasetVersion:
    """Sync, tag, register."""
    stored = writing.done()
    number, line = (newest.number + 1, (newest.ref,)) if newest else (1, ())
    parents = tuple(dict.fromkeys((*line, *change.parents)))
    version = DatasetVersion(
        where.dataset, number, sets.digest(prints), len(prints), counts, parents, dict(change.transformation),
        dict(change.report or {}), stored, clock.iso(), change.actor,
    )  # fmt: skip
    if change.findings is not None:
        shelf.keep(where, number, change.findings.batches(), change.findings.schema())
    shelf.tag(where, number, stored)
    return register(db, version, within=change.within)


def _refuse_stale(dataset: str, newest: DatasetVersion | None, parent: str | None) -> None:
    if parent and (newest is None or parent != newest.ref):
        raise Conflict(
            f"{parent} is not the newest version of {dataset}, {newest.ref if newest else 'none'} is",
            where=dataset,
            remedy="build the rows on the newest version and commit again",
        )


def _write(conn: sa.Connection, version: DatasetVersion, pool: str, branched_from: str) -> None:
    values = {name: value for name, value in version.__dict__.items() if name != "name"}
    values |= {"parents": list(version.parents), "dataset": version.name, "format": shelf.FORMAT}
    made = {"created_at": version.created_at, "created_by": version.created_by}
    if not conn.execute(sa.select(datasets.c.name).where(datasets.c.name == version.name)).first():
        conn.execute(datasets.insert().values(name=version.name, pool=pool, branched_from=branched_from, **made))
    conn.execute(dataset_versions.insert().values(**values))
    for parent in version.parents:
        conn.execute(dataset_parents.insert().values(dataset=version.name, number=version.number, parent=parent))
    audit.record(
        conn,
        actor=version.created_by,
        action="dataset.committed",
        subject=version.ref,
        detail={"digest": version.digest, "rows": version.rows, "parents": list(version.parents)},
    )


def _settled(db: Database, version: DatasetVersion, within: Within | None) -> DatasetVersion:
    """Nothing to write; whoever wanted to act within the commit still does."""
    if within:
        with db.writing() as conn:
            within(conn, version)
    return version


def _first(db: Database, query: sa.Select[Any]) -> DatasetVersion | None:
    with db.reading() as conn:
        found = conn.execute(query).first()
    return version_of(found) if found else None


def version_of(found: sa.Row[Any]) -> DatasetVersion:
    """A row of `dataset_versions` as a value."""
    values = dict(found._mapping)
    values.pop("format")
    return DatasetVersion(name=values.pop("dataset"), parents=tuple(values.pop("parents")), **values)
