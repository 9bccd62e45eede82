"""What lies in a pool: rows in Lance, one tag per dataset version. Only this file, `writing` and `fragments` name Lance.

A new version is written as what changed against an older one: rows that went are marked deleted, rows that came are appended, so
a version costs the disk what changed. Lance never overwrites a file, so a crash leaves at worst some files that no tag refers
to; the next write starts from the tagged version it was told, not from the newest one in the folder, and `sweep` removes the rest.
Rows have an id that is never used twice in a pool and survives compaction. Rows are looked up by it; looking up by their position
among those that are left would be some hundred times slower once rows are deleted (measured), so nothing here does.
It refuses a second writer: `alone` holds a lock beside the pool on this machine.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data import columns, durable, fragments, stored
from ciranda.data.columns import BATCH_ROWS, COLUMNS, batches_of, rows_of
from ciranda.data.ledger import FORMAT
from ciranda.data.place import Place
from ciranda.data.sets import Held
from ciranda.errors import NotFound

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

__all__ = [
    "COLUMNS", "FORMAT", "Held", "alone", "batches", "batches_of", "held", "named", "rows_of", "sweep", "tag", "taken", "untag",
]  # fmt: skip

SESSION_BYTES = 256 << 20  # each of Lance's two caches, at most
DIGESTS = 1 << 16  # that are read at once
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


def tag(place: Place, number: int, version: int, *, fresh: Set[Path] = frozenset()) -> None:
    """Name a version of the pool, which also keeps it from ever being swept, and make its `fresh` files durable with its name."""
    tags, name = open_at(place, version).tags, place.tag(number)
    with told(place):
        try:
            tags.create(name, version)
        except ValueError:
            tags.update(name, version)  # it is there: of a commit that died before it was registered
        if place.folder is not None:
            names = durable.files_in(place.folder / "_refs")
            durable.sync_all(place.folder, {file for file in names if file.stem == name} | fresh)


def untag(place: Place, number: int) -> bool:
    """Take a version's name away, so that the next sweep removes what only it held; False when it had none."""
    tags = open_at(place).tags if exists(place) else None
    if tags is None or place.tag(number) not in tags.list():
        return False
    with told(place):
        tags.delete(place.tag(number))
    return True


def sweep(place: Place) -> int:
    """Remove every file of the pool that no tag refers to; returns how many bytes that were. Only while `alone`."""
    if not exists(place):
        return 0
    opened = open_at(place)
    tagged = {int(one["version"]) for one in opened.tags.list().values()}
    with told(place):
        if tagged and opened.version not in tagged:
            open_at(place, max(tagged)).restore()  # the newest version is never removed, so it must be one that counts
        swept = open_at(place).cleanup_old_versions(
            older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
        )
    return int(swept.bytes_removed)


def batches(
    place: Place, version: str | int, *, columns: Sequence[str] = COLUMNS, where: Mapping[str, str | None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Arrow batches of a version (a tag, or a number of the pool), only the rows whose columns equal `where` (None: all)."""
    conditions = [stored.condition(name, value) for name, value in (where or {}).items() if value]
    opened = open_at(place, version)
    found = opened.to_batches(
        columns=list(columns), filter=" AND ".join(conditions) or None, batch_size=BATCH_ROWS, scan_in_order=True
    )
    yield from stored.spelt(found)


def files(place: Place, version: str | int) -> dict[str, int]:
    """The files that hold a version's rows and the marks of those that are deleted, with their bytes."""
    return fragments.files(open_at(place, version), place.folder)


def differing(place: Place, one: str | int, other: str | int) -> tuple[Array, Array]:
    """The ids of the rows that only `one` of two versions of a pool has, and of those that only the `other` has."""
    return fragments.differing(open_at(place, one), open_at(place, other))


def held(place: Place, version: str | int) -> Held:
    """Keys, fingerprints and ids of a version's rows."""
    found = open_at(place, version)
    keys, ids = _all_of(found, "key")
    return Held(keys, _all_of(found, "fingerprint")[0], ids)


def named(place: Place, version: str | int, name: str, only: Array | None = None) -> tuple[Array, Array]:
    """One of the two digests (`key` or `fingerprint`) of a version's rows and their ids; of those with the ids `only`, in that
    order, when given."""
    found = open_at(place, version)
    if only is None:
        return _all_of(found, name)
    return (_looked_up(found, name, only) if len(only) <= FEW else _picked(*_all_of(found, name), only)), only


def _all_of(found: Any, name: str, fragments: list[Any] | None = None) -> tuple[Array, Array]:
    """The digests and ids of all rows, batch by batch into the arrays that hold them, which takes the memory of them once."""
    import numpy as np

    parts = found.get_fragments() if fragments is None else fragments
    rows = sum(one.count_rows() for one in parts)
    values, ids, at = np.empty(rows, "S32"), np.empty(rows, "u8"), 0
    if rows:
        scanner = found.scanner(
            columns=[name], with_row_id=True, scan_in_order=True, fragments=parts, batch_size=DIGESTS
        )
        for batch in scanner.to_batches():
            end = at + len(batch)
            values[at:end], ids[at:end] = columns.digests(batch, name), batch.column("_rowid").to_numpy()
            at = end
    return values, ids


def _looked_up(found: Any, name: str, only: Array) -> Array:
    """Of a few rows: fragments that are as small are read whole, since a look by id first learns where all ids lie."""
    import numpy as np

    small = [one for one in found.get_fragments() if one.metadata.physical_rows <= 2 * len(only)]
    values, there = np.empty(len(only), "S32"), np.zeros(len(only), dtype=bool)
    if small:
        read, ids = _all_of(found, name, small)
        there = np.isin(only, ids)
        values[there] = _picked(read, ids, only[there])
    if not there.all():
        values[~there] = columns.digests(_at(found, only[~there], [name]), name)
    return values


def _picked(values: Array, ids: Array, only: Array) -> Array:
    """The digests of the rows with these ids, all of which are there."""
    import numpy as np

    order = np.argsort(ids, kind="stable")
    return values[order[np.searchsorted(ids, only, sorter=order)]]


def taken(place: Place, version: str | int, wanted: Array, names: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
    """Rows of a version by their ids, in that order."""
    opened = open_at(place, version) if len(wanted) else None
    for start in range(0, len(wanted), BATCH_ROWS):
        yield from stored.spelt(_at(opened, wanted[start : start + BATCH_ROWS], list(names)).to_batches())


def keep(place: Place, number: int, found: Iterable[pa.RecordBatch], kind: pa.Schema) -> None:
    """Write the findings of a version beside its pool, over those of a commit that died."""
    import lance
    import pyarrow as pa

    uri = place.findings(number)
    with told(place):
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
    with told(place):
        opened.delete("true")
        opened.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


def kept(place: Place, number: int, *, check: str, start: int, limit: int) -> list[dict[str, Any]]:
    """Some findings of a version, of one check or of all; none when nothing is kept."""
    opened = _beside(place, number)
    if opened is None:
        return []
    asked = stored.condition("check", check) if check else None
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


def open_at(place: Place, version: str | int | None = None) -> Any:
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


def exists(place: Place) -> bool:
    if place.folder is not None:
        return place.folder.exists()
    try:
        open_at(place)
    except NotFound:
        return False
    return True


def _at(opened: Any, wanted: Array, names: list[str]) -> Any:
    return opened._take_rows(wanted.tolist(), columns=names).combine_chunks()


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Errors of the disk and of Lance as ours."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise durable.trouble(error, place) from error
