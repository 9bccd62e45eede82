"""What one source brought, while the run lasts: few rows stay in memory, many go to a staging folder, batch by batch.

A record that comes twice counts as it came last; that costs its name in memory, so it is only asked for where records have
names. What all rows together are is told by a sum of their fingerprints, which is the same in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ciranda.data import columns
from ciranda.data.checks import stage
from ciranda.data.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

INLINE_ROWS = 20_000  # so many stay in memory
MODULUS = 1 << 256


class Heap:
    """Rows in the order in which they came.

    Args:
        folder: Where batches go that do not fit; None keeps all in memory.
        named: Whether origins name records, so that the last row of an origin counts.
    """

    def __init__(self, folder: Path | None = None, *, named: bool = False) -> None:
        self._folder, self._waiting, self._files = folder, list[Row](), list[Path]()
        self._last: dict[str, int] | None = {} if named else None
        self._count = self._sum = 0
        self.sources: set[str] = set()

    def add(self, row: Row) -> None:
        """One more row."""
        if self._last is not None:
            self._last[row.origin] = self._count
        self._count += 1
        self.sources.add(row.source)
        self._waiting.append(row)
        full = columns.BATCH_ROWS if self._files else INLINE_ROWS
        if self._folder is not None and len(self._waiting) >= full:
            self._spill(self._folder)

    def _spill(self, folder: Path) -> None:
        for start in range(0, len(self._waiting), columns.BATCH_ROWS):
            batch: pa.RecordBatch = columns.batch_of(self._waiting[start : start + columns.BATCH_ROWS])
            path = folder / f"{id(self):x}-{len(self._files)}.arrow"
            stage.put(path, batch)
            prints = batch.column("fingerprint").to_pylist()
            self._sum = (self._sum + sum(map(int.from_bytes, prints))) % MODULUS
            self._files.append(path)
        self._waiting.clear()

    def __len__(self) -> int:
        return self._count if self._last is None else len(self._last)

    def __iter__(self) -> Iterator[Row]:
        for place, row in enumerate(self._every()):
            if self._last is None or self._last[row.origin] == place:
                yield row

    def _every(self) -> Iterator[Row]:
        for path in self._files:
            yield from columns.rows_of(stage.loaded(path))
        yield from self._waiting

    @property
    def fingerprint(self) -> str:
        """What all of it is, whatever the order."""
        waiting = sum(int(row.fingerprint, 16) for row in self._waiting)
        return f"{(self._sum + waiting) % MODULUS:064x}"

    def __add__(self, rows: Iterable[Row]) -> Heap:
        """The same heap with these rows on it."""
        for row in rows:
            self.add(row)
        return self

    def has(self, origin: str) -> bool:
        """Whether a record of this name came; only where records have names."""
        return self._last is not None and origin in self._last
