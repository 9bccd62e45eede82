"""What lies in a pool: rows in Lance, one tag per dataset version. The only file that names Lance.

A new version is written as what changed against an older one: rows that went are marked deleted, rows that came are appended, so
a version costs the disk what changed. Lance never overwrites a file, so a crash leaves at worst some files that no tag refers
to; the next write starts from the tagged version it was told, not from the newest one in the folder, and `sweep` removes the rest.
Lance does not sync its files (measured), so `Writing.done` does, before anybody is told of the version.
Rows have an id that is never used twice in a pool and survives compaction. Rows are deleted and looked up by it; looking up by
position would be some hundred times slower once rows are deleted (measured), so nothing here does. Fragments are compacted when
half of their rows are gone, or when MANY small ones lie about, so that compacting costs no more than the changes did.
It refuses a second writer: `alone` holds a lock beside the pool on this machine. Of several machines with one pool the slower
one is told so (Conflict), because each step of a change must be the next version of the pool.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data import abreast, columns, durable, fragments, sets
from ciranda.data.columns import BATCH_ROWS, COLUMNS, batches_of, rows_of, schema
from ciranda.data.ledger import FORMAT
from ciranda.data.place import Place
from ciranda.data.sets import Held
from ciranda.errors import CirandaError, Conflict, NotFound

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

__all__ = [
    "COLUMNS", "FORMAT", "Held", "Writing", "alone", "batches", "batches_of", "held", "rows_of", "sweep", "tag", "taken", "untag",
]  # fmt: skip

DELETED_AT_ONCE = 20_000  # rows per delete predicate; the planner slows down on longer lists
FRAGMENT_ROWS = 1 << 20
MANY = 32  # fragments of less than a tenth of FRAGMENT_ROWS, before they are put together
GONE = 0.5  # share of deleted rows from which a fragment is written anew
SESSION_BYTES = 256 << 20  # each of Lance's two caches, at most
FEW = 50_000  # rows up to which looking them up is faster than reading everything


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Be the only writer of this pool on this machine; waits for the one before."""
    place.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with together():
            yield
    finally:
        os.close(descriptor)


_session: ContextVar[Any] = ContextVar("lance session", default=None)


@contextmanager
def together() -> Iterator[None]:
    """What Lance learns of a pool while this lasts (where row ids lie, above all) is learnt once, in spite of several looks.

    No longer than that: a pool that is removed and made anew has the same names.
    """
    import lance

    if _session.get() is not None:
        yield
        return
    mark = _session.set(lance.Session(index_cache_size_bytes=SESSION_BYTES, metadata_cache_size_bytes=SESSION_BYTES))
    try:
        yield
    finally:
        _session.reset(mark)


class Writing:
    """One change of a pool on top of a version of it, step by step; nothing counts before it is tagged."""

    def __init__(self, place: Place, base: int | None) -> None:
        self._place, self._before = place, _files(place)
        self._opened = self._begin(base)
        self._due = self._opened.version if self._opened else 0
        self.fault: CirandaError | None = None

    def _begin(self, base: int | None) -> Any:
        """The version to build on, made the newest of the pool when something unfinished lies above it."""
        if base is None:
            return None
        opened = _open(self._place, base)
        if (latest := opened.latest_version) != base:
            with _told(self._place):
                opened.restore()
            self._next(opened, latest)
        return opened

    def append(self, batches: Iterable[pa.RecordBatch]) -> Array:
        """Write sealed batches as they come; returns the ids of their rows, in their order."""
        import lance

        mode = "append" if self._opened else ("overwrite" if _exists(self._place) else "create")
        known = {one.fragment_id for one in self._opened.get_fragments()} if self._opened else set()
        with _told(self._place, self):
            self._opened = lance.write_dataset(
                self._reader(batches), self._place.uri, schema=schema(), mode=mode, data_storage_version=FORMAT,
                enable_stable_row_ids=True, max_rows_per_file=FRAGMENT_ROWS, storage_options=dict(self._place.options),
            )  # fmt: skip
        self._next(self._opened, self._due if mode == "append" else self._opened.version - 1)
        fresh = [one for one in self._opened.get_fragments() if one.fragment_id not in known]
        return _column(self._opened.scanner(columns=[], with_row_id=True, fragments=fresh).to_table(), "_rowid")

    def delete(self, ids: Array) -> None:
        """Mark these rows deleted."""
        for start in range(0, len(ids), DELETED_AT_ONCE):
            listed = ",".join(map(str, ids[start : start + DELETED_AT_ONCE].tolist()))
            with _told(self._place):
                self._opened.delete(f"_rowid IN ({listed})")
            self._next(self._opened, self._due)

    def done(self) -> int:
        """Put fragments in order where that pays, sync everything; returns the version of the pool, to be tagged."""
        if _ragged(self._opened):
            with _told(self._place):
                self._opened.optimize.compact_files(
                    target_rows_per_fragment=FRAGMENT_ROWS, materialize_deletions=True,
                    materialize_deletions_threshold=GONE, num_threads=1,
                )  # fmt: skip
        with _told(self._place):
            _sync(self._place, self._before)
        return int(self._opened.version)

    @property
    def version(self) -> int:
        """The version of the pool as it is by now."""
        return int(self._opened.version)

    def scan(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of the rows as they are by now."""
        yield from self._opened.to_batches(columns=list(names), batch_size=BATCH_ROWS)

    def _reader(self, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
        """What Lance pulls from; an error on the way is remembered, since Lance would make words of it."""
        import pyarrow as pa

        def pulled() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except CirandaError as error:
                self.fault = error
                raise

        return pa.RecordBatchReader.from_batches(schema(), pulled())

    def _next(self, opened: Any, before: int) -> None:
        """Each step must be the very next version of the pool; otherwise somebody else wrote in between."""
        if opened.version != before + 1:
            raise Conflict(
                f"somebody else wrote to {self._place.pool} at the same time",
                where=self._place.uri,
                remedy="build the rows on the newest version and commit again",
            )
        self._due = opened.version


def tag(place: Place, number: int, version: int) -> None:
    """Name a version of the pool, which also keeps it from ever being swept."""
    before, tags, name = _files(place), _open(place).tags, place.tag(number)
    with _told(place):
        if name in tags.list():
            tags.update(name, version)  # of a commit that died before it was registered
        else:
            tags.create(name, version)
        _sync(place, before)


def untag(place: Place, number: int) -> bool:
    """Take a version's name away, so that the next sweep removes what only it held; False when it had none."""
    tags = _open(place).tags if _exists(place) else None
    if tags is None or place.tag(number) not in tags.list():
        return False
    with _told(place):
        tags.delete(place.tag(number))
    return True


def sweep(place: Place) -> int:
    """Remove every file of the pool that no tag refers to; returns how many bytes that were. Only while `alone`."""
    if not _exists(place):
        return 0
    opened = _open(place)
    tagged = {int(one["version"]) for one in opened.tags.list().values()}
    with _told(place):
        if tagged and opened.version not in tagged:
            _open(place, max(tagged)).restore()  # the newest version is never removed, so it must be one that counts
        swept = _open(place).cleanup_old_versions(
            older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
        )
    return int(swept.bytes_removed)


def batches(
    place: Place, version: str | int, *, columns: Sequence[str] = COLUMNS, where: Mapping[str, str | None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Arrow batches of a version (a tag, or a number of the pool), only the rows whose columns equal `where` (None: all)."""
    conditions = [f"`{name}` = '{_quoted(value)}'" for name, value in (where or {}).items() if value]
    opened = _open(place, version)
    yield from opened.to_batches(
        columns=list(columns), filter=" AND ".join(conditions) or None, batch_size=BATCH_ROWS, scan_in_order=True
    )


def differing(place: Place, one: str | int, other: str | int) -> tuple[Array, Array]:
    """The ids of the rows that only `one` of two versions of a pool has, and of those that only the `other` has."""
    return fragments.differing(_open(place, one), _open(place, other))


def keys(place: Place, version: str | int) -> pa.Table:
    """The keys of a version as they are stored, in the order of `held`; for `columns.spelt`."""
    return _open(place, version).scanner(columns=["key"], scan_in_order=True).to_table()


def held(place: Place, version: str | int, *, only: Array | None = None, keys: bool = True) -> Held:
    """Keys (unless nobody needs them), fingerprints and ids of a version's rows; of those with the ids `only` when given."""
    import numpy as np

    opened, names = _open(place, version), ["key", "fingerprint"]
    if not keys:
        table = opened.scanner(columns=names[1:], with_row_id=True, scan_in_order=True).to_table()
        return Held(np.empty(0, "S32"), columns.digests(table, "fingerprint"), _column(table, "_rowid"))
    if only is not None and len(only) <= FEW:
        return _looked_up(opened, only)
    whole = _held(opened.scanner(columns=names, with_row_id=True, scan_in_order=True).to_table())
    return whole if only is None else whole.where(np.isin(whole.ids, only))


def _looked_up(opened: Any, only: Array) -> Held:
    """A few rows: fragments that are as small are read whole, since a look by id first learns where all ids lie."""
    import numpy as np

    small = [one for one in opened.get_fragments() if one.metadata.physical_rows <= 2 * len(only)]
    read, names = Held.nothing(), ["key", "fingerprint"]
    if small:
        read = _held(opened.scanner(columns=names, with_row_id=True, fragments=small).to_table())
        read = read.where(np.isin(read.ids, only))
    rest = only[~np.isin(only, read.ids)]
    if not len(rest):
        return read
    keys, prints = abreast.at_once(
        lambda: columns.digests(_at(opened, rest, ["key"]), "key"),
        lambda: columns.digests(_at(opened, rest, ["fingerprint"]), "fingerprint"),
    )
    return Held(
        sets.joined([read.keys, keys], "S32"),
        sets.joined([read.prints, prints], "S32"),
        sets.joined([read.ids, rest], "u8"),
    )


def _held(table: pa.Table) -> Held:
    return Held(columns.digests(table, "key"), columns.digests(table, "fingerprint"), _column(table, "_rowid"))


def taken(place: Place, version: str | int, wanted: Array, names: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
    """Rows of a version by their ids, in that order."""
    opened = _open(place, version) if len(wanted) else None
    for start in range(0, len(wanted), BATCH_ROWS):
        yield from _at(opened, wanted[start : start + BATCH_ROWS], list(names)).to_batches()


def keep(place: Place, number: int, found: Iterable[pa.RecordBatch], kind: pa.Schema) -> None:
    """Write the findings of a version beside its pool, over those of a commit that died."""
    import lance
    import pyarrow as pa

    uri = place.findings(number)
    with _told(place):
        lance.write_dataset(
            pa.RecordBatchReader.from_batches(kind, iter(found)), uri, schema=kind, data_storage_version=FORMAT,
            mode="overwrite" if _beside(place, number) else "create", storage_options=dict(place.options),
        )  # fmt: skip
        if place.folder is not None:
            durable.sync_all(Path(uri), durable.files_in(Path(uri)))


def unkeep(place: Place, number: int) -> None:
    """Remove the findings of a version, and what lies of them on the disk."""
    import lance

    try:
        opened = lance.dataset(place.findings(number), storage_options=dict(place.options))
    except ValueError:
        return
    with _told(place):
        opened.delete("true")
        opened.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


def kept(place: Place, number: int, *, check: str, start: int, limit: int) -> list[dict[str, Any]]:
    """Some findings of a version, of one check or of all; none when nothing is kept."""
    opened = _beside(place, number)
    if opened is None:
        return []
    asked = f"check = '{_quoted(check)}'" if check else None
    found: list[dict[str, Any]] = opened.to_table(filter=asked, offset=start, limit=limit).to_pylist()
    return found


def forget(place: Place, number: int) -> None:
    """Remove the findings of a version."""
    import lance

    with suppress(ValueError, OSError):  # there are none, or they are gone already
        lance.LanceDataset.drop(place.findings(number), storage_options=dict(place.options))


def _beside(place: Place, number: int) -> Any:
    """The findings of a version; None when there are none."""
    import lance

    try:
        return lance.dataset(place.findings(number), storage_options=dict(place.options))
    except ValueError:
        return None


def _open(place: Place, version: str | int | None = None) -> Any:
    """The Lance dataset. Raises NotFound when the folder or the tag is not there."""
    import lance

    try:
        options = dict(place.options)
        return lance.dataset(place.uri, version=version, storage_options=options, session=_session.get())
    except ValueError as error:
        raise NotFound(
            f"no rows of dataset {place.pool}{f' at {version}' if version else ''}",
            where=place.uri,
            remedy="list what there is with `ciranda datasets show`; collected versions keep their entry, not their rows",
        ) from error


def _exists(place: Place) -> bool:
    if place.folder is not None:
        return place.folder.exists()
    try:
        _open(place)
    except NotFound:
        return False
    return True


def _at(opened: Any, wanted: Array, names: list[str]) -> Any:
    return opened._take_rows(wanted.tolist(), columns=names).combine_chunks()


def _ragged(opened: Any) -> bool:
    """Whether compacting pays: fragments of which half is gone, or many small ones."""
    small = 0
    for one in opened.get_fragments():
        rows = one.metadata.physical_rows
        gone = one.metadata.deletion_file.num_deleted_rows or 0 if one.metadata.deletion_file else 0
        if gone > GONE * rows:
            return True
        small += rows < FRAGMENT_ROWS / 10
    return small > MANY


def _column(table: Any, name: str) -> Array:
    import numpy as np

    return np.asarray(table.column(name).to_numpy())


@contextmanager
def _told(place: Place, writing: Writing | None = None) -> Iterator[None]:
    """Errors of the disk and of Lance as ours; one that our own rows raised stays what it was."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if writing is not None and writing.fault is not None:
            raise writing.fault from None
        raise durable.trouble(error, place) from error


def _files(place: Place) -> set[Path]:
    return durable.files_in(place.folder) if place.folder else set()


def _sync(place: Place, before: set[Path]) -> None:
    """Make durable every file of the pool that was not there before, and the small ones that Lance rewrites."""
    if place.folder is not None:  # an object store acknowledges what it has
        fresh = {file for file in _files(place) if file not in before or file.suffix == ".json"}
        durable.sync_all(place.folder, fresh)


def _quoted(value: str) -> str:
    return value.replace("'", "''")
