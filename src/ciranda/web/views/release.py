"""A release: who gets which answers, how the newcomer does against the champion, and what decided."""

from __future__ import annotations

from dataclasses import dataclass

from ciranda.web.views.models import VersionRow


@dataclass(frozen=True)
class Estimate:
    """A value with its interval and the number of cases behind it."""

    value: float
    low: float
    high: float
    n: int = 0


@dataclass(frozen=True)
class Arm:
    """One share of traffic. `arm`: live, canary, shadow."""

    arm: str
    version: str
    percent: float
    ready: int
    desired: int
    requests: int = 0


@dataclass(frozen=True)
class Step:
    """One step of the plan. `state`: done, now, todo, failed. `percent` is 0 for the shadow step."""

    kind: str  # shadow | canary
    percent: float
    state: str
    at: str = ""


@dataclass(frozen=True)
class Judged:
    """One metric of a running rollout. An e-value is how strongly the data speak: 100 for "worse" stops it, 20 for "fine"
    lets it go on; both may be looked at after every answer."""

    metric: str
    champion: float | None
    candidate: float | None
    n_champion: int
    n_candidate: int
    e_worse: float
    e_fine: float
    verdict: str  # worse | fine | open
    high_is_bad: bool = False
    limit_worse: float = 100.0
    limit_fine: float = 20.0


@dataclass(frozen=True)
class GateRow:
    """One gate, with both values."""

    name: str
    rule: str
    verdict: str  # pass | fail | cannot_tell
    candidate: Estimate | None
    champion: Estimate | None
    metric: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Rollout:
    """One release, running or over. `state`: running, promoted, rolled_back, held, awaiting_approval."""

    id: str
    candidate: str
    champion: str
    state: str
    started_at: str
    ended_at: str = ""
    reason: str = ""
    turn: str = ""


@dataclass(frozen=True)
class ReleasePage:
    """Everything on the release page. `previous` is where a rollback goes to; empty when there is nothing to go back to."""

    model: str
    live: str
    previous: str
    live_since: str
    rollout: Rollout | None
    arms: tuple[Arm, ...] = ()
    steps: tuple[Step, ...] = ()
    judged: tuple[Judged, ...] = ()
    gates: tuple[GateRow, ...] = ()
    history: tuple[Rollout, ...] = ()
    versions: tuple[VersionRow, ...] = ()
