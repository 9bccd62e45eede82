"""Where the rows of a dataset lie: one Lance folder per dataset, one Lance tag (`v2`) per version. The only file that names Lance.

A new version is written as what changed against an older one: rows that went are marked deleted, rows that came are appended, so
a version costs the disk what changed. Lance never overwrites a file, so a crash leaves at worst some files that no tag refers
to; the next write starts from the tagged version it was told, not from the newest one in the folder.
Lance does not sync its files (measured), so `store` does, before anybody is told of the version.
It refuses a second writer: `alone` holds a lock beside the folder. Several machines on one folder are the database's to settle.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data.columns import BATCH_ROWS, COLUMNS, batches_of, rows_of, schema
from ciranda.data.rows import Row
from ciranda.errors import Failed, NotFound, StorageFull
from ciranda.store.files import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COLUMNS", "FORMAT", "alone", "batches", "batches_of", "held", "rows_of", "store", "tag"]

FORMAT = "2.2"  # older ones do not compress text well
DELETE_KEYS = 2000  # keys per delete predicate; the planner slows down on longer lists


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only writer of this dataset on this machine; waits for the one before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def store(path: Path, rows: Mapping[str, Row], *, base: int | None) -> int:
    """Write `rows` (by key) as the difference to the Lance version `base`; returns the new, synced Lance version.

    Raises StorageFull on a full disk, Failed on any other trouble; what was there before stays readable either way.
    """
    before = _files(path)
    try:
        version = _change(path, rows, base) if base is not None else _create(path, rows.values())
        _sync(path, before)
    except OSError as error:
        raise _trouble(error, path) from error
    return version


def tag(path: Path, number: int, version: int) -> None:
    """Name a Lance version `v<number>`, which also keeps it from ever being cleaned up."""
    before = _files(path)
    tags = _open(path).tags
    name = f"v{number}"
    try:
        if name in tags.list():
            tags.update(name, version)  # of a commit that died before it was registered
        else:
            tags.create(name, version)
        _sync(path, before)
    except OSError as error:
        raise _trouble(error, path) from error


def batches(
    path: Path, number: int, *, columns: Sequence[str] = COLUMNS, where: Mapping[str, str | None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Arrow batches of a tagged version, only the rows whose columns equal `where` (None matches all)."""
    conditions = [f"`{name}` = '{_quoted(value)}'" for name, value in (where or {}).items() if value]
    opened = _open(path, f"v{number}")
    yield from opened.to_batches(
        columns=list(columns), filter=" AND ".join(conditions) or None, batch_size=BATCH_ROWS, scan_in_order=True
    )


def held(path: Path, number: int) -> dict[str, str]:
    """Fingerprint of every row of a version, by its key."""
    return _prints(batches(path, number, columns=("key", "fingerprint")))


def _create(path: Path, rows: Iterable[Row]) -> int:
    """The first Lance version; the remains of a first commit that died are written over."""
    import lance

    mode = "overwrite" if path.exists() else "create"
    opened = lance.write_dataset(
        _reader(rows), str(path), schema=schema(), mode=mode, data_storage_version=FORMAT, enable_stable_row_ids=True
    )
    return int(opened.version)


def _change(path: Path, rows: Mapping[str, Row], base: int) -> int:
    """Restore `base` when something unfinished lies above it, delete what went, append what came."""
    import lance

    opened = lance.dataset(str(path), version=base)
    known = _prints(opened.to_batches(columns=["key", "fingerprint"], batch_size=BATCH_ROWS))
    gone = [key for key, fingerprint in known.items() if key not in rows or rows[key].fingerprint != fingerprint]
    come = [row for key, row in rows.items() if row.fingerprint != known.get(key)]
    if opened.latest_version != base:
        opened.restore()
    for start in range(0, len(gone), DELETE_KEYS):
        listed = ", ".join(f"'{key}'" for key in gone[start : start + DELETE_KEYS])
        opened.delete(f"key IN ({listed})")
    if come:
        opened = lance.write_dataset(_reader(come), str(path), schema=schema(), mode="append")
    return int(opened.version)


def _prints(found: Iterable[pa.RecordBatch]) -> dict[str, str]:
    prints: dict[str, str] = {}
    for batch in found:
        hexes = [digest.hex() for digest in batch.column("fingerprint").to_pylist()]
        prints.update(zip(batch.column("key").to_pylist(), hexes, strict=True))
    return prints


def _open(path: Path, version: str | None = None) -> Any:
    """The Lance dataset. Raises NotFound when the folder or the tag is not there."""
    import lance

    try:
        return lance.dataset(str(path), version=version)
    except ValueError as error:
        name = f"{path.stem}@{version[1:]}" if version else path.stem
        raise NotFound(
            f"no rows of dataset {name}", where=str(path), remedy="list what there is with `ciranda status`"
        ) from error


def _reader(rows: Iterable[Row]) -> pa.RecordBatchReader:
    """The rows as Arrow, a batch at a time, so that memory does not grow with the dataset."""
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(schema(), batches_of(rows))


def _files(path: Path) -> set[Path]:
    return {file for file in path.rglob("*") if file.is_file()} if path.exists() else set()


def _sync(path: Path, before: set[Path]) -> None:
    """Make durable every file that was not there before, the small ones that Lance rewrites, and their folders."""
    fresh = [file for file in _files(path) if file not in before or file.suffix == ".json"]
    for file in fresh:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder in {path.parent, path, *(parent for file in fresh for parent in file.parents if path in parent.parents)}:
        sync_folder(folder)


def _trouble(error: OSError, path: Path) -> StorageFull | Failed:
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return StorageFull(
            "no space left for the rows of the new version",
            where=str(path),
            remedy="free disk space, then run it again",
        )
    return Failed(
        f"writing the rows failed: {str(error)[:300]}",
        where=str(path),
        remedy="the versions before are untouched; retry",
    )


def _quoted(value: str) -> str:
    return value.replace("'", "''")
