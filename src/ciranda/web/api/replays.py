"""Replays: real traffic asked of a candidate before any user sees it."""

from __future__ import annotations

from ciranda.evals import replays
from ciranda.loop import replaying
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import Nothing, OfModel, Replayed
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item


def listing(call: Call[OfModel]) -> Item:
    """Replays, newest first."""
    return rows.page(call.platform.db, "replays", call.asked, order="created_at", model=within(call, call.asked.model))


def one(call: Call[Nothing]) -> Item:
    """One replay: its comparison, and answers that would have been others."""
    with call.platform.db.reading() as conn:
        found = replays.get(conn, call.path["replay"])
    call.require(found.model)
    return {**found.to_dict(), "examples": replaying.examples(call.platform, found)}


def begin(call: Call[Replayed]) -> Item:
    """Ask a version what users asked the live one."""
    asked = call.asked
    call.require(asked.version.partition("@")[0], right="evaluate")
    made = replaying.begin(
        call.platform, asked.version, actor=call.actor, since=clock.parse(asked.since) if asked.since else None,
        until=clock.parse(asked.until) if asked.until else None, count=asked.count, by=asked.judge,
    )  # fmt: skip
    return made.to_dict()
