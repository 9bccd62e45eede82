"""Files of a pool on the disk: which there are, made durable, and what went wrong when they could not be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ciranda.data.place import Place
from ciranda.errors import Conflict, Failed, StorageFull
from ciranda.store.files import sync_folder

AT_ONCE = 8


def files_in(folder: Path) -> set[Path]:
    """Every file below a folder; none when it is not there."""
    return {file for file in folder.rglob("*") if file.is_file()} if folder.exists() else set()


def sync_all(path: Path, fresh: Set[Path]) -> None:
    """Make files below a folder durable, and the folders that name them. Several at once: a disk takes them together."""
    above = {path.parent, path, *(parent for file in fresh for parent in file.parents if path in parent.parents)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(_sync, fresh))
        list(pool.map(sync_folder, above))


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trouble(error: Exception, place: Place) -> StorageFull | Conflict | Failed:
    """An error of Lance or the disk as ours."""
    told = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in told or "InsufficientStorage" in told:
        return StorageFull(
            "no space left for the rows of the new version",
            where=place.uri,
            remedy="free disk space (`ciranda datasets gc` says what would go), then run it again",
        )
    if "commit conflict" in told or "concurrent transaction" in told:
        return crossed(place)
    return Failed(
        f"writing the rows failed: {told[:300]}", where=place.uri, remedy="the versions before are untouched; retry"
    )


def crossed(place: Place) -> Conflict:
    """Another machine wrote to the same pool meanwhile; on one machine there is a lock."""
    return Conflict(
        f"somebody else wrote to {place.pool} at the same time",
        where=place.uri,
        remedy="build the rows on the newest version and commit again",
    )
