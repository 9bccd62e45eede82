"""A version as a set: keys and fingerprints in columns of 32 bytes, for any number of rows.

The digest is SHA-256 over the sorted fingerprints, so neither order nor chunks matter. Rows with one key are one row: the one whose
split is held out the most (a test stays a test), then the one with the smallest fingerprint, whichever came first.
10M rows need some 2 GB here: two columns of 320 MB and room to sort them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ciranda.data import columns
from ciranda.data.rows import Row

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

COUNTED = ("language", "split", "source")
HELD_OUT = {"test": 2, "validation": 1}
FEW_ALIKE = 20_000
HALVED = 4_000_000


def digest_of(rows: Iterable[Row]) -> str:
    """The digest of a set of rows; order and doubles do not count."""
    arrived = Arrived(joined([], "S32"))
    for batch in columns.batches_of(rows):
        arrived.take(batch)
    return digest(ordered(arrived.prints[~arrived.losers()]))


def digest(prints: Array) -> str:
    """The digest of fingerprints in order, each of which stands there once."""
    return f"sha256:{hashlib.sha256(prints.view('u1').data).hexdigest()}"


def ordered(values: Array) -> Array:
    """32-byte values in order."""
    return at(values, order_of(values))


def at(values: Array, places: Array) -> Array:
    """The 32-byte values at these places; numbers are moved some two times faster than bytes."""
    import numpy as np

    return np.take(values.view("u8").reshape(-1, 4), places, axis=0).view("S32").reshape(-1)


def within(values: Array, known: Array, heads: Array | None = None) -> Array:
    """Which values stand in `known`, which is in order; `heads` are the first bytes of that, for whoever asks again and again."""
    import numpy as np

    found = np.zeros(len(values), dtype=bool)
    if len(known):
        heads = _heads(known) if heads is None else heads
        places = np.searchsorted(heads, _heads(values))
        places[places == len(known)] = 0
        near = heads[places] == _heads(values)
        found[near] = known[places[near]] == values[near]
        unsure = np.flatnonzero(
            near & ~found
        )  # the same first eight bytes; one in 10^6 sets of 10M rows has such a pair
        at = np.searchsorted(known, values[unsure])
        at[at == len(known)] = 0
        found[unsure] = known[at] == values[unsure]
    return found


def digest_changed(known: Array, gone: Array, come: Array) -> str:
    """`digest` of values in order without those at the places `gone` (in order too) and with those in `come`.

    Nothing is put together for it: what lies between two changes is hashed where it lies.
    """
    import numpy as np

    fresh = ordered(come)
    cuts = np.concatenate([gone, np.searchsorted(known, fresh)])  # a row may go and another come at one place
    order = np.argsort(cuts, kind="stable")
    whole, last = hashlib.sha256(), 0
    values, added = known.view("u1"), fresh.view("u1")
    for cut, which in zip(cuts[order].tolist(), order.tolist(), strict=True):
        if cut > last:
            whole.update(values[32 * last : 32 * cut].data)
            last = cut
        if which < len(gone):
            last = cut + 1
        else:
            at = 32 * (which - len(gone))
            whole.update(added[at : at + 32].data)
    whole.update(values[32 * last :].data)
    return f"sha256:{whole.hexdigest()}"


def apart(these: Array, those: Array) -> Array:
    """Row ids that the others lack. They count up from zero, so mostly a table of marks is enough."""
    import numpy as np

    top = int(max(these.max(initial=0), those.max(initial=0))) + 1
    if top > 16 * (len(these) + len(those)) + (1 << 20):
        return np.setdiff1d(these, those, assume_unique=True)
    marked = np.zeros(top, dtype=bool)
    marked[those] = True
    return these[~marked[these]]


def of_hex(keys: Iterable[str]) -> Array:
    """Keys as 32 bytes each."""
    import numpy as np

    return np.array([bytes.fromhex(key) for key in keys], dtype="S32")


def joined(arrays: list[Array], kind: Any) -> Array:
    """Several columns as one."""
    import numpy as np

    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=kind)


def _drained(arrays: list[Array]) -> Array:
    """Several columns of 32 bytes as one; each is let go once it is there, so memory holds them once."""
    import numpy as np

    whole, at = np.empty(sum(map(len, arrays)), "S32"), 0
    for place, part in enumerate(arrays):
        whole[at : at + len(part)] = part
        at, arrays[place] = at + len(part), part[:0].copy()
    return whole


def _heads(values: Array) -> Array:
    """The first eight bytes as numbers of the same order, which sort ten times faster."""
    import numpy as np

    return np.ascontiguousarray(values).view(">u8").reshape(-1, 4)[:, 0].astype(np.uint64)


def order_of(values: Array) -> Array:
    """The places of 32-byte values in their order; equal ones side by side.

    They are sorted by how they begin; the few neighbours that begin alike are put in order afterwards.
    """
    import numpy as np

    order, begins = _by_halves(values) if len(values) <= HALVED else _packed(values)
    alike = np.flatnonzero(begins[1:] == begins[:-1])
    if len(alike) > FEW_ALIKE:
        return np.argsort(values, kind="stable")
    for start, end in _runs(alike):
        order[start : end + 2] = sorted(
            order[start : end + 2].tolist(), key=lambda place: (bytes(values[place]), place)
        )
    return order


def _by_halves(values: Array) -> tuple[Array, Array]:
    """The order of the first four bytes, and these in that order: two radix sorts of two bytes, a third of the time of the other
    way while the tables stay in the processor's cache (measured: up to some millions)."""
    import numpy as np

    begins = np.ascontiguousarray(values).view(">u4").reshape(-1, 8)[:, 0].astype("u4")
    order = np.argsort(begins.astype("u2"), kind="stable")
    order = order[np.argsort((begins >> np.uint32(16)).astype("u2")[order], kind="stable")]
    return order, begins[order]


def _packed(values: Array) -> tuple[Array, Array]:
    """The same by numbers whose high bits begin the values and whose low bits are their places: half the time of sorting places."""
    import numpy as np

    bits = np.uint64(max(len(values) - 1, 1).bit_length())
    packed = ((_heads(values) >> bits) << bits) | np.arange(len(values), dtype=np.uint64)
    packed.sort()
    order = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    packed >>= bits
    return order, packed


def _runs(alike: Array) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers that count up by one."""
    import numpy as np

    if len(alike):
        edges = np.flatnonzero(np.diff(alike) != 1)
        starts, ends = np.concatenate(([0], edges + 1)), np.concatenate((edges, [len(alike) - 1]))
        yield from zip(alike[starts].tolist(), alike[ends].tolist(), strict=True)


@dataclass(frozen=True)
class Held:
    """Columns of the rows of a version, in one order: keys and fingerprints (32 bytes each), row ids."""

    keys: Array
    prints: Array
    ids: Array

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def nothing(cls) -> Held:
        """What a dataset without a version holds."""
        import numpy as np

        return cls(np.empty(0, "S32"), np.empty(0, "S32"), np.empty(0, "u8"))

    def where(self, places: Array) -> Held:
        """Some of the rows."""
        return Held(self.keys[places], self.prints[places], self.ids[places])


def without(these: Held, others: Held) -> Held:
    """The rows whose fingerprints the others lack."""
    return these.where(~within(these.prints, ordered(others.prints)))


@dataclass
class Counts:
    """Rows per language, split and source."""

    table: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], sign: int = 1) -> Counts:
        """Count batches (or, with -1, what they take away)."""
        counts = cls()
        counts.take(batches, sign)
        return counts

    def take(self, batches: Iterable[pa.RecordBatch], sign: int = 1) -> None:
        """Count some more."""
        for batch in batches:
            self.add(batch, sign)

    def add(self, batch: Any, sign: int = 1) -> None:
        """Count a batch that has the three columns (or, with -1, take it away)."""
        import pyarrow as pa

        names = list(COUNTED)
        grouped = (
            pa.Table.from_batches([batch.select(names)]).group_by(names).aggregate([([], "count_all")]).to_pydict()
        )
        for *name, number in zip(*(grouped[one] for one in names), grouped["count_all"], strict=True):
            self.table[name[0], name[1], name[2]] += sign * number

    def to_dict(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As a version keeps it; `before` are the counts that these are a change of."""
        was = before or {}
        single = {name: Counter(was.get(name, {})) for name in ("split", "language", "source")}
        pairs = Counter({(a, b): n for a, row in was.get("language_split", {}).items() for b, n in row.items()})
        for (language, split, source), number in self.table.items():
            for name, value in (("split", split), ("language", language), ("source", source)):
                single[name][value] += number
            pairs[language, split] += number
        table: dict[str, dict[str, int]] = {}
        for (language, split), number in pairs.items():
            if number:
                table.setdefault(language, {})[split] = number
        return {
            **{name: {a: n for a, n in count.items() if n} for name, count in single.items()},
            "language_split": table,
        }


class Arrived:
    """The rows of a new version on their way in: which of them the version before has already, and which are new."""

    def __init__(self, known: Array) -> None:
        """`known`: the sorted fingerprints of the version before."""
        self._known, self._heads = known, _heads(known)
        self._keys: list[Array] = []
        self._prints: list[Array] = []
        self._fresh: list[Array] = []
        self._weights: list[Array] = []
        self.counts = Counts()

    def fresh(self, rows: columns.Rows) -> Iterator[pa.RecordBatch]:
        """Take all rows in; yields those that are new, to be written."""
        import pyarrow as pa

        for batch in columns.batches_of(rows):
            new = self.take(batch)
            if new.all():
                yield batch
            elif new.any():
                yield batch.filter(pa.array(new))

    def take(self, batch: pa.RecordBatch) -> Array:
        """Note a batch; returns which of its rows are new."""
        import numpy as np

        prints = columns.digests(batch, "fingerprint")
        new = ~within(prints, self._known, self._heads)
        self._keys.append(columns.digests(batch, "key"))
        self._prints.append(prints.copy())
        self._fresh.append(new)
        split = batch.column("split").to_pylist()
        self._weights.append(np.array([HELD_OUT.get(one, 0) for one in split], dtype=np.int8))
        self.counts.add(batch)
        return new

    def __len__(self) -> int:
        return sum(map(len, self._prints))

    @property
    def prints(self) -> Array:
        """Fingerprints of all rows, in the order of their coming."""
        if len(self._prints) > 1:
            self._prints = [_drained(self._prints)]
        return joined(self._prints, "S32")

    @property
    def keys(self) -> Array:
        """Keys of all rows."""
        if len(self._keys) > 1:
            self._keys = [_drained(self._keys)]
        return joined(self._keys, "S32")

    def drop_keys(self) -> None:
        """Forget the keys, which are needed no more: 320 MB of 10M rows."""
        self._keys = []

    @property
    def is_fresh(self) -> Array:
        """Which of all rows are new."""
        return joined(self._fresh, bool)

    def losers(self) -> Array:
        """Rows that are not the one that stands for their key."""
        import numpy as np

        keys = self.keys
        lost = np.zeros(len(keys), dtype=bool)
        order = order_of(keys)
        same = keys[order[1:]] == keys[order[:-1]]
        if not same.any():
            return lost
        shared = np.zeros(len(keys), dtype=bool)
        shared[order[1:][same]] = shared[order[:-1][same]] = True
        places = np.flatnonzero(shared)
        weights, prints = joined(self._weights, np.int8)[places], self.prints[places]
        ranked = places[np.lexsort((places, prints, -weights, keys[places]))]
        lost[ranked[1:][keys[ranked[1:]] == keys[ranked[:-1]]]] = True
        return lost
