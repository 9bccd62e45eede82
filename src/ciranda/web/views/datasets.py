"""Data: named lines of immutable row sets, what their checks found, what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPLITS = ("train", "validation", "test")
PAGE = 25


@dataclass(frozen=True)
class DatasetRow:
    """One dataset in the catalogue, by its newest version."""

    name: str
    number: int
    rows: int
    languages: tuple[str, ...]
    created_at: str
    findings: int = 0
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetVersionRow:
    """One version in a dataset's history."""

    name: str
    number: int
    rows: int
    change: int | None  # rows more or fewer than the parent
    created_at: str
    created_by: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """What one check did. `action`: dropped, masked, blocked, warned, passed. Examples: origin, reason."""

    check: str
    action: str
    count: int
    examples: tuple[tuple[str, str], ...] = ()


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
    added: int = 0
    removed: int = 0
    contaminated: tuple[tuple[str, int], ...] = ()  # suite, training rows that it asks

    @property
    def languages(self) -> tuple[str, ...]:
        """Those with rows, the largest first."""
        totals: dict[str, int] = {}
        for (language, _), count in self.counts.items():
            totals[language] = totals.get(language, 0) + count
        return tuple(sorted(totals, key=lambda language: (-totals[language], language)))


@dataclass(frozen=True)
class Diff:
    """What one version has that the other has not."""

    name: str
    old: int
    new: int
    kept: int
    added: tuple[Sample, ...]
    removed: tuple[Sample, ...]
    n_added: int
    n_removed: int
    n_changed: int = 0
