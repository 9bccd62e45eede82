"""What the review pages show: queues, one item at a time, how far people agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class QueueRow:
    """One queue in the list. `untaken` counts settled items whose labels are in no dataset version yet."""

    name: str
    model: str
    dataset: str
    makes: str
    waiting: int = 0
    settled: int = 0
    untaken: int = 0


@dataclass(frozen=True)
class Looked:
    """What is looked at: a conversation and its answer; why it was chosen."""

    id: str
    reason: str
    why: Mapping[str, Any]
    messages: tuple[tuple[str, str], ...]  # role, text
    answer: str
    version: str = ""
    at: str = ""
    thumb: int = 0
    scores: tuple[tuple[str, float], ...] = ()
    interaction: str = ""


@dataclass(frozen=True)
class QueuePage:
    """One queue with its figures. `agreement`: name, value, low, high, items. `right`: share, low, high, items, or nothing."""

    row: QueueRow
    instructions: str = ""
    annotators: tuple[tuple[str, int, int, int], ...] = ()  # name, right, wrong, corrected
    agreement: tuple[tuple[str, float | None, float | None, float | None, int], ...] = ()
    right: tuple[float, float, float, int] | None = None
    mine: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
