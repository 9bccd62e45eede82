"""Interactions: what was asked and answered, newest first, and one with everything that is known of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ciranda.errors import NotFound
from ciranda.interactions.table import Interaction
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import Interactions, Nothing
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item

BODIES = ("request", "response")
CLASSES = {"ok": 2, "error": 5}


def listing(call: Call[Interactions]) -> Item:
    """One page; for a key that is limited to several models, the pages of each, merged."""
    asked = call.asked
    reach = within(call, asked.model)
    found = [one for model in _models(reach) for one in _page(call, model)]
    found.sort(key=lambda one: (one.ts_ms, one.id), reverse=True)
    shown = found[: asked.limit]
    return rows.listed([line(one) for one in shown], shown[-1].id if len(shown) == asked.limit else None)


def _models(reach: str | tuple[str, ...] | None) -> tuple[str | None, ...]:
    return reach if isinstance(reach, tuple) else (reach,)


def _page(call: Call[Interactions], model: str | None) -> list[Interaction]:
    asked = call.asked
    return call.platform.interactions.page(
        model=model,
        version=asked.version or None,
        arm=asked.arm or None,
        status=CLASSES.get(asked.status) or (int(asked.status) if asked.status else None),
        thumb=asked.thumb,
        search=asked.search or None,
        since=clock.parse(asked.since) if asked.since else None,
        until=clock.parse(asked.until) if asked.until else None,
        before=asked.cursor or None,
        limit=asked.limit,
    )


def one(call: Call[Nothing]) -> Item:
    """One interaction with its bodies, feedback and scores."""
    found = call.platform.interactions.get(call.path["interaction"])
    if found is None:
        raise NotFound(
            f"no interaction {call.path['interaction']!r}",
            where="interactions",
            remedy="the id is in the answer's header x-ciranda-interaction; a new one is there within a second",
        )
    call.require(found.model)
    return {**asdict(found), "at": clock.iso(found.ts), "thumb": found.thumb}


def line(one: Interaction) -> dict[str, Any]:
    """An interaction in a list: everything but the bodies."""
    whole = {name: value for name, value in asdict(one).items() if name not in BODIES}
    return {**whole, "at": clock.iso(one.ts), "thumb": one.thumb}
