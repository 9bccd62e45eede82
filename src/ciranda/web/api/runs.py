"""Training: searches with their trials, and one trial (a run) with all it told; runs side by side, logs, an end to one;
versions that are trained again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import Field

from ciranda.loop import reproduce as reproducing
from ciranda.loop import runs
from ciranda.train import reproductions, trials
from ciranda.train.reproductions import Reproduction
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


def reproduce(call: Call[Nothing]) -> Item:
    """Train a version again, to see how near it comes."""
    ref = f"{call.path['model']}@{call.path['number']}"
    return asdict(reproducing.ask(call.platform, ref, actor=call.actor))


def reproduced(call: Call[OfModel]) -> Item:
    """Reproductions, newest first."""
    return rows.page(
        call.platform.db, "reproductions", call.asked, order="asked_at", model=within(call, call.asked.model)
    )


def reproduction(call: Call[Nothing]) -> Item:
    """One reproduction: its state, how far its run is, and at the end the verdict."""
    found = _reproduction(call, "view")
    heard = runs.trainer(call.platform, found.model).telemetry(found.job)
    step = heard.curve[-1].step if heard.curve else 0
    return {**asdict(found), "step": step, "steps": heard.steps, "left_s": heard.left_s}


def reproduction_cancel(call: Call[Nothing]) -> Item:
    """End one that is under way."""
    return asdict(reproducing.cancel(call.platform, _reproduction(call, "train").id, actor=call.actor))


def _reproduction(call: Call[Any], right: str) -> Reproduction:
    with call.platform.db.reading() as conn:
        found = reproductions.get(conn, call.path["reproduction"])
    call.require(found.model, right=right)
    return found


def _mine(call: Call[Any], name: str, *, right: str = "view") -> Trial:
    """The run, if the key has the right on its model."""
    trial = trials.find(call.platform.db, name)
    call.require(runs.model_of(call.platform, trial), right=right)
    return trial


def _wordless(found: Item) -> Item:
    return {**found, "telemetry": {**found["telemetry"], "samples": []}}
