"""Model versions: names, history, what waits for people."""

from __future__ import annotations

from ciranda.errors import NotFound
from ciranda.loop import gatekeeping
from ciranda.registry import aliases, models, versions
from ciranda.registry import history as stages
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import Alias, At, Nothing, Page, Unnamed
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def waiting(call: Call[Page]) -> Item:
    """What waits for people, the oldest first."""
    found = [one.to_dict() for one in gatekeeping.waiting(call.platform, call.reaches)]
    mark = tuple(map(str, rows.place(call.asked.cursor, 2))) if call.asked.cursor else ("", "")
    later = [one for one in found if (one["since"], one["version"]) > mark]
    shown = later[: call.asked.limit]
    last = shown[-1] if len(later) > len(shown) else None
    return rows.listed(shown, rows.cursor([last["since"], last["version"]]) if last else None)


def named(call: Call[Nothing]) -> Item:
    """The names of a model's versions."""
    with call.platform.db.reading() as conn:
        models.get(conn, call.path["model"])
        return {"items": [one.to_dict() for one in aliases.of(conn, call.path["model"])], "next": None}


def which(call: Call[Nothing]) -> Item:
    """The version that a name means."""
    with call.platform.db.reading() as conn:
        ref = aliases.resolve(conn, f"{call.path['model']}@{call.path['name']}")
        return versions.get(conn, ref).to_dict()


def name(call: Call[Alias]) -> Item:
    """Let a name stand for a version. It sends no traffic."""
    with call.platform.db.writing() as conn:
        ref = aliases.resolve(conn, call.asked.version)
        if versions.split(ref)[0] != call.path["model"]:
            raise NotFound(f"{ref} is no version of {call.path['model']}", where="body: version",
                           remedy=f"name a version {call.path['model']}@<n>")  # fmt: skip
        return aliases.put(conn, ref, call.asked.name, actor=call.actor).to_dict()


def unname(call: Call[Unnamed]) -> Item:
    """Take a name away."""
    with call.platform.db.writing() as conn:
        return aliases.remove(conn, call.path["model"], call.asked.name, actor=call.actor).to_dict()


def history(call: Call[Page]) -> Item:
    """Every change of stage of a model's versions, newest first: an append-only table."""
    model = call.path["model"]
    with call.platform.db.reading() as conn:
        models.get(conn, model)
    return rows.page(call.platform.db, "version_stages", call.asked, order="sequence", model=model)


def live_at(call: Call[At]) -> Item:
    """What was live at a moment, of every model that the key reaches."""
    at = call.asked.at or clock.iso()
    with call.platform.db.reading() as conn:
        names = [one.name for one in models.every(conn) if call.reaches(one.name)]
        lives = {name: stages.live_at(conn, name, clock.parse(at)) for name in names}
    return {"at": at, "models": lives}


def live_of(call: Call[At]) -> Item:
    """What was live of one model at a moment."""
    at, model = call.asked.at or clock.iso(), call.path["model"]
    with call.platform.db.reading() as conn:
        models.get(conn, model)
        ref = stages.live_at(conn, model, clock.parse(at))
        found = versions.get(conn, ref) if ref else None
    return {"model": model, "at": at, "version": ref, "digest": found.digest if found else None}
