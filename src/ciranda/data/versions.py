"""Versions of a dataset: immutable, numbered, named by the digest of their rows.

The digest is SHA-256 over the sorted fingerprints of the rows (each covers the row's key and every fact except source and
origin), so the same rows give the same digest in any order, from any files, on any machine. A version is a set: the same
example twice is one row. Committing what the newest version already holds gives that version back, so a step that is run again
after a crash makes nothing new.
`commit` takes all rows of the next version, `amend` only what changes; both take rows as values or as Arrow batches, streamed, and
hold nothing but keys and fingerprints in memory.
The order of a commit is its safety: rows are written and synced first, then registered, tagged and audited in one database
transaction, so that a number and the rows that bear it are the same machine's. A kill at any line leaves the version before as
the newest, and a retry succeeds.
It refuses a parent that is no longer the newest (Conflict), an empty version, and names that could leave the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from ciranda.config import Home
from ciranda.data import abreast, columns, durable, memory, place, sets, shelf, tombstones
from ciranda.data.compare import Diff, diff
from ciranda.data.ledger import (
    DatasetVersion,
    Within,
    at,
    dataset_aliases,
    dataset_parents,
    dataset_versions,
    datasets,
    get,
    line,
    newest_of,
    register,
    version_of,
)
from ciranda.data.place import Place, parse_ref
from ciranda.data.rows import Row
from ciranda.data.sets import digest_of
from ciranda.data.writing import Writing
from ciranda.errors import Conflict, Refused
from ciranda.store import clock
from ciranda.store.database import Database

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ciranda.data.checks.findings import Findings

    Array = np.ndarray[Any, Any]

__all__ = [
    "Change", "DatasetVersion", "Diff", "amend", "at", "batches", "commit", "dataset_aliases", "dataset_parents",
    "dataset_versions", "datasets", "diff", "digest_of", "get", "line", "newest_of", "parse_ref", "read", "register", "version_of",
]  # fmt: skip


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
        memory.give_back(newest.rows if newest else 0)
        made = _committed(db, where, newest, parent, tombstones.without(db, home, rows), change)
    memory.give_back(made.rows)
    return made


def _committed(
    db: Database, where: Place, newest: DatasetVersion | None, parent: str | None, rows: columns.Rows, change: Change
) -> DatasetVersion:
    before = _Before.of(*shelf.named(where, newest.lance_version, "fingerprint")) if newest else _Before.nothing()
    arrived, writing = sets.Arrived(before.known), Writing(where, newest.lance_version if newest else None)
    _append(writing, arrived.fresh(rows))
    memory.give_back(len(arrived))
    lost = arrived.losers()
    arrived.drop_keys()
    prints = sets.ordered(arrived.prints[~lost] if lost.any() else arrived.prints)
    if not len(prints):
        raise Refused(
            f"dataset {where.dataset} would be empty",
            where=where.dataset,
            remedy="look at the sources and the check report",
        )
    digest = sets.digest(prints)
    if newest and newest.digest == digest and parent in (None, newest.ref, newest.parent):
        return _settled(db, newest, change.within)
    _refuse_stale(where.dataset, newest, parent)
    writing.change(before.id_at(~sets.within(before.known, prints)), lost[arrived.is_fresh])
    counts = arrived.counts if not lost.any() else sets.Counts.of(writing.scan(sets.COUNTED))
    return _finish(db, where, newest, writing, (digest, len(prints)), counts.to_dict(), change)


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
        writing = Writing(where, newest.lance_version)
        (prints, ids), (held, _) = abreast.at_once(
            lambda: shelf.named(where, newest.lance_version, "fingerprint"),
            lambda: shelf.named(where, newest.lance_version, "key"),
        )
        with abreast.beside() as start:
            coming = _Coming(tombstones.without(db, home, add), writing, start)
            before = _Before.of(prints, ids)
            arrived = coming.arrived(before.known)
            new = _Amended.of(before, held, arrived, sets.of_hex(remove))
            coming.put()
        if not new.rows:
            raise Refused(f"dataset {dataset} would be empty", where=dataset, remedy="leave some of its rows")
        if newest.digest == new.digest:
            return _settled(db, newest, within)
        gone, lost = before.id_at(new.gone), new.lost[arrived.is_fresh]
        counts = sets.Counts.of(shelf.taken(where, newest.lance_version, gone, sets.COUNTED), sign=-1)
        ids = writing.change(gone, lost)
        if new.lost.any() or not arrived.is_fresh.all():
            counts.take(shelf.taken(where, writing.version, ids[~lost], sets.COUNTED))
        else:
            counts.table.update(arrived.counts.table)
        return _finish(db, where, newest, writing, (new.digest, new.rows), counts.to_dict(newest.counts), change)


def batches(
    home: Home,
    ref: str,
    *,
    split: str | None = None,
    language: str | None = None,
    source: str | None = None,
    key: str | None = None,
    columns: Sequence[str] = columns.COLUMNS,
) -> Iterator[pa.RecordBatch]:
    """A version's rows as Arrow batches, without the database: jobs read this way. Raises NotFound."""
    name, number = parse_ref(ref)
    where = place.of(home, name)
    wanted = {"split": split, "language": language, "source": source, "key": key}
    return shelf.batches(where, where.tag(number), columns=columns, where=wanted)


def read(
    home: Home, ref: str, *, split: str | None = None, language: str | None = None, source: str | None = None
) -> list[Row]:
    """A version's rows as values."""
    found = batches(home, ref, split=split, language=language, source=source)
    return [row for batch in found for row in columns.rows_of(batch)]


@dataclass(frozen=True)
class _Before:
    """What the version before holds: its fingerprints in order, the order that the rows lie in, and their ids as they lie."""

    known: Array
    order: Array
    ids: Array

    @classmethod
    def of(cls, prints: Array, ids: Array) -> _Before:
        order = sets.order_of(prints)
        return cls(sets.at(prints, order), order, ids)

    @classmethod
    def nothing(cls) -> _Before:
        """Of a dataset without a version."""
        return cls.of(sets.joined([], "S32"), sets.joined([], "u8"))

    def id_at(self, places: Array) -> Array:
        """The ids of the rows at some places in `known`, by number or by mark."""
        return self.ids[self.order[places]]


class _Coming:
    """Rows that are added to a version: sealed and written while what is there is put in order, as if all of them were new.

    When some are not, what was written is taken back and the others are written. Rows that are too many to wait in memory are
    written once it is known which are new.
    """

    def __init__(self, rows: columns.Rows, writing: Writing, start: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        self._writing = writing
        self._instead: list[pa.RecordBatch] | None = None
        self._sealed = start(lambda: columns.few(rows))
        self._written = start(self._write)

    def _write(self) -> None:
        first, more = self._sealed.result()
        if more is None:
            _append(self._writing, iter(first))

    def arrived(self, known: Array) -> sets.Arrived:
        """Which of them are new to a version with these fingerprints. Raises what sealing them raises."""
        first, more = self._sealed.result()
        arrived = sets.Arrived(known)
        if more is not None:
            _append(self._writing, arrived.fresh(columns.Sealed(chain(first, more))))
            return arrived
        new = list(arrived.fresh(columns.Sealed(first)))
        self._instead = None if arrived.is_fresh.all() else new
        return arrived

    def put(self) -> None:
        """Wait until they are written, and only those that are new."""
        self._written.result()
        if self._instead is not None:
            self._writing.drop()
            _append(self._writing, iter(self._instead))


@dataclass(frozen=True)
class _Amended:
    """What becomes of the version before: places (in `known`) of rows that go, which of those that arrived are lost to another of
    their key, the digest and how many rows there are."""

    gone: Array
    lost: Array
    digest: str
    rows: int

    @classmethod
    def of(cls, before: _Before, held: Array, arrived: sets.Arrived, remove: Array) -> _Amended:
        """`held`: the keys of the version before, as they lie there."""
        import numpy as np

        lost = arrived.losers()
        kept, come = arrived.prints[~lost], arrived.prints[arrived.is_fresh & ~lost]
        touched = columns.among(held, sets.joined([arrived.keys[~lost], remove], "S32"))[before.order]
        touched[touched] = ~sets.within(before.known[touched], sets.ordered(kept))
        gone = np.flatnonzero(touched)
        digest = sets.digest_changed(before.known, gone, come)
        return cls(gone, lost, digest, len(before.known) - len(gone) + len(come))


def _append(writing: Writing, fresh: Iterator[pa.RecordBatch]) -> None:
    """Write what is new, if anything is."""
    first = next(fresh, None)
    if first is not None:
        writing.append(chain([first], fresh))


def _finish(
    db: Database,
    where: Place,
    newest: DatasetVersion | None,
    writing: Writing,
    named: tuple[str, int],
    counts: dict[str, Any],
    change: Change,
) -> DatasetVersion:
    """Sync, tag, register; `named` is the digest and how many rows there are."""
    stored, fresh = writing.done()
    number, line = (newest.number + 1, (newest.ref,)) if newest else (1, ())
    parents = tuple(dict.fromkeys((*line, *change.parents)))
    version = DatasetVersion(
        where.dataset, number, *named, counts, parents, dict(change.transformation),
        dict(change.report or {}), stored, clock.iso(), change.actor,
    )  # fmt: skip
    if change.findings is not None:
        shelf.keep(where, number, change.findings.batches(), change.findings.schema())
    if where.folder is not None:
        with shelf.told(where):
            durable.sync_all(where.folder, fresh)
    return register(db, version, tag=lambda: shelf.tag(where, number, stored), within=change.within)


def _refuse_stale(dataset: str, newest: DatasetVersion | None, parent: str | None) -> None:
    if parent and (newest is None or parent != newest.ref):
        raise Conflict(
            f"{parent} is not the newest version of {dataset}, {newest.ref if newest else 'none'} is",
            where=dataset,
            remedy="build the rows on the newest version and commit again",
        )


def _settled(db: Database, version: DatasetVersion, within: Within | None) -> DatasetVersion:
    """Nothing to write; whoever wanted to act within the commit still does."""
    if within:
        with db.writing() as conn:
            within(conn, version)
    return version
