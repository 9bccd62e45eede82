"""Training: searches with their trials, and one trial (a run) with all it told; runs side by side, logs, an end to one."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ciranda.loop import runs
from ciranda.train import trials
from ciranda.train.trials import Trial
from ciranda.web.api import rows
from ciranda.web.api.asked import Asked, Nothing, OfModel
from ciranda.web.api.door import Call
from ciranda.web.api.fleet import within
from ciranda.web.api.rows import Item

HEAVY = ("loss_curve",)


class Compared(Asked):
    """Which runs."""

    runs: str = Field(min_length=1, max_length=2000, description="Two to six runs, with commas.")


class Log(Asked):
    """Which piece of a log."""

    offset: int = Field(0, ge=0, description="Where to begin, in bytes: `next` of the piece before.")


def listing(call: Call[OfModel]) -> Item:
    """Searches, newest first, each with its trials (without curves)."""
    db = call.platform.db
    found = rows.page(db, "searches", call.asked, order="started_at", model=within(call, call.asked.model))
    trials_ = rows.every(db, "trials", order="number", search=tuple(search["id"] for search in found["items"]))
    slim = [{name: value for name, value in trial.items() if name not in HEAVY} for trial in trials_]
    items = [
        {**search, "trials": [trial for trial in slim if trial["search"] == search["id"]]} for search in found["items"]
    ]
    return {**found, "items": items}


def one(call: Call[Nothing]) -> Item:
    """One run: its row and search, its curve and what it took, what it answered by the way, what it is made of."""
    trial = _mine(call, call.path["run"])
    found = runs.one(call.platform, trial.id)
    return found if runs.sees(call.platform, call.principal, str(found["dataset"])) else _wordless(found)


def compare(call: Call[Compared]) -> Item:
    """Runs beside each other."""
    found = [_mine(call, name.strip()) for name in call.asked.runs.split(",") if name.strip()]
    told = runs.compare(call.platform, runs.chosen(call.platform, [trial.id for trial in found]))
    datasets = {str(trials.get(call.platform.db, trial.search)["dataset"]) for trial in found}
    seen = all(runs.sees(call.platform, call.principal, one) for one in datasets)
    return told if seen else {**told, "samples": []}


def log(call: Call[Log]) -> Item:
    """A piece of a run's log."""
    return runs.log(call.platform, _mine(call, call.path["run"]), call.asked.offset)


def cancel(call: Call[Nothing]) -> Item:
    """End a run, and free what it holds."""
    return runs.cancel(call.platform, _mine(call, call.path["run"], right="train"), actor=call.actor)


def _mine(call: Call[Any], name: str, *, right: str = "view") -> Trial:
    """The run, if the key has the right on its model."""
    trial = trials.find(call.platform.db, name)
    call.require(runs.model_of(call.platform, trial), right=right)
    return trial


def _wordless(found: Item) -> Item:
    return {**found, "telemetry": {**found["telemetry"], "samples": []}}
