"""The list of models, in the shape of who asks: OpenAI's, or Anthropic's."""

from __future__ import annotations

from typing import Any

from ciranda.store import clock

EPOCH = "1970-01-01T00:00:00Z"


def models(names: list[str], written_at: str, anthropic: bool, *, one: bool) -> dict[str, Any]:
    """The models of these names, or the one of the only name; all are as old as the routing."""
    shown = [_theirs(name, written_at or EPOCH) if anthropic else _model(name, written_at or EPOCH) for name in names]
    if one:
        return shown[0]
    if not anthropic:
        return {"object": "list", "data": shown}
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return {"data": shown, "has_more": False, **ends}


def _model(name: str, at: str) -> dict[str, Any]:
    created = int(clock.parse(at).timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "ciranda"}


def _theirs(name: str, at: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": at, "lifecycle": "active"}
