"""Training: searches, their trials, one trial with its curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ciranda.train.telemetry import Telemetry


@dataclass(frozen=True)
class TrialRow:
    """One trial of a search. `varied` are the settings in which the trials differ."""

    id: str
    number: int
    state: str  # running | complete | failed | pruned | waiting
    objective: float | None
    seconds: float | None
    varied: Mapping[str, Any] = field(default_factory=dict)
    best: bool = False
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class SearchRow:
    """One search."""

    id: str
    model: str
    dataset: str
    state: str
    objective: str
    started_at: str
    trials: tuple[TrialRow, ...] = ()
    turn: str = ""
    seconds: float | None = None

    @property
    def best(self) -> TrialRow | None:
        """The trial that won, if one did."""
        return next((trial for trial in self.trials if trial.best), None)


@dataclass(frozen=True)
class Again:
    """One time that the version of a run was trained again, and how near it came.

    Args:
        apart: The length of the difference over the length of the weights.
        scores: Name, then, now.
    """

    id: str
    state: str
    asked_at: str
    asked_by: str
    equal: bool = False
    summary: str = ""
    differences: tuple[str, ...] = ()
    apart: float | None = None
    scores: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class RunColumn:
    """One run beside others: what it scored and took, and what it is made of otherwise than the first."""

    row: TrialRow
    model: str
    loss: float | None
    figures: Mapping[str, float] = field(default_factory=dict)
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunsBeside:
    """Runs beside each other. `differs` is the value of each run by key; `answers` one row a question: prompt, reference, and for
    each run its answer (None where it was not asked) and whether that is right."""

    runs: tuple[RunColumn, ...]
    differs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    same: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[tuple[str, str, tuple[tuple[str | None, bool], ...]], ...] = ()


@dataclass(frozen=True)
class TrialPage:
    """One trial with everything known of it."""

    row: TrialRow
    search: SearchRow
    recipe: Mapping[str, Any]
    validation: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    log: str = ""
    heard: Telemetry = field(default_factory=Telemetry)
    made_of: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    hidden: bool = False
    again: tuple[Again, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it can be cancelled."""
        return self.row.state in ("waiting", "running")
