"""Where batches wait between the checks of each row and the checks among all rows: in memory when they are few, else in files.

A staging folder belongs to the process that holds a lock in it; `folder_in` removes those whose owner died. One Arrow file per
batch, written by whichever worker looked at it, read by memory map, so that waiting rows cost page cache and not memory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.errors import StorageFull

if TYPE_CHECKING:
    import pyarrow as pa

    from ciranda.data.checks.check import Array


@contextmanager
def folder_in(parent: Path) -> Iterator[Path]:
    """A folder for this process, gone afterwards; folders of processes that died are removed first."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in parent.glob("staging-*"):
        _remove_if_dead(left)
    folder = parent / f"staging-{os.getpid()}-{os.urandom(4).hex()}"
    made = folder.with_name(f".{folder.name}")
    made.mkdir(mode=0o700)
    lock = os.open(made / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(folder)  # locked before others see it, so nobody takes it for a dead one's
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return  # just being removed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # its owner lives
    finally:
        os.close(lock)


def put(path: Path, batch: pa.RecordBatch) -> None:
    """Write one batch. Raises StorageFull."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StorageFull(
            "no space left for the rows on their way through the checks",
            where=str(path.parent),
            remedy="free disk space (the rows need it twice for a while), then run it again",
        ) from error


class Stage:
    """The batches that wait, in order, and which of their rows are still wanted."""

    def __init__(self) -> None:
        self._parts: list[pa.RecordBatch | Path] = []
        self._sizes: list[int] = []
        self._alive: Array | None = None

    def add(self, part: pa.RecordBatch | Path, size: int) -> None:
        """The next batch, in memory or in a file."""
        self._parts.append(part)
        self._sizes.append(size)

    def __len__(self) -> int:
        """Rows that are still wanted."""
        return sum(self._sizes) if self._alive is None else int(self._alive.sum())

    @property
    def alive(self) -> Array:
        """Which rows are still wanted, by their place among all that were staged."""
        import numpy as np

        if self._alive is None:
            self._alive = np.ones(sum(self._sizes), dtype=bool)
        return self._alive

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The wanted rows, batch by batch; may be asked for again."""
        import pyarrow as pa

        start = 0
        for part, size in zip(self._parts, self._sizes, strict=True):
            keep = self.alive[start : start + size]
            start += size
            if keep.all() and size:
                yield loaded(part)
            elif keep.any():
                yield loaded(part).filter(pa.array(keep))

    def take(self, places: Sequence[int], names: Sequence[str]) -> list[list[Any]]:
        """Some columns of the rows at these places (among all that were staged), in this order."""
        import numpy as np
        import pyarrow as pa

        wanted, back = np.unique(np.asarray(places, dtype=np.int64), return_inverse=True)
        starts = np.cumsum([0, *self._sizes])
        edges, found = np.searchsorted(wanted, starts), list[Any]()
        for part, start, first, last in zip(self._parts, starts, edges, edges[1:], strict=False):
            if last > first:
                found.append(loaded(part).select(list(names)).take(wanted[first:last] - start))
        if not found:
            return [[] for _ in names]
        table = pa.Table.from_batches(found).take(back)
        return [table.column(name).to_pylist() for name in names]


def loaded(part: pa.RecordBatch | Path) -> pa.RecordBatch:
    """A batch in memory, or mapped from its file."""
    import pyarrow as pa

    if not isinstance(part, Path):
        return part
    with pa.memory_map(str(part)) as file:
        return pa.ipc.open_file(file).get_batch(0)
