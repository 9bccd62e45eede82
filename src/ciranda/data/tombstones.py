"""Who was erased stays out: rows of a forgotten person do not come back with the next reading of a file or of an address.

Nobody's name is kept for that. An erasure's `mark` is a keyed hash, and a row is left out when the hash of its subject is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import columns
from ciranda.data.rows import Row
from ciranda.govern import erasures
from ciranda.govern.erasures import mark_of
from ciranda.store.database import Database

if TYPE_CHECKING:
    import pyarrow as pa


def without(db: Database, home: Home, rows: columns.Rows) -> columns.Rows:
    """The rows of people who were not erased, in the form in which they came; where nobody was, untouched."""
    with db.reading() as conn:
        marks = frozenset(conn.execute(sa.select(erasures.erasures.c.mark)).scalars())
    if not marks:
        return rows
    known = _Known(home, marks)
    if isinstance(rows, columns.Sealed):
        return columns.Sealed(known.batches(rows.batches))
    return known.either(rows)


class _Known:
    """Subjects, each looked at once."""

    def __init__(self, home: Home, marks: frozenset[str]) -> None:
        self._home, self._marks, self._erased = home, marks, {"": False}

    def __call__(self, subject: str) -> bool:
        """Whether this person was erased."""
        if subject not in self._erased:
            self._erased[subject] = mark_of(self._home, subject) in self._marks
        return self._erased[subject]

    def either(self, rows: Iterable[Row] | Iterable[pa.RecordBatch]) -> Iterator[Row] | Iterator[pa.RecordBatch]:
        for one in rows:
            if isinstance(one, Row):
                if not self(one.subject):
                    yield one
            else:
                yield from self.batches([one])

    def batches(self, found: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in found:
            if "subject" not in batch.schema.names:
                yield batch
                continue
            stay = [not self(subject or "") for subject in batch.column("subject").to_pylist()]
            yield batch if all(stay) else batch.filter(pa.array(stay, type=pa.bool_()))
