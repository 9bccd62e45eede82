"""One change of a pool, on top of a version of it: rows that went are marked deleted, rows that came are appended, in one step.

Lance does not sync its files (measured), so whoever registers the version does first, with what `done` names. Fragments are
compacted when half of their rows are gone, or when MANY small ones lie about, so that it costs no more than the changes did.
Each step must be the very next version of the pool: of several machines with one pool the slower one is told so (Conflict).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.data import durable, fragments, sets, shelf, stored
from ciranda.data.columns import BATCH_ROWS
from ciranda.data.ledger import FORMAT
from ciranda.data.place import Place
from ciranda.errors import CirandaError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

FRAGMENT_ROWS = 1 << 20
MANY = 32  # fragments of less than a tenth of FRAGMENT_ROWS, before they are put together
HINT = "latest_version_hint.json"  # which Lance writes anew each time
GONE = 0.5  # share of deleted rows from which a fragment is written anew


class Writing:
    """Rows are appended, then the change is made, then it is done; nothing counts before it is tagged."""

    def __init__(self, place: Place, base: int | None) -> None:
        self._place = place
        self._before = durable.files_in(place.folder) if place.folder else set()
        self._fresh: list[Any] = []  # fragments that no version has yet
        self._known: set[int] = set()
        self._fault: CirandaError | None = None
        self._opened = self._begin(base)

    def _begin(self, base: int | None) -> Any:
        """The version to build on, made the newest of the pool when something unfinished lies above it."""
        if base is None:
            return None
        opened = shelf.open_at(self._place, base)
        if (latest := opened.latest_version) != base:
            with shelf.told(self._place):
                opened.restore()
            self._next(opened, latest)
        self._known = {one.fragment_id for one in opened.get_fragments()}
        return opened

    def append(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write sealed batches as they come."""
        import lance
        import pyarrow as pa

        kind, options = stored.schema(), dict(self._place.options)
        reader = pa.RecordBatchReader.from_batches(kind, stored.packed(self._pulled(batches)))
        with self._told():
            if self._opened is not None:
                self._fresh = lance.fragment.write_fragments(
                    reader, self._opened, kind, mode="append", data_storage_version=FORMAT,
                    max_rows_per_file=FRAGMENT_ROWS, storage_options=options,
                )  # fmt: skip
                return
            self._opened = lance.write_dataset(
                reader, self._place.uri, schema=kind, mode="overwrite" if shelf.exists(self._place) else "create",
                data_storage_version=FORMAT, enable_stable_row_ids=True, max_rows_per_file=FRAGMENT_ROWS,
                storage_options=options,
            )  # fmt: skip

    def drop(self) -> None:
        """Take back what was appended to a version and is in none yet; in a bucket the next sweep removes its files."""
        if self._place.folder is not None:
            for one in self._fresh:
                for file in one.files:
                    (self._place.folder / "data" / file.path).unlink(missing_ok=True)
        self._fresh = []

    def change(self, gone: Array, lost: Array | None = None) -> Array:
        """Make it a version of the pool: without the rows whose ids are `gone`, with what was appended; returns the ids of that.

        `lost`: which of the appended rows are deleted again, in the order in which they came.
        """
        if self._fresh or len(gone):
            self._commit(gone, self._fresh)
        fresh = [fragments.ids(one) for one in self._opened.get_fragments() if one.fragment_id not in self._known]
        ids = sets.joined(fresh, "u8")
        if lost is not None and lost.any():
            self._commit(ids[lost], [])
        return ids

    def _commit(self, gone: Array, fresh: list[Any]) -> None:
        import lance

        with self._told():
            cut, empty = fragments.without(self._opened, gone)
            change = lance.LanceOperation.Update(removed_fragment_ids=empty, updated_fragments=cut, new_fragments=fresh)
            before = int(self._opened.version)
            made = lance.LanceDataset.commit(
                self._opened, change, read_version=before, storage_options=dict(self._place.options)
            )
        self._next(made, before)
        self._opened, self._fresh = made, []

    def done(self) -> tuple[int, set[Path]]:
        """Put fragments in order where that pays; returns the version of the pool, to be tagged, and the files that are not yet
        durable."""
        with self._told():
            if _ragged(self._opened):
                self._opened.optimize.compact_files(
                    target_rows_per_fragment=FRAGMENT_ROWS, materialize_deletions=True,
                    materialize_deletions_threshold=GONE, num_threads=1,
                )  # fmt: skip
        found = durable.files_in(self._place.folder) if self._place.folder else set()  # an object store acknowledges
        return int(self._opened.version), {file for file in found if file not in self._before or file.name == HINT}

    @property
    def version(self) -> int:
        """The version of the pool as it is by now."""
        return int(self._opened.version)

    def scan(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of the rows as they are by now."""
        yield from self._opened.to_batches(columns=list(names), batch_size=BATCH_ROWS)

    def _pulled(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What Lance pulls; an error on the way is remembered, since Lance would make words of it."""
        try:
            yield from batches
        except CirandaError as error:
            self._fault = error
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors as ours; one that our own rows raised stays what it was."""
        try:
            with shelf.told(self._place):
                yield
        except CirandaError:
            if self._fault is not None:
                raise self._fault from None
            raise

    def _next(self, opened: Any, before: int) -> None:
        """Each step must be the very next version of the pool; otherwise somebody else wrote in between."""
        if opened.version != before + 1:
            raise durable.crossed(self._place)


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
