"""Training: searches, their trials, one trial with its curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
