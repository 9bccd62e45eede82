"""Data: named lines of immutable row sets, what their checks found, what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ciranda.data.sizes import Disk
from ciranda.data.statistics import Field
from ciranda.store import clock

SPLITS = ("train", "validation", "test")
PAGE = 25


@dataclass(frozen=True)
class DatasetVersionRow:
    """One version in a dataset's history. `found` is what its checks found, `names` its tags and aliases."""

    name: str
    number: int
    rows: int
    change: int | None  # rows more or fewer than the parent
    created_at: str
    created_by: str
    used_by: tuple[str, ...] = ()
    made_by: str = ""
    parents: tuple[str, ...] = ()
    checked: int = 0
    found: int = 0
    names: tuple[str, ...] = ()
    disk: Disk | None = None  # None when its rows are gone

    @property
    def at_s(self) -> float:
        """When it was committed, in seconds since 1970."""
        return clock.parse(self.created_at).timestamp()


@dataclass(frozen=True)
class Check:
    """What one check did. `action`: dropped, masked, blocked, warned, passed. Examples: origin, key, reason."""

    check: str
    action: str
    count: int
    examples: tuple[tuple[str, str, str], ...] = ()
    looked: int = 0
    speed: int = 0  # rows per second of one processor


@dataclass(frozen=True)
class CheckPage:
    """The check report of a version: the figures of each check, and the rows that one of them named, page by page."""

    name: str
    number: int
    looked: int
    kept: int
    created_at: str
    checks: tuple[Check, ...]
    chosen: str = ""
    rows: tuple[tuple[str, str, str], ...] = ()
    total: int = 0
    page: int = 1

    @property
    def pages(self) -> int:
        """How many pages of named rows there are."""
        return max(1, -(-self.total // PAGE))


@dataclass(frozen=True)
class Sample:
    """One row."""

    key: str
    prompt: str
    completion: str
    language: str
    split: str
    source: str
    origin: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """One page of rows."""

    rows: tuple[Sample, ...]
    total: int
    page: int = 1
    split: str = ""
    language: str = ""
    q: str = ""

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // PAGE))


@dataclass(frozen=True)
class DatasetPage:
    """One dataset version."""

    name: str
    number: int
    digest: str
    parent: str
    rows: int
    created_at: str
    created_by: str
    counts: Mapping[tuple[str, str], int]  # (language, split) -> rows
    checks: tuple[Check, ...]
    samples: Samples
    figures: Mapping[str, Any] = field(default_factory=dict)
    transformation: Mapping[str, Any] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    history: tuple[DatasetVersionRow, ...] = ()
    change: int | None = None  # rows more or fewer than the parent
    fields: tuple[Field, ...] | None = None  # None as long as they are not counted
    said: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # by field: description, sensitivity, tags, terms
    evaluations: int = 0
    contaminated: tuple[tuple[str, int], ...] = ()  # suite, training rows that it asks
    disk: Disk | None = None  # None when its rows are gone

    @property
    def shown(self) -> tuple[Field, ...]:
        """The fields that hold something."""
        return tuple(one for one in self.fields or () if one.rows > one.empty)

    @property
    def unused(self) -> tuple[str, ...]:
        """The fields that hold nothing."""
        return tuple(one.name for one in self.fields or () if one.rows <= one.empty)

    @property
    def languages(self) -> tuple[str, ...]:
        """Those with rows, the largest first."""
        totals: dict[str, int] = {}
        for (language, _), count in self.counts.items():
            totals[language] = totals.get(language, 0) + count
        return tuple(sorted(totals, key=lambda language: (-totals[language], language)))


@dataclass(frozen=True)
class Shift:
    """How one field is distributed before and after: shares by value, or by length (`bins`, upper bounds in characters)."""

    field: str
    kind: str  # values or lengths
    labels: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def moved(self) -> float:
        """The share of rows that lies elsewhere now: half the sum of differences (total variation)."""
        return sum(abs(b - a) for a, b in zip(self.before, self.after, strict=True)) / 2


@dataclass(frozen=True)
class Diff:
    """What one version has that the other has not. `kind` is which rows are shown: added, removed or changed."""

    name: str
    old: int
    new: int
    kept: int
    n_added: int
    n_removed: int
    n_changed: int
    kind: str = "added"
    page: int = 1
    rows: tuple[tuple[Sample | None, Sample | None], ...] = ()
    shifts: tuple[Shift, ...] = ()
    old_rows: int = 0
    new_rows: int = 0

    @property
    def total(self) -> int:
        """How many rows are of the kind that is shown."""
        return {"added": self.n_added, "removed": self.n_removed, "changed": self.n_changed}[self.kind]

    @property
    def pages(self) -> int:
        """How many pages there are of them."""
        return max(1, -(-self.total // PAGE))
