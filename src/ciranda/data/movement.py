"""How a dataset moved from one version to another, beyond single rows: shares of splits, languages, sources, shapes, labels,
groups and further fields, and lengths.

Shares are compared by total variation (half the sum of differences, 0 to 1): how much of the whole would have to change its value.
Lengths are compared by their quantiles. Values are named up to TOP of each field, the ones that moved most; a field whose values
are nearly all different (an id) is told by its count of distinct values alone. What the caller may not see is left out by `hidden`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ciranda.config import Home
from ciranda.data import versions

if TYPE_CHECKING:
    import pyarrow as pa

TOP = 12
DISTINCT = 10_000  # values of a field that are told apart
FIELDS = ("split", "language", "source", "group", "thumb", "tags", "shape")
READ = (
    "split",
    "language",
    "source",
    "group",
    "thumb",
    "tags",
    "extra",
    "messages",
    "prompt",
    "completion",
    "rejected",
)
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Shift:
    """How the values of one field moved: total variation, distinct values, and those that moved most with both shares."""

    field: str
    distance: float
    distinct: tuple[int, int]
    values: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Movement:
    """What changed in distribution; `lengths` are characters of prompt and answer at QUANTILES, before and after."""

    rows: tuple[int, int]
    shifts: tuple[Shift, ...]
    lengths: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return asdict(self)


def between(home: Home, before: str, after: str, *, hidden: Collection[str] = ()) -> Movement:
    """Read both versions once, batch by batch, and compare. `hidden`: fields that the caller may not see."""
    old, new = _taken(home, before), _taken(home, after)
    names = [name for name in (*FIELDS, *sorted({*old.values, *new.values} - {*FIELDS})) if not _hides(hidden, name)]
    shifts = tuple(_shift(name, old, new) for name in names if name in old.values or name in new.values)
    lengths = {
        name: (_quantiles(old.lengths[name]), _quantiles(new.lengths[name]))
        for name, source in (("prompt", "messages"), ("completion", "completion"))
        if source not in hidden
    }
    return Movement((old.rows, new.rows), shifts, lengths)


@dataclass
class _Taken:
    rows: int = 0
    values: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: {"prompt": Counter(), "completion": Counter()})

    def add(self, name: str, found: Iterable[tuple[str, int]]) -> None:
        counter = self.values.setdefault(name, Counter())
        for value, number in found:
            if value in counter or len(counter) < DISTINCT:
                counter[value] += number


def _taken(home: Home, ref: str) -> _Taken:
    taken = _Taken()
    for batch in versions.batches(home, ref, columns=READ):
        taken.rows += batch.num_rows
        for name in ("split", "language", "source", "group", "thumb"):
            taken.add(name, _counted(batch, name))
        taken.add("shape", _shapes(batch))
        for text, number in _counted(batch, "tags"):
            taken.add("tags", ((tag, number) for tag in json.loads(text)))
        for text, number in _counted(batch, "extra"):
            for name, value in json.loads(text).items():
                taken.add(f"extra.{name}", [(str(value), number)])
        for name, lengths in taken.lengths.items():
            lengths.update(map(len, batch.column(name).to_pylist()))
    return taken


def _counted(batch: pa.RecordBatch, name: str) -> list[tuple[str, int]]:
    return [(str(one["values"]), one["counts"]) for one in batch.column(name).value_counts().to_pylist()]


def _shapes(batch: pa.RecordBatch) -> list[tuple[str, int]]:
    import pyarrow.compute as pc

    text = pc.equal(batch.column("messages"), "[]")
    preference = pc.and_not(pc.not_equal(batch.column("rejected"), ""), text)
    labelled = pc.and_not(pc.not_equal(batch.column("thumb"), 0), pc.or_(text, preference))
    counts = {name: pc.sum(mask).as_py() or 0 for name, mask in
              (("text", text), ("preference", preference), ("labelled", labelled))}  # fmt: skip
    counts["chat"] = batch.num_rows - sum(counts.values())
    return [(name, number) for name, number in counts.items() if number]


def _shift(name: str, old: _Taken, new: _Taken) -> Shift:
    before, after = old.values.get(name, Counter()), new.values.get(name, Counter())
    shares = {value: (before[value] / max(old.rows, 1), after[value] / max(new.rows, 1)) for value in {*before, *after}}
    distance = sum(abs(was - now) for was, now in shares.values()) / 2
    telling = len(shares) <= max(TOP, (old.rows + new.rows) // 4)
    moved = sorted(shares.items(), key=lambda one: (-abs(one[1][0] - one[1][1]), one[0]))[:TOP] if telling else []
    shown = tuple((value, round(was, 6), round(now, 6)) for value, (was, now) in moved)
    return Shift(name, round(distance, 6), (len(before), len(after)), shown)


def _quantiles(lengths: Counter[int]) -> tuple[int, ...]:
    total, found, seen = sum(lengths.values()), list[int](), 0
    marks = [share * total for share in QUANTILES]
    for length in sorted(lengths):
        seen += lengths[length]
        while len(found) < len(marks) and seen >= marks[len(found)]:
            found.append(length)
    return tuple(found) if total else (0,) * len(QUANTILES)


def _hides(hidden: Collection[str], name: str) -> bool:
    return (
        name in hidden
        or (name.startswith("extra.") and "extra" in hidden)
        or (name == "shape" and "messages" in hidden)
    )
