"""Turns of the loop: what started each, its steps, where it is, who acts next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TurnStep:
    """One step. `state`: waiting, running, done, failed, skipped."""

    name: str
    state: str
    started_at: str = ""
    ended_at: str = ""
    summary: str = ""


@dataclass(frozen=True)
class TurnRow:
    """One turn. `cause`: drift, feedback, schedule, person. `state`: running, released, refused, failed, awaiting_approval."""

    id: str
    model: str
    cause: str
    state: str
    step: str
    started_at: str
    ended_at: str = ""
    next_actor: str = ""
    event: str = ""
    steps: tuple[TurnStep, ...] = ()
    reason: str = ""
    dataset: str = ""
    version: str = ""
