"""Rows on disk between two passes: a step that must see all rows before it can say which stay writes them here meanwhile.

One Arrow file in a folder of the job, compressed, read back in the same order; memory holds one batch. The folder goes away with
the job's work, and one that a killed job left is written over by the next attempt. Raises StorageFull when the disk is full.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ciranda.data import columns
from ciranda.data.rows import Row
from ciranda.errors import StorageFull


class Spool:
    """Rows that were written, to be read as often as wanted."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def write(self, parts: Iterable[Sequence[Row]]) -> Spool:
        """Write all of them; returns itself."""
        import pyarrow as pa

        options = pa.ipc.IpcWriteOptions(compression="lz4")
        try:
            with pa.ipc.new_stream(str(self.path), columns.schema(), options=options) as writer:
                for part in parts:
                    writer.write_batch(columns.batch_of(part))
                    self.count += len(part)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageFull(
                "no space left for rows between two steps",
                where=str(self.path),
                remedy="free some disk, then run it again",
            ) from error
        return self

    def read(self) -> Iterator[list[Row]]:
        """The rows again, part by part."""
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as source:
            for batch in pa.ipc.open_stream(source):
                yield list(columns.rows_of(batch))

    def remove(self) -> None:
        """Give the space back."""
        self.path.unlink(missing_ok=True)
