"""What the next version of a dataset takes over from the one before: its rows as they lie, streamed.

Policies hide fields from those who read rows; a version that follows another in the same dataset hides nothing by that, since the
same policies bind it. So this is for rows that go back into the dataset they came from, and for nothing else: whoever makes another
dataset of them, shows them or sends them away reads through `reading`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ciranda.config import Home
from ciranda.data import shelf, versions
from ciranda.data.checks.check import Bounds, Part
from ciranda.data.checks.spread import features, profile_of
from ciranda.data.rows import Row
from ciranda.data.shift import Profile

SAMPLED = 100_000


def inherited(home: Home, ref: str, *, key: str | None = None) -> Iterator[Row]:
    """The rows of a version (or the one of that key), for the next version of the same dataset. Raises NotFound."""
    return (row for batch in versions.batches(home, ref, key=key) for row in shelf.rows_of(batch))


def profile(home: Home, ref: str, *, rows: int) -> Profile:
    """What a version's rows are like, for the next version to be compared with: figures, none of its texts.

    Args:
        rows: How many it has. Of more than SAMPLED only those with the smallest keys are looked at, which is any sample.

    Raises NotFound.
    """
    import pyarrow.compute as pc

    bound = f"{min(int(SAMPLED / max(rows, 1) * 16**8), 16**8 - 1):08x}"
    taken = []
    for batch in versions.batches(home, ref, columns=("key", "prompt", "completion", "language")):
        chosen = batch if rows <= SAMPLED else batch.filter(pc.less_equal(batch.column("key"), bound))
        taken.append(features(Part(chosen), Bounds()))
    return profile_of({name: np.concatenate([one[name] for one in taken]) for name in taken[0]})
