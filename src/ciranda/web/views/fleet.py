"""All models at once: what needs a decision, where each one is in its loop, how traffic does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ciranda.web.views.live import Window

STAGES = ("data", "train", "gate", "canary", "live", "drift", "retrain")
CHIPS_SHOWN = 4


@dataclass(frozen=True)
class Decision:
    """Something that waits for a person. `kind` picks the sentence, `values` fill it.

    Kinds: approval, alert, held, failed, refused, chain. `action` is the verb of its button, `evidence` the name of the page
    to read first.
    """

    kind: str
    model: str
    since: str
    evidence: str
    action: str = ""
    subject: str = ""
    severity: str = "warn"
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The last decision that was made, so that an empty list still says something."""

    at: str
    actor: str
    action: str
    subject: str


@dataclass(frozen=True)
class Chip:
    """One model in one column of the loop. `state`: now, live, alert."""

    model: str
    version: str
    state: str


@dataclass(frozen=True)
class Column:
    """One stage of the loop, with the models that are in it."""

    stage: str
    chips: tuple[Chip, ...] = ()

    @property
    def shown(self) -> tuple[Chip, ...]:
        """The first few, those with an alert first."""
        return tuple(sorted(self.chips, key=lambda chip: chip.state != "alert"))[:CHIPS_SHOWN]

    @property
    def hidden(self) -> int:
        """How many more there are."""
        return max(0, len(self.chips) - CHIPS_SHOWN)


@dataclass(frozen=True)
class ModelRow:
    """One line of the fleet. Rates are of the last hour; None where nothing was asked."""

    name: str
    stage: str
    state: str  # ok | now | warn | bad
    live: str = ""
    candidate: str = ""
    description: str = ""
    alerts: int = 0
    per_minute: float | None = None
    error_rate: float | None = None
    p95_ms: float | None = None
    thumbs_up: float | None = None
    votes: int = 0
    drift: float | None = None  # share of the limit that is used up
    spark: tuple[float, ...] = ()
    since: str = ""

    @property
    def severity(self) -> tuple[int, float]:
        """Sort key: worst first, then the busiest."""
        return ({"bad": 0, "warn": 1, "now": 2}.get(self.state, 3), -(self.per_minute or 0.0))


@dataclass(frozen=True)
class Overview:
    """The first page."""

    decisions: tuple[Decision, ...]
    last: Done | None
    columns: tuple[Column, ...]
    models: int
    window: Window
