"""Runs as people ask for them: one whole, several beside each other, the log, and an end to one that goes on.

A run is a trial: one training job with its recipe. Its row says how it stands, its job's lines say the rest (`train.telemetry`),
its result what it is made of (`train.provenance`). A cancellation is one row first, so that nobody begins or closes the trial any
more; then its job is ended, and the leader ends it again if whoever cancelled died in between (`Cancelled`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ciranda.data import reading
from ciranda.errors import Conflict, Forbidden, Invalid, NotFound
from ciranda.govern.access import Principal
from ciranda.loop import picks
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.train import provenance, telemetry, trials
from ciranda.train.run import Jobs
from ciranda.train.telemetry import Telemetry
from ciranda.train.trials import Trial

MOST_COMPARED = 6
QUOTED = frozenset({"messages", "completion"})  # the fields of a row that a sample shows
FIGURES = ("tokens_per_s", "peak_rss_bytes", "seconds", "cpu_seconds", "rows", "rows_left_out", "resumed_at")


def model_of(platform: Platform, trial: Trial) -> str:
    """The model that a run is for."""
    return str(trials.get(platform.db, trial.search)["model"])


def trainer(platform: Platform, model: str) -> Jobs:
    """Who trains the runs of a model; of one whose file is gone, this machine."""
    try:
        with platform.db.reading() as conn:
            return picks.trainer(platform, models.get(conn, model).spec)
    except NotFound:
        return Jobs(platform.jobs, platform.home.jobs)


def told(platform: Platform, trial: Trial) -> Telemetry:
    """What a run told so far."""
    return trainer(platform, model_of(platform, trial)).telemetry(trial.job)


def made_of(trial: Trial, heard: Telemetry) -> dict[str, Any]:
    """Digests, seed and environment of a run: from its result, else from what it told at its beginning."""
    return dict(trial.figures.get("provenance") or heard.run)


def sees(platform: Platform, who: Principal, dataset: str) -> bool:
    """Whether somebody may read the texts of the rows that a run was asked: samples quote them."""
    try:
        bound = reading.decision(platform.db, dataset, reading.asking(who, "viewing"))
    except Forbidden:
        return False
    return not (bound.rows or bound.fields & QUOTED)


def one(platform: Platform, name: str) -> dict[str, Any]:
    """Everything about one run: its row, the search, telemetry, what it is made of."""
    trial = trials.find(platform.db, name)
    search = trials.get(platform.db, trial.search)
    heard = told(platform, trial)
    return {
        **asdict(trial),
        "recipe": trial.recipe.model_dump(),
        "model": search["model"],
        "dataset": search["dataset"],
        "of": search,
        "made_of": made_of(trial, heard),
        "telemetry": heard.to_dict(),
    }


def log(platform: Platform, trial: Trial, offset: int) -> dict[str, Any]:
    """A piece of a run's log, and the offset to go on with."""
    piece, after = trainer(platform, model_of(platform, trial)).logs(trial.job, offset)
    return {"run": trial.id, "text": piece.decode(errors="replace"), "next": after, "state": trial.state}


def chosen(platform: Platform, names: Sequence[str]) -> list[Trial]:
    """The runs to compare, each once. Raises Invalid unless there are two to six."""
    found = list({trial.id: trial for trial in (trials.find(platform.db, name) for name in names)}.values())
    if not 2 <= len(found) <= MOST_COMPARED:
        raise Invalid(
            f"{len(found)} runs cannot be compared", where="runs", remedy=f"name two to {MOST_COMPARED} different runs"
        )
    return found


def compare(platform: Platform, found: Sequence[Trial]) -> dict[str, Any]:
    """Runs beside each other: how their recipes differ, what they scored, what they are made of, what they answered."""
    heard = [told(platform, trial) for trial in found]
    sources = [made_of(trial, one) for trial, one in zip(found, heard, strict=True)]
    names = [trial.id for trial in found]
    recipes = {name: trial.recipe.model_dump() for name, trial in zip(names, found, strict=True)}
    return {
        "runs": [_row(platform, trial) for trial in found],
        "recipe": {"differs": differing(recipes), "same": agreeing(recipes)},
        "made_of": {
            name: provenance.differences(sources[0], other) for name, other in zip(names, sources, strict=True)
        },
        "curves": {
            name: [[one.step, one.loss] for one in told_.curve] for name, told_ in zip(names, heard, strict=True)
        },
        "samples": beside(names, heard),
    }


def _row(platform: Platform, trial: Trial) -> dict[str, Any]:
    validation = trial.figures.get("validation") or {}
    return {
        "id": trial.id, "model": model_of(platform, trial), "state": trial.state, "number": trial.number,
        "objective": trial.objective, "loss": trial.loss, "validation": validation,
        "figures": {name: trial.figures[name] for name in FIGURES if name in trial.figures},
        "started_at": trial.started_at, "reason": trial.reason,
    }  # fmt: skip


def differing(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is not the same everywhere: key by key, the value of each. Pure."""
    keys = dict.fromkeys(key for one in values.values() for key in one)
    return {
        key: {name: one.get(key) for name, one in values.items()}
        for key in keys
        if len({repr(one.get(key)) for one in values.values()}) > 1
    }


def agreeing(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is the same everywhere. Pure."""
    other = differing(values)
    return {key: value for one in list(values.values())[:1] for key, value in one.items() if key not in other}


def beside(names: Sequence[str], heard: Sequence[Telemetry]) -> list[dict[str, Any]]:
    """The last answer of each run to each question that several were asked. Pure."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in zip(names, heard, strict=True):
        for sample in sorted(one.samples, key=lambda one: one.step):
            row = found.setdefault(sample.prompt, {"prompt": sample.prompt, "reference": sample.reference})
            row.setdefault("answers", {})[name] = {"step": sample.step, "answer": sample.answer, "right": sample.right}
    return list(found.values())[: telemetry.MOST_SAMPLES]


# --- an end to one ----------------------------------------------------------------------------------------------------


def cancel(platform: Platform, trial: Trial, *, actor: str) -> dict[str, Any]:
    """End a run for good and free what it holds. Cancelled before: nothing happens.

    Raises:
        Conflict: It ended by itself.
    """
    with platform.db.writing() as conn:
        now = trials.cancel(conn, trial, actor=actor)
    after = trials.find(platform.db, trial.id)
    if not now and after.state != "cancelled":
        raise Conflict(
            f"{trial.id} is {after.state} already", where="trials", remedy="only what waits or runs can be cancelled"
        )
    trainer(platform, model_of(platform, trial)).cancel(trial.job)
    return {"run": trial.id, "state": "cancelled"}


class Cancelled:
    """The leader's look at cancelled trials: none of them may have a process."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._ended: set[str] = set()

    def look(self) -> None:
        """End what still runs of trials that were cancelled; one that was seen to have ended is not looked at again."""
        for trial in trials.cancelled(self.platform.db):
            if trial.id in self._ended:
                continue
            who = trainer(self.platform, model_of(self.platform, trial))
            if who.status(trial.job).state == "running":
                who.cancel(trial.job)
            elif trials.get(self.platform.db, trial.search)["state"] != "running":
                self._ended.add(trial.id)  # nobody begins it any more
