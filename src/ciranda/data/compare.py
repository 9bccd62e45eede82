"""What changed from one version to another: rows that came, went or have other facts, and how the whole of them moved.

Versions of one pool share rows by their ids, so only ids that one of the two lacks are looked at; other versions are compared by
all keys and fingerprints. Rows themselves are read only as far as somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ciranda.config import Home
from ciranda.data import abreast, columns, place, sets, shelf
from ciranda.data.place import Place
from ciranda.data.rows import Row

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Diff:
    """What leads from one version to another: rows that came, rows that went, rows whose split or other facts changed.

    `counts` are of all, also when only the first rows of each kind were asked for.
    """

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[tuple[Row, Row], ...]
    counts: tuple[int, int, int] | None = None

    def apply(self, rows: Iterable[Row]) -> list[Row]:
        """`rows` of the first version become those of the second."""
        gone = {row.key for row in self.removed} | {old.key for old, _ in self.changed}
        return [*(row for row in rows if row.key not in gone), *self.added, *(new for _, new in self.changed)]

    def summary(self) -> dict[str, int]:
        """The three counts."""
        counts = self.counts or (len(self.added), len(self.removed), len(self.changed))
        return dict(zip(("added", "removed", "changed"), counts, strict=True))


@dataclass(frozen=True)
class Difference:
    """The ids of rows that differ, by key: in the later version, in the earlier one, and pairs of both."""

    added: Array
    removed: Array
    was: Array
    now: Array
    before: tuple[Place, int]
    after: tuple[Place, int]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Added, removed, changed."""
        return len(self.added), len(self.removed), len(self.now)

    def rows(self, kind: str) -> Iterator[Row]:
        """The rows of a kind: `added`, `removed`, `was` or `now` (of the changed ones)."""
        where, number = self.after if kind in ("added", "now") else self.before
        for batch in shelf.taken(where, where.tag(number), getattr(self, kind)):
            yield from columns.rows_of(batch)


def diff(home: Home, before: str, after: str, *, most: int | None = None) -> Diff:
    """What changed from one version to another, with the rows themselves; at most `most` of each kind."""
    with shelf.together():
        found = difference(home, before, after)
        kinds = ("added", "removed", "was", "now")
        added, removed, was, now = (tuple(islice(found.rows(kind), most)) for kind in kinds)
    return Diff(added, removed, tuple(zip(was, now, strict=True)), found.counts)


def difference(home: Home, before: str, after: str) -> Difference:
    """Which rows differ between two versions, without reading them. Raises NotFound, Invalid."""
    first, second = _named(home, before), _named(home, after)
    with shelf.together():
        was, now = _differing(first, second)
        old, new = sets.within(was.keys, now.keys), sets.within(now.keys, was.keys)
        stayed, ids = was.ids[old], now.ids[new]  # of the same keys, in the same order
        changed = _prints(first, stayed) != _prints(second, ids)
    return Difference(now.ids[~new], was.ids[~old], stayed[changed], ids[changed], first, second)


def _named(home: Home, ref: str) -> tuple[Place, int]:
    name, number = place.parse_ref(ref)
    return place.of(home, name), number


def _differing(first: tuple[Place, int], second: tuple[Place, int]) -> tuple[_Keyed, _Keyed]:
    """The rows that may differ."""
    (here, number), (there, other) = first, second
    gone, come = shelf.differing(here, here.tag(number), there.tag(other)) if here.uri == there.uri else (None, None)
    was, now = abreast.at_once(lambda: _Keyed.of(*first, gone), lambda: _Keyed.of(*second, come))
    return was, now


@dataclass(frozen=True)
class _Keyed:
    """Rows of a version by their keys, in order."""

    keys: Array
    ids: Array

    @classmethod
    def of(cls, where: Place, number: int, only: Array | None) -> _Keyed:
        keys, ids = shelf.named(where, where.tag(number), "key", only)
        order = sets.order_of(keys)
        return cls(sets.at(keys, order), ids[order])


def _prints(where: tuple[Place, int], ids: Array) -> Array:
    if not len(ids):
        return sets.joined([], "S32")
    return shelf.named(where[0], where[0].tag(where[1]), "fingerprint", ids)[0]
