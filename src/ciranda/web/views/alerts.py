"""What fired, why, on which examples, and what was done about it already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AlertRow:
    """One alert. `state`: open, acknowledged, closed. `severity`: info, warning, critical. `values` fill the sentence of its kind:
    channel, version, label, before, after, language; without them its title is shown as it was written."""

    id: str
    model: str
    kind: str
    severity: str
    title: str
    state: str
    at: str
    turn: str = ""
    acknowledged_by: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A kind of message whose share moved: its words, the shares before and after, examples."""

    label: str
    before: float
    after: float
    examples: tuple[tuple[str, str], ...] = ()  # interaction id, text
    kind: str = ""  # language, or a kind of message


@dataclass(frozen=True)
class AlertPage:
    """One alert with its explanation."""

    row: AlertRow
    summary: str
    since: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    turn_state: str = ""
