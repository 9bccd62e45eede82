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

from ciranda.data.rows import Message, Row, compact
from ciranda.errors import Failed, NotFound, StorageFull
from ciranda.store.files import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "2.2"  # older ones do not compress text well
BATCH_ROWS = 8192
DELETE_KEYS = 2000  # keys per delete predicate; the planner slows down on longer lists
COLUMNS = (
    "key",
    "messages",
    "prompt",
    "completion",
    "language",
    "group",
    "split",
    "source",
    "origin",
    "subject",
    "thumb",
    "rejected",
    "tags",
    "extra",
    "fingerprint",
)
PLAIN = ("language", "group", "split", "source", "origin", "subject", "thumb", "rejected")


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


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch that has all columns."""
    import json

    for record in batch.to_pylist():
        messages = tuple(Message(item["role"], item["content"]) for item in json.loads(record["messages"]))
        rest = {name: record[name] for name in PLAIN}
        tags, extra = tuple(json.loads(record["tags"])), json.loads(record["extra"])
        yield Row(messages, record["completion"], tags=tags, extra=extra, **rest)


def batches_of(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Rows as batches in the stored schema; the reverse of `rows_of`."""
    yield from _reader(rows)


def _create(path: Path, rows: Iterable[Row]) -> int:
    """The first Lance version; the remains of a first commit that died are written over."""
    import lance

    mode = "overwrite" if path.exists() else "create"
    opened = lance.write_dataset(
        _reader(rows), str(path), schema=_schema(), mode=mode, data_storage_version=FORMAT, enable_stable_row_ids=True
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
        opened = lance.write_dataset(_reader(come), str(path), schema=_schema(), mode="append")
    return int(opened.version)


def _prints(found: Iterable[pa.RecordBatch]) -> dict[str, str]:
    prints: dict[str, str] = {}
    for batch in found:
        prints.update(zip(batch.column("key").to_pylist(), batch.column("fingerprint").to_pylist(), strict=True))
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


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.int8() if name == "thumb" else pa.string()) for name in COLUMNS])


def _reader(rows: Iterable[Row]) -> pa.RecordBatchReader:
    """The rows as Arrow, a batch at a time, so that memory does not grow with the dataset."""
    import pyarrow as pa

    def chunks() -> Iterator[pa.RecordBatch]:
        waiting: list[dict[str, Any]] = []
        for row in rows:
            waiting.append(_record(row))
            if len(waiting) == BATCH_ROWS:
                yield pa.RecordBatch.from_pylist(waiting, schema=_schema())
                waiting.clear()
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=_schema())

    return pa.RecordBatchReader.from_batches(_schema(), chunks())


def _record(row: Row) -> dict[str, Any]:
    texts = {"messages": compact([message.to_dict() for message in row.messages])}
    texts |= {"tags": compact(row.tags), "extra": compact(dict(row.extra))}
    return {**{name: getattr(row, name) for name in COLUMNS if name not in texts}, **texts}


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
