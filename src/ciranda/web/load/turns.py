"""Turns of the loop."""

from __future__ import annotations

from collections.abc import Sequence

from ciranda.loop import turns
from ciranda.loop.platform import Platform
from ciranda.loop.turns import Turn
from ciranda.web.views.turns import TurnRow, TurnStep

LIMIT = 200
STAGE_OF_STEP = {
    "data": "data",
    "train": "train",
    "register": "gate",
    "evaluate": "gate",
    "gate": "gate",
    "release": "canary",
}


def listing(platform: Platform, reach: Sequence[str], *, model: str = "", limit: int = LIMIT) -> tuple[TurnRow, ...]:
    """Turns of the models that a key reaches, newest first."""
    found = turns.page(platform.db, model=model, limit=limit)
    return tuple(row_of(turn) for turn in found if "*" in reach or turn.model in reach)


def one(platform: Platform, identifier: str) -> TurnRow:
    """One turn. Raises NotFound."""
    with platform.db.reading() as conn:
        return row_of(turns.get(conn, identifier))


def newest(platform: Platform, model: str) -> Turn | None:
    """The model's latest turn."""
    found = turns.page(platform.db, model=model, limit=1)
    return found[0] if found else None


def stage_of(turn: Turn) -> str:
    """Where in the loop an open turn is: before its first step it waits at the door back to the data."""
    return STAGE_OF_STEP.get(turn.step, "retrain")


def row_of(turn: Turn) -> TurnRow:
    """A turn as the pages show it."""
    steps = tuple(
        TurnStep(one["name"], one["state"], one["started_at"] or "", one["ended_at"] or "", one["summary"] or "")
        for one in turn.steps
    )
    return TurnRow(
        turn.id, turn.model, turn.cause, turn.state, turn.step, turn.started_at or turn.asked_at, turn.ended_at or "",
        turn.next_actor, turn.event, steps, turn.reason, turn.dataset or "", turn.version or "",
    )  # fmt: skip
