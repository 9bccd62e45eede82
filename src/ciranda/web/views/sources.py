"""Where data comes from: sources with their schedule, their runs, and bad rows that wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RunRow:
    """One run of one source. `phase` is reading, committing, checking or comparing while it is under way."""

    id: str
    dataset: str
    source: str
    kind: str
    state: str
    phase: str
    actor: str
    rows_in: int
    rows_checked: int
    rows_kept: int
    rows_bad: int
    bytes: int
    pages: int
    seconds: float
    version: str
    started_at: str


@dataclass(frozen=True)
class SourceRow:
    """One source of a dataset, with its last run. At most one of `every` (seconds), `cron` and `watched` says when it runs."""

    dataset: str
    model: str
    source: str
    kind: str
    every: float | None = None
    cron: str = ""
    watched: bool = False
    next_at: str = ""
    last: RunRow | None = None


@dataclass(frozen=True)
class FeedRow:
    """A dataset and what feeds it."""

    dataset: str
    model: str
    sources: tuple[SourceRow, ...]
    waiting: int = 0  # bad rows
    asked: bool = False  # whether somebody wants an ingestion that has not begun


@dataclass(frozen=True)
class BadRow:
    """One bad row, with what stood there."""

    id: str
    source: str
    origin: str
    reason: str
    record: str
    state: str
    at: str


@dataclass(frozen=True)
class FeedPage:
    """One dataset: its sources, a page of runs, bad rows that wait."""

    row: FeedRow
    runs: tuple[RunRow, ...]
    older: str = ""
    bad: tuple[BadRow, ...] = ()
    more_bad: str = ""

    @property
    def running(self) -> bool:
        """Whether something is under way."""
        return any(run.state == "running" for run in self.runs)


@dataclass(frozen=True)
class RunPage:
    """One run with everything that is known of it."""

    row: RunRow
    cursor_before: str = ""
    cursor: str = ""
    window: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, str] = field(default_factory=dict)  # message, where, remedy
    changes: tuple[tuple[str, str, str, str], ...] = ()  # change, field, before, now
    bad: tuple[tuple[str, str], ...] = ()  # where, why
    fields: tuple[tuple[str, str, float], ...] = ()  # name, types, share of records that have it
