"""Searches: the list, and one study with its trials as coordinates and curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_LINES = 4


@dataclass(frozen=True)
class Seek:
    """One search in short."""

    id: str
    model: str
    dataset: str
    state: str
    started_at: str
    worked_s: float
    limit: int
    states: Mapping[str, int] = field(default_factory=dict)
    reached: float | None = None
    spent: float = 0.0
    price: float = 0.0
    money: float | None = None
    turn: str = ""
    asked_by: str = ""
    reason: str = ""

    @property
    def trials(self) -> int:
        """How many trials were begun."""
        return sum(self.states.values())

    @property
    def name(self) -> str:
        """What tells it from others of its model."""
        return self.id.split(":", 2)[-1]


@dataclass(frozen=True)
class Experiments:
    """One page of searches, newest first; `next` is the address of the page after."""

    rows: tuple[Seek, ...]
    models: tuple[str, ...] = ()
    model: str = ""
    next: str = ""
    first: bool = True


@dataclass(frozen=True)
class TrialLine:
    """One trial of a study. `settings` are what the study varies, `checks` (percent of the run, exact match)."""

    id: str
    number: int
    state: str
    settings: Mapping[str, Any]
    objective: float | None = None
    loss: float | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    checks: tuple[tuple[float, float], ...] = ()
    spent_s: float = 0.0
    reason: str = ""
    best: bool = False
    front: bool = False

    @property
    def tone(self) -> str:
        """How it is drawn among others: the best, those that none beats, those without a result."""
        if self.best:
            return "best"
        return ("front" if self.front else "") if self.state == "complete" else "faint"

    @property
    def quality(self) -> float | None:
        """What it reached, or stands at by now."""
        return self.objective if self.objective is not None else self.checks[-1][1] if self.checks else None


@dataclass(frozen=True)
class Coordinate:
    """Something that varies or is reached. `choices` where its values are names, or few."""

    name: str
    log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class StudyPage:
    """One search with everything that its page shows.

    Args:
        coordinates: What varies, in the order of the file.
        measured: What is weighed beside quality: `latency_ms`, `size_mb`.
        within: How much quality may be given up, for `prefer`.
    """

    row: Seek
    trials: tuple[TrialLine, ...]
    coordinates: tuple[Coordinate, ...] = ()
    measured: tuple[str, ...] = ()
    within: float = 0.0
    prefer: str = ""
    budget_s: float | None = None
    workers: int = 0
    worker_s: float = 0.0
    prune: bool = True
    released: str = ""

    @property
    def best(self) -> TrialLine | None:
        """The trial that is ahead."""
        return next((trial for trial in self.trials if trial.best), None)

    @property
    def lines(self) -> tuple[TrialLine, ...]:
        """The trials whose curves are drawn: those that train, the best, then the others by what they reached."""
        told = [trial for trial in self.trials if len(trial.curve) > 1]
        return tuple(
            sorted(told, key=lambda one: (one.state != "running", not one.best, -(one.quality or 0.0)))[:MOST_LINES]
        )

    @property
    def history(self) -> tuple[tuple[tuple[float, float | None], ...], tuple[tuple[float, float | None], ...]]:
        """What each trial reached, and the best until then, by number."""
        reached = [(float(one.number), one.objective) for one in self.trials if one.objective is not None]
        top, ahead = 0.0, []
        for number, value in reached:
            top = max(top, value or 0.0)
            ahead.append((number, top))
        return tuple(reached), tuple(ahead)

    @property
    def first(self) -> TrialLine | None:
        """The recipe as given, once it has a result: what the others are compared with."""
        return next((one for one in self.trials if one.number == 0 and one.objective is not None), None)
