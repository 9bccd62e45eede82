"""What the next version of a dataset takes over from the one before: its rows as they lie, streamed.

Policies hide fields from those who read rows; a version that follows another in the same dataset hides nothing by that, since the
same policies bind it. So this is for rows that go back into the dataset they came from, and for nothing else: whoever makes another
dataset of them, shows them or sends them away reads through `reading`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ciranda.config import Home
from ciranda.data import shelf, versions
from ciranda.data.rows import Row


def inherited(home: Home, ref: str) -> Iterator[Row]:
    """The rows of a version, for the next version of the same dataset. Raises NotFound."""
    return (row for batch in versions.batches(home, ref) for row in shelf.rows_of(batch))
