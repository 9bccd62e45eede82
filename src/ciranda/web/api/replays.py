"""Replays: real traffic asked of a candidate before any user sees it."""

from __future__ import annotations

from pydantic import Field

from ciranda.evals import replays
from ciranda.loop import replaying
from ciranda.loop.quoting import Quotes
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import Asked, Moment, Nothing, OfModel, Reference
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item


class Replayed(Asked):
    """What is replayed, to whom."""

    version: Reference
    since: Moment | None = Field(None, description="From when on, a time or how long ago (`24h`); a day without it.")
    until: Moment | None = Field(None, description="Until when; now without it.")
    count: int = Field(0, ge=0, le=2000, description="At most so many requests; 0: the model's `evaluate: cases`.")
    judge: str = Field("", max_length=63, description="A judge that says which answers it prefers.")


def listing(call: Call[OfModel]) -> Item:
    """Replays, newest first."""
    return rows.page(call.platform.db, "replays", call.asked, order="created_at", model=within(call, call.asked.model))


def one(call: Call[Nothing]) -> Item:
    """One replay: its comparison, and answers that would have been others."""
    with call.platform.db.reading() as conn:
        found = replays.get(conn, call.path["replay"])
    call.require(found.model)
    quotes = Quotes(call.platform, found.model, call.principal)
    return {**found.to_dict(), "examples": quotes.answers(replaying.examples(call.platform, found))}


def begin(call: Call[Replayed]) -> Item:
    """Ask a version what users asked the live one."""
    asked = call.asked
    call.require(asked.version.partition("@")[0], right="evaluate")
    made = replaying.begin(
        call.platform, asked.version, actor=call.actor, since=clock.parse(asked.since) if asked.since else None,
        until=clock.parse(asked.until) if asked.until else None, count=asked.count, by=asked.judge,
    )  # fmt: skip
    return made.to_dict()
