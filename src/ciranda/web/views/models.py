"""One model: where it is in its loop, what happens next and who acts, what it has been through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ciranda.web.views.alerts import AlertRow
from ciranda.web.views.fleet import ModelRow
from ciranda.web.views.live import Window
from ciranda.web.views.turns import TurnRow


@dataclass(frozen=True)
class Stop:
    """One stop of the track. `state`: done, now, live, blocked, todo; `page` is the name of the page that it opens.

    `facts` are what its line says, by stage: data (version, rows, ref), train (running, trial, of, seconds, id), gate (passed,
    of), canary (stage, percent, state), live (version, since, ref), drift (value, certain, stream), retrain (state, id).
    `also` marks the stop where the live version stands while a newer one is on its way.
    """

    stage: str
    state: str
    at: str = ""
    page: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    also: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Next:
    """What happens next. Kinds: waits (for a person), acts (the loop, with its step), retrains (by itself at a limit),
    first (nothing was ever trained), failed (the last turn ended badly), watches (drift only raises an alert)."""

    kind: str
    action: str = ""
    subject: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionRow:
    """One line of a model's versions. `metrics` are name, value, low, high of its evaluation."""

    version: str
    number: int
    stage: str
    dataset: str
    base: str
    created_at: str
    created_by: str
    turn: str = ""
    metrics: tuple[tuple[str, float, float, float], ...] = ()


@dataclass(frozen=True)
class ModelPage:
    """Everything on a model's page."""

    row: ModelRow
    stops: tuple[Stop, ...]
    next: Next
    window: Window
    alerts: tuple[AlertRow, ...] = ()
    turns: tuple[TurnRow, ...] = ()
    versions: tuple[VersionRow, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One metric of one version on one slice of the cases, with its interval, beside what it was compared with."""

    metric: str
    slice: str  # "" is all cases
    n: int
    value: float
    low: float
    high: float
    against: float | None = None


@dataclass(frozen=True)
class VersionPage:
    """One immutable version: where it came from, what it scored, what it decided."""

    row: VersionRow
    model: str
    digest: str
    adapter_digest: str
    recipe: Mapping[str, Any]
    trial: str
    slices: tuple[Slice, ...]
    against: str
    verdicts: tuple[tuple[str, str, str], ...]  # gate, verdict, reason
    served: tuple[tuple[str, str, str], ...]  # what, from, until
    card: str
    lineage: tuple[tuple[str, str, str, str], ...]  # kind, label, page, note: from the rows to the answers
    contaminated: tuple[tuple[str, int], ...] = ()  # suite, training rows that it asks
    evaluations: tuple[tuple[str, str], ...] = ()  # id and suite of its newest evaluations
    names: tuple[str, ...] = ()  # what it is called beside its number
    needed: int = 0  # people who have to say yes
    said: tuple[tuple[str, str, str, str], ...] = ()  # approved or declined, who, when, note: to the verdict in force
    waits: bool = False  # whether a person's word would change anything
    removed_at: str = ""  # since when its weights are gone
    origin: str = ""  # what it was called where it was brought in from
