"""Training: searches with their trials, and one trial with its loss curve."""

from __future__ import annotations

from ciranda.web.api import rows
from ciranda.web.api.asked import Nothing, OfModel
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item

HEAVY = ("loss_curve",)


def listing(call: Call[OfModel]) -> Item:
    """Searches, newest first, each with its trials (without curves)."""
    db = call.platform.db
    found = rows.page(db, "searches", call.asked, order="started_at", model=within(call, call.asked.model))
    trials = rows.every(db, "trials", order="number", search=tuple(search["id"] for search in found["items"]))
    slim = [{name: value for name, value in trial.items() if name not in HEAVY} for trial in trials]
    items = [
        {**search, "trials": [trial for trial in slim if trial["search"] == search["id"]]} for search in found["items"]
    ]
    return {**found, "items": items}


def one(call: Call[Nothing]) -> Item:
    """One trial with its curve, and the search that it belongs to."""
    trial = rows.one(call.platform.db, "trials", id=call.path["run"], remedy="GET /runs lists the trials")
    search = rows.one(call.platform.db, "searches", id=trial["search"], remedy="GET /runs lists the searches")
    call.require(search["model"])
    return {**trial, "model": search["model"], "of": search}
