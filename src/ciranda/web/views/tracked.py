"""Runs that MLflow's clients logged: a list by experiment, and one run with its curves and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TrackedRow:
    """One run in a list. `metrics` are its newest values, as far as they are numbers."""

    id: str
    name: str
    experiment: int
    user: str
    state: str
    started_at: str
    seconds: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRuns:
    """A page of runs. `experiments` are number and name of those that there are."""

    rows: tuple[TrackedRow, ...]
    experiments: tuple[tuple[int, str], ...]
    experiment: int
    next: str = ""
    first: bool = True

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that have a column: the first few that its runs have."""
        return tuple(dict.fromkeys(name for row in self.rows for name in sorted(row.metrics)))[:4]


@dataclass(frozen=True)
class TrackedCurve:
    """One metric over its steps: thinned out where there are many points; `last` is None where it is no number."""

    name: str
    last: float | None
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class TrackedFile:
    """A file of a run's artefacts."""

    path: str
    bytes: int


@dataclass(frozen=True)
class TrackedModel:
    """A model that the run logged."""

    id: str
    name: str
    kind: str
    state: str


@dataclass(frozen=True)
class TrackedRun:
    """One run, whole. `more` is how many metrics and files are not shown."""

    row: TrackedRow
    named: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    curves: tuple[TrackedCurve, ...]
    files: tuple[TrackedFile, ...]
    models: tuple[TrackedModel, ...] = ()
    more: tuple[int, int] = (0, 0)
