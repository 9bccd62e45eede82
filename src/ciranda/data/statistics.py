"""What the fields of a version hold: rows, empties, distinct values, lengths, frequent values. Read once, batch by batch.

Memory does not grow with the rows: distinct values are estimated from the 2,048 smallest hashes (exact below that, within some 2 %
above), lengths are counted in a histogram, values in a bounded table that gives up where nearly each value is another.
A value is named only when at least `NAMED` rows have it and it is short, and never of `messages`, `origin` and `subject`, which are
words and names of people; so a figure here tells of nobody. Who may not see a field does not see its values here either: `hidden`.
The figures of a version never change, so they are counted once: control counts what is `missing`, the
newest first, and a restart goes on there.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import versions
from ciranda.data.fields import FIELDS
from ciranda.data.versions import dataset_versions
from ciranda.store import clock
from ciranda.store.database import Database, metadata

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

COLUMNS = (*FIELDS[:1], "prompt", *FIELDS[1:], "extra")
UNNAMED = frozenset({"messages", "origin", "subject"})
NAMED = 5  # rows that a value needs before it is named
LONGEST = 80  # characters of a value that is named
TOP = 12
SMALLEST = 2048  # hashes kept to estimate distinct values
TABLE = 4096  # values counted at most, after pruning
LENGTHS = 1 << 16  # lengths told apart; longer ones count as this
BINS = tuple(1 << n for n in range(17))  # upper bounds of the histogram that is kept: 1, 2, 4 … 65536 characters
MOST_EXTRA = 200  # further fields that are counted

dataset_statistics = sa.Table(
    "dataset_statistics",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("counted_at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Lengths:
    """Characters of the values that are not empty. `bins` counts them by BINS."""

    least: int
    p50: int
    p95: int
    most: int
    mean: float
    bins: tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """One field of a version. `top` is values with their rows, the most frequent first; `numbers` least, mean and most."""

    name: str
    rows: int
    empty: int
    distinct: int
    exact: bool
    lengths: Lengths | None = None
    top: tuple[tuple[str, int], ...] = ()
    numbers: tuple[float, float, float] | None = None
    hidden: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As it is stored, and as the REST API shows it."""
        return {**asdict(self), "top": [list(one) for one in self.top]}


def hidden(fields: Iterable[Field], names: Collection[str]) -> tuple[Field, ...]:
    """The same figures without any value of the fields that the reader may not see."""
    return tuple(replace(one, top=(), numbers=None, hidden=True) if one.name in names else one for one in fields)


def of(db: Database, ref: str) -> tuple[Field, ...] | None:
    """The figures of a version; None as long as they are not counted."""
    name, _, number = ref.rpartition("@")
    mine = (dataset_statistics.c.dataset == name) & (dataset_statistics.c.number == int(number))
    with db.reading() as conn:
        found = conn.execute(sa.select(dataset_statistics.c.fields).where(mine)).scalar()
    return None if found is None else tuple(_field(one) for one in found)


def tell(db: Database, home: Home, ref: str) -> tuple[Field, ...]:
    """Count the fields of a version and keep the figures, unless its rows were erased meanwhile. Raises NotFound."""
    before = versions.get(db, ref)
    found = count(versions.batches(home, ref, columns=COLUMNS))
    if versions.get(db, ref).digest == before.digest:
        keep(db, ref, before.rows, found)
    return found


def keep(db: Database, ref: str, rows: int, fields: Sequence[Field]) -> None:
    """Store the figures of a version; a second writer, who counted the same, changes nothing."""
    name, _, number = ref.rpartition("@")
    mine = (dataset_statistics.c.dataset == name) & (dataset_statistics.c.number == int(number))
    values = {"rows": rows, "fields": [one.to_dict() for one in fields], "counted_at": clock.iso()}
    with db.writing() as conn:
        if not conn.execute(dataset_statistics.update().where(mine).values(values)).rowcount:
            conn.execute(dataset_statistics.insert().values(dataset=name, number=int(number), **values))


def missing(db: Database) -> str | None:
    """The newest version whose figures are not counted; None when all are."""
    other = dataset_statistics
    same = (other.c.dataset == dataset_versions.c.dataset) & (other.c.number == dataset_versions.c.number)
    query = (
        sa.select(dataset_versions.c.dataset, dataset_versions.c.number)
        .outerjoin(other, same)
        .where(other.c.dataset.is_(None), dataset_versions.c.collected_at == "")
        .order_by(dataset_versions.c.created_at.desc())
        .limit(1)
    )
    with db.reading() as conn:
        found = conn.execute(query).first()
    return f"{found.dataset}@{found.number}" if found else None


def forget(conn: sa.Connection, dataset: str) -> None:
    """Drop the figures of all versions of a dataset, as when rows are erased from them; they are counted again."""
    conn.execute(dataset_statistics.delete().where(dataset_statistics.c.dataset == dataset))


def count(batches: Iterable[pa.RecordBatch]) -> tuple[Field, ...]:
    """The figures of all rows in batches that have COLUMNS."""
    fields: dict[str, _Counted] = {name: _Counted(name) for name in FIELDS}
    rows = 0
    for batch in batches:
        _batch(fields, batch, rows)
        rows += batch.num_rows
    for one in fields.values():
        one.rest(rows)
    return tuple(one.result() for one in fields.values())


def _batch(fields: dict[str, _Counted], batch: pa.RecordBatch, before: int) -> None:
    import pyarrow as pa

    for name in FIELDS:
        values, lengths = batch.column(name), None
        if name == "messages":
            lengths = batch.column("prompt")
        elif name == "thumb":
            values = values.cast(pa.string())
        elif name == "tags":
            values = _tags(values)
        fields[name].add(values, lengths)
    for name, given in _further(batch.column("extra")).items():
        counted = fields.get(f"extra.{name}")
        if counted is None:
            if len(fields) >= MOST_EXTRA + len(FIELDS):
                continue
            counted = fields[f"extra.{name}"] = _Counted(f"extra.{name}")
        counted.numeric(given)
        counted.add(pa.array(["" if value is None else str(value) for value in given], pa.string()), None)
        counted.rest(before + batch.num_rows)


def _tags(values: pa.Array) -> pa.Array:
    """Tags of rows, stored as JSON lists, as one text each; few differ."""
    import pyarrow as pa

    coded = values.dictionary_encode()
    texts = [" ".join(json.loads(text)) if text else "" for text in coded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(coded.indices)


def _further(column: pa.Array) -> dict[str, list[Any]]:
    """The values of each further field; equal rows are read once."""
    import pyarrow.compute as pc

    found: dict[str, list[Any]] = {}
    counts = pc.value_counts(column)
    for text, number in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        for name, value in json.loads(text).items() if text and text != "{}" else ():
            found.setdefault(name, []).extend([value] * number)
    return found


class _Counted:
    """One field while it is counted."""

    def __init__(self, name: str) -> None:
        import numpy as np

        self.name, self.rows, self.empty = name, 0, 0
        self.hashes = np.empty(0, np.uint64)
        self.lengths = np.zeros(LENGTHS + 1, np.int64)
        self.top: Counter[str] | None = None if name in UNNAMED else Counter()
        self.numbers: list[float] = []  # count, sum, least, most

    def add(self, values: pa.Array, texts: pa.Array | None) -> None:
        """Count a batch; `texts` are measured in place of the values."""
        import numpy as np
        import pyarrow.compute as pc

        self.rows += len(values)
        sizes = pc.fill_null(pc.utf8_length(texts if texts is not None else values), 0).to_numpy(zero_copy_only=False)
        filled = sizes > 0
        if self.name == "thumb":
            filled = np.asarray(values.to_numpy(zero_copy_only=False) != "0")
        self.empty += int(len(values) - filled.sum())
        measured = np.bincount(np.minimum(sizes[filled], LENGTHS))
        self.lengths[: len(measured)] += measured
        counts = pc.value_counts(values.filter(filled))
        self._distinct(counts.field("values"))
        self._common(counts)

    def numeric(self, values: Sequence[Any]) -> None:
        """Count numbers as such."""
        given = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if given:
            known = self.numbers or [0, 0.0, given[0], given[0]]
            self.numbers = [
                known[0] + len(given), known[1] + sum(given), min(known[2], *given), max(known[3], *given)
            ]  # fmt: skip

    def rest(self, rows: int) -> None:
        """Rows that had no such field at all."""
        self.empty, self.rows = self.empty + rows - self.rows, rows

    def _distinct(self, values: pa.Array) -> None:
        import numpy as np
        import pyarrow as pa

        given = map(zlib.crc32, values.cast(pa.binary()).to_pylist())
        hashes = _mixed(np.fromiter(given, np.uint64, len(values)))
        if len(self.hashes) >= SMALLEST:
            hashes = hashes[hashes < self.hashes[-1]]
        if len(hashes):
            self.hashes = np.unique(np.concatenate([self.hashes, hashes]))[:SMALLEST]

    def _common(self, counts: pa.StructArray) -> None:
        if self.top is None:
            return
        for value, number in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
            if len(value) <= LONGEST:
                self.top[value] += number
        if len(self.top) > 2 * TABLE:
            self.top = Counter(dict(self.top.most_common(TABLE)))
            if self.top.most_common(1)[0][1] < NAMED:  # nearly each is another: a text, not a category
                self.top = None

    def result(self) -> Field:
        """What was counted."""
        filled = self.rows - self.empty
        few = len(self.hashes) < SMALLEST
        kept = tuple(one for one in (self.top or Counter()).most_common(TOP) if one[1] >= NAMED)
        numbers = (self.numbers[2], self.numbers[1] / self.numbers[0], self.numbers[3]) if self.numbers else None
        estimate = len(self.hashes) if few else round((SMALLEST - 1) / (float(self.hashes[-1]) / 2.0**64))
        return Field(
            self.name, self.rows, self.empty, min(estimate, filled), few, self._lengths(), kept,
            None if self.name in UNNAMED else numbers,
        )  # fmt: skip

    def _lengths(self) -> Lengths | None:
        import numpy as np

        filled = int(self.lengths.sum())
        if not filled or self.name in ("thumb", "tags"):
            return None
        reached = np.cumsum(self.lengths)
        least, p50, p95, most = (int(np.searchsorted(reached, max(1, share * filled))) for share in (0, 0.5, 0.95, 1))
        mean = float((self.lengths * np.arange(LENGTHS + 1)).sum() / filled)
        up_to = [int(reached[min(bound, LENGTHS)]) for bound in BINS]
        bins = tuple(after - before for before, after in zip([0, *up_to], up_to, strict=False))
        return Lengths(least, p50, p95, most, round(mean, 1), bins)


def _mixed(hashes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """CRC-32 spread evenly over 64 bits (the finaliser of SplitMix64), so that the smallest say how many there are."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = hashes + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _field(stored: dict[str, Any]) -> Field:
    lengths, numbers = stored["lengths"], stored["numbers"]
    return Field(
        **{
            **stored,
            "lengths": Lengths(**{**lengths, "bins": tuple(lengths["bins"])}) if lengths else None,
            "top": tuple((value, number) for value, number in stored["top"]),
            "numbers": (numbers[0], numbers[1], numbers[2]) if numbers else None,
        }
    )
