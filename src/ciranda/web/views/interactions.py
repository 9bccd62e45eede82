"""What was asked and answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PAGE = 50


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed to; every field is in the address, so a view can be shared."""

    model: str = ""
    version: str = ""
    arm: str = ""
    status: str = ""  # ok | error
    thumb: str = ""  # up | down | none
    q: str = ""
    since: str = ""  # 15m | 1h | 24h | 7d
    user: str = ""
    conversation: str = ""
    tail: str = ""  # 1: keep up with what comes in

    @property
    def query(self) -> dict[str, str]:
        """Those that are set, for an address."""
        return {name: value for name, value in asdict(self).items() if value}

    def without(self, *names: str) -> dict[str, str]:
        """The same less some of them."""
        return {name: value for name, value in self.query.items() if name not in names}


@dataclass(frozen=True)
class InteractionRow:
    """One line of the list."""

    id: str
    at: str
    model: str
    version: str
    arm: str
    status: int
    latency_ms: float
    input: str
    output: str
    thumb: int = 0
    error: str = ""
    language: str = ""
    stream: bool = False


@dataclass(frozen=True)
class InteractionList:
    """One page of the list, newest first; `older` is the cursor of the next one."""

    rows: tuple[InteractionRow, ...]
    filters: Filters
    models: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    older: str = ""
    first: bool = True


@dataclass(frozen=True)
class Voice:
    """What a user said of an answer."""

    at: str
    thumb: int
    user: str = ""
    rating: float = 0.0
    correction: str = ""
    comment: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventRow:
    """What happened at the gateway beside answers, or to one of them on its way."""

    at: str
    kind: str
    model: str
    version: str = ""
    status: int = 0
    reason: str = ""
    replica: str = ""
    interaction: str = ""
    key: str = ""
    user: str = ""
    found: int = 0
    latency_ms: float = 0.0


@dataclass(frozen=True)
class EventList:
    """One page of events, newest first; `older` is the cursor of the next one."""

    rows: tuple[EventRow, ...]
    kind: str = ""
    model: str = ""
    models: tuple[str, ...] = ()
    older: str = ""
    first: bool = True

    @property
    def query(self) -> dict[str, str]:
        """What it is narrowed to, for an address."""
        return {name: value for name, value in (("kind", self.kind), ("model", self.model)) if value}


@dataclass(frozen=True)
class InteractionPage:
    """One interaction with everything known of it."""

    row: InteractionRow
    messages: tuple[tuple[str, str], ...]  # role, text
    answer: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    voices: tuple[Voice, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    request: str = ""
    response: str = ""
    guard: str = ""
    events: tuple[EventRow, ...] = ()
    previous: str = ""
    next: str = ""
