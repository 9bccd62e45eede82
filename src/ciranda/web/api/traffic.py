"""Interactions: what was asked and answered, newest first, as it comes, as a file or a dataset; and one, whole."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import Any

from starlette.responses import Response, StreamingResponse

from ciranda.data.exports import note
from ciranda.data.hearing import Hearing
from ciranda.data.reading import asking
from ciranda.errors import NotFound
from ciranda.govern import audit, pseudonyms
from ciranda.govern.policy import Purpose
from ciranda.interactions import export
from ciranda.interactions.events import Event
from ciranda.interactions.filters import Filters
from ciranda.interactions.table import Interaction, moment
from ciranda.loop.gather import gather
from ciranda.registry import models as registered
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import Arrivals, Events, Export, Gather, Interactions, Nothing
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item

BODIES = ("request", "response")
PERSONAL = ("user", "conversation", "search")  # filters that may name a person
CLASSES = {"ok": 2, "error": 5}


def listing(call: Call[Interactions]) -> Item:
    """One page; for a key that is limited to several models, the pages of each, merged."""
    asked, ask, hearing = call.asked, call.platform.interactions, _hearing(call)
    found = [
        one
        for chosen in _chosen(call, hearing)
        for one in ask.page(before=asked.cursor or None, limit=asked.limit, **chosen)
    ]
    found.sort(key=lambda one: (one.ts_ms, one.id), reverse=True)
    shown = found[: asked.limit]
    following = shown[-1].place if len(shown) == asked.limit else None
    return rows.listed([line(one) for one in hearing.these(shown)], following)


def arrivals(call: Call[Arrivals]) -> Item:
    """The next ones in the order of arrival. `next` is always there: ask again with it for what came since."""
    asked, ask, hearing = call.asked, call.platform.interactions, _hearing(call)
    if not asked.cursor:
        return rows.listed([], ask.cursor())
    found = [one for chosen in _chosen(call, hearing) for one in ask.since(asked.cursor, limit=asked.limit, **chosen)]
    found.sort(key=lambda one: one.sequence)
    shown = found[: asked.limit]
    return rows.listed([line(one) for one in hearing.these(shown)], shown[-1].cursor if shown else asked.cursor)


def events(call: Call[Events]) -> Item:
    """What happened at the gateway beside answers: tries that failed, texts judged, tokens counted. Newest first."""
    asked, hearing = call.asked, _hearing(call)
    reach = within(call, asked.model)
    since = clock.parse(asked.since) if asked.since else None
    until = clock.parse(asked.until) if asked.until else None
    found = [
        one
        for model in (reach if isinstance(reach, tuple) else (reach,))
        for one in call.platform.interactions.events(
            before=asked.cursor or None, limit=asked.limit, kind=asked.kind, model=model, since=since, until=until
        )
    ]
    found.sort(key=lambda one: (one.ts_ms, one.id), reverse=True)
    shown = found[: asked.limit]
    following = shown[-1].place if len(shown) == asked.limit else None
    return rows.listed([happened(one) for one in hearing.events(shown)], following)


def happened(one: Event) -> Item:
    """An event as JSON."""
    return {"id": one.id, "at": clock.iso(moment(one.ts_ms)), "kind": one.kind, "model": one.model, **one.detail}


def exported(call: Call[Export]) -> Response:
    """All that the filters leave, as a file, while it is read. Who took it is in the audit log."""
    asked, ask, hearing = call.asked, call.platform.interactions, _hearing(call, "export")
    every = _chosen(call, hearing)
    found = hearing.all(one for chosen in every for one in ask.everything(**chosen))
    pieces = export.written(found, asked.format)
    first = next(pieces, b"")  # what goes wrong at the start is an error, not a file that ends early
    told = _told(call)
    with call.platform.db.writing() as conn:
        audit.record(conn, actor=call.actor, action="interactions.exported", subject=asked.model or "*", detail=told)
        bound = hearing.decision(asked.model)
        note(conn, f"interactions:{asked.model or '*'}", hearing.reader, format_=asked.format, found=bound)
    headers = {
        "content-disposition": f'attachment; filename="interactions.{asked.format}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(chain([first], pieces), media_type=export.FORMATS[asked.format], headers=headers)


def _told(call: Call[Export]) -> Item:
    """The filters for the audit log, which is for ever: who or what was looked for stands there as a keyed hash."""
    given = call.asked.model_dump(mode="json")
    key = pseudonyms.key_of(call.platform.home)
    hidden = {name: pseudonyms.hashed(key, "filter", given[name]) for name in PERSONAL if given.get(name)}
    return {name: value for name, value in {**given, **hidden}.items() if value not in ("", None)}


def gathered(call: Call[Gather]) -> Item:
    """The next version of a dataset, out of what the filters leave."""
    call.require(call.asked.model, right="data")
    (chosen,) = _chosen(call, _hearing(call))
    return gather(call.platform, call.asked.dataset, chosen, call.actor)


def _hearing(call: Call[Any], purpose: Purpose = "viewing") -> Hearing:
    return Hearing(call.platform.db, call.platform.home, asking(call.principal, purpose))


def _chosen(call: Call[Any], hearing: Hearing) -> list[Filters]:
    """The filters asked for, once for each model that they are narrowed to. Raises Forbidden for what the reader may not ask."""
    asked = call.asked
    reach = within(call, asked.model)
    chosen: Filters = {
        "version": asked.version, "arm": asked.arm, "rollout": asked.rollout, "user": asked.user,
        "conversation": asked.conversation, "thumb": asked.thumb, "search": asked.search,
        "status": CLASSES.get(asked.status) or (int(asked.status) if asked.status else None),
        "since": clock.parse(asked.since) if asked.since else None,
        "until": clock.parse(asked.until) if asked.until else None,
    }  # fmt: skip
    models = reach if isinstance(reach, tuple) else (reach,)
    with call.platform.db.reading() as conn:
        names = [one.name for one in registered.every(conn)]
    hearing.bound(models, names, chosen)
    return [{**chosen, "model": model} for model in models]


def one(call: Call[Nothing]) -> Item:
    """One interaction with its bodies, feedback and scores."""
    kept = call.platform.interactions.get(call.path["interaction"])
    found = _hearing(call).one(kept) if kept else None
    if found is None:
        raise NotFound(
            f"no interaction {call.path['interaction']!r}",
            where="interactions",
            remedy="the id is in the answer's header x-ciranda-interaction; a new one is there within a second",
        )
    call.require(found.model)
    tries = [happened(one) for one in call.platform.interactions.events_of(found.id)]
    return {**asdict(found), "at": clock.iso(found.ts), "thumb": found.thumb, "events": tries}


def line(one: Interaction) -> dict[str, Any]:
    """An interaction in a list: everything but the bodies."""
    whole = {name: value for name, value in asdict(one).items() if name not in BODIES}
    return {**whole, "at": clock.iso(one.ts), "thumb": one.thumb}
