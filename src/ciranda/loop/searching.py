"""Searches that somebody asks for, outside of a turn: their verbs, and how the leader keeps them going.

    start     a row; the leader prepares the bases, writes the rows that trials read, freezes the plan, and follows it to its end
    stop      begins nothing more and frees what runs; `resume` goes on, also with more room
    workers   how many trials train at the same time, changed in the middle
    release   a turn for the event of the search: it finds the search done, and registers, examines, gates and releases its best

A turn's own search is the same thing under the turn's id, followed by the turn (`steps.search`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec
from ciranda.data import versions as datasets
from ciranda.errors import CirandaError, Invalid, Refused
from ciranda.govern import audit
from ciranda.jobs.placed import LOCAL
from ciranda.loop import estimates, picks, planning, turns
from ciranda.loop.heavy import POLL_S, Told
from ciranda.loop.platform import Platform
from ciranda.loop.probing import Probe
from ciranda.registry import models
from ciranda.store import clock, ids
from ciranda.train import plans, spaces, trials
from ciranda.train import search as searches
from ciranda.train.plans import Plan
from ciranda.train.recipe import Recipe
from ciranda.train.search import Search
from ciranda.train.studies import Studies
from ciranda.train.trials import Trial

EVENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
PLACES = ("bases", "rows", "validation", "init_adapter", "init_weights")  # of this machine, and nobody's business
Row = Mapping[str, Any]


def start(
    platform: Platform, model: str, *, actor: str, event: str = "", dataset: str = "", workers: int | None = None,
    bounds: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Ask for a search; the leader begins it within a second. The same event again is the same search. Returns its id.

    Args:
        dataset: A dataset version to learn from; without it the newest of the model's dataset.
        workers: Trials at the same time; without it, what the model's file says.
        bounds: `limit`, `budget_s`, `money` in place of the file's.

    Raises:
        Invalid: The event names no search, or the space of the model's file is wrong.
        Refused: There is no data yet.
    """
    event = event or ids.new("ask")
    if not EVENT.fullmatch(event):
        raise Invalid(f"{event!r} names no search", where="event", remedy="use up to 80 of A-Z a-z 0-9 . _ -")
    with platform.db.reading() as conn:
        spec = models.get(conn, model).spec
    spaces.check(spec)
    ref = _dataset(platform, spec, dataset)
    file = spec.train.search
    asked = {"limit": file.trials, "budget_s": file.budget, "money": file.money}
    asked = plans.raised(asked, bounds or {})
    identifier = f"search:{model}:{event}"
    searches.ask(
        platform.db, identifier, model=model, dataset=ref, turn="", plan=asked, actor=actor,
        workers=file.workers if workers is None else workers,
        detail={"model": model, "dataset": ref, "trials": asked["limit"]},
    )  # fmt: skip
    return identifier


def _dataset(platform: Platform, spec: ModelSpec, asked: str) -> str:
    if asked:
        return datasets.get(platform.db, asked).ref
    newest = datasets.newest_of(platform.db, spec.dataset)
    if newest is None:
        raise Refused(
            f"{spec.model} has no data yet", where=spec.dataset, remedy=f"`ciranda ingest {spec.model}` first"
        )
    return newest.ref


def expected(platform: Platform, identifier: str) -> dict[str, Any]:
    """What a search that was asked for will take in all, within its own bounds; for people, never an error."""
    row = trials.get(platform.db, identifier)
    with platform.db.reading() as conn:
        spec = models.get(conn, row["model"]).spec
    bounds = {"trials": row["plan"]["limit"], "budget": row["plan"]["budget_s"], "workers": row["workers"]}
    train = spec.train.model_copy(update={"search": spec.train.search.model_copy(update=bounds)})
    return estimates.told(platform, spec.model_copy(update={"train": train}), dataset=row["dataset"])


def release(platform: Platform, identifier: str, *, actor: str) -> str:
    """Take the best of a search through registration, exam, gates and release: a turn that finds its training done.

    Raises:
        Refused: The search has no end yet, or no result.
        Conflict: Another turn of the model is under way.
    """
    row = trials.get(platform.db, identifier)
    if row["turn"] or row["state"] != "complete":
        raise Refused(
            f"the search is {row['state']}" if not row["turn"] else f"{row['turn']} has its best trial already",
            where=identifier,
            remedy="wait for its end, or `ciranda search resume` it" if not row["turn"] else "look at that turn",
        )
    with platform.db.writing() as conn:
        return turns.ask(
            conn, row["model"], cause="search", event=identifier.split(":", 2)[2], actor=actor,
            reason=f"{actor} asked for the best of {identifier}",
        )  # fmt: skip


# --- what there is to see ---------------------------------------------------------------------------------------------


def measured(plan: Mapping[str, Any]) -> list[str]:
    """What a kept plan has measured beside quality."""
    return [plans.MEASURES[name] for name in plan.get("objectives", ()) if name in plans.MEASURES]


def summed(platform: Platform, row: Row) -> dict[str, Any]:
    """A search in short: how many trials of each state, what was reached, what it took."""
    return _summed(row, trials.of(platform.db, row["id"]))


def _summed(row: Row, known: Sequence[Trial]) -> dict[str, Any]:
    plan = row["plan"]
    took = sum(one.spent_s for one in known)
    best = next((one for one in known if one.number == row["best"]), None)
    return {
        **{name: value for name, value in row.items() if name != "plan"},
        **{name: plan.get(name) for name in ("limit", "budget_s", "money", "price")},
        "states": dict(Counter(one.state for one in known)),
        "worked_s": trials.elapsed_s(row),
        "worker_s": took,
        "spent": took / 3600 * float(plan.get("price") or 0.0),
        "reached": best.objective if best else None,
    }


def told(platform: Platform, identifier: str) -> dict[str, Any]:
    """A search, whole: its plan, its trials without their losses, which won and which are beaten by none. Raises NotFound."""
    row, known = trials.get(platform.db, identifier), trials.of(platform.db, identifier)
    plan = plans.of(row)
    front = plans.front(plan, known) if plan else frozenset()
    ahead = row["best"] if row["best"] is not None or plan is None else plans.chosen(plan, known)
    return {
        **_summed(row, known),
        "plan": {name: value for name, value in row["plan"].items() if name not in PLACES},
        "ahead": ahead,
        "trials": [
            {
                "id": one.id, "number": one.number, "state": one.state, "base": one.base, "mix": one.mix,
                "recipe": one.recipe.model_dump(mode="json"), "objective": one.objective, "loss": one.loss,
                "measures": dict(one.measures), "checks": [vars(check) for check in one.checks], "spent_s": one.spent_s,
                "attempt": one.attempt, "reason": one.reason, "front": one.number in front, "best": one.number == ahead,
            }
            for one in known
        ],
    }  # fmt: skip


# --- the leader's part ------------------------------------------------------------------------------------------------


class Searching:
    """The leader's part: follows every search that no turn follows."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.studies = Studies(platform.db)

    def tick(self) -> None:
        """One look at each search that goes on, and at each other one that still holds something."""
        for row in self._due():
            try:
                self._follow(row)
            except CirandaError as error:
                if error.retry:
                    raise
                self._fail(row, error)

    def _due(self) -> list[Row]:
        held, one = trials.searches, trials.trials
        open_ = sa.exists().where(one.c.search == held.c.id, one.c.state.in_(trials.OPEN))
        mine = (held.c.turn == "") & ((held.c.state == "running") | open_)
        with self.platform.db.reading() as conn:
            return [
                dict(row) for row in conn.execute(sa.select(held).where(mine).order_by(held.c.started_at)).mappings()
            ]

    def _follow(self, row: Row) -> None:
        with self.platform.db.reading() as conn:
            spec = models.get(conn, row["model"]).spec
        plan = plans.of(row) or self._planned(spec, row)
        if plan is not None:
            driver(self.platform, spec, plan, self.studies, crowd=self._crowd(plan.id)).step(actor="loop")

    def _planned(self, spec: ModelSpec, row: Row) -> Plan | None:
        """The whole plan, once the bases are prepared."""
        if not planning.ready(self.platform, spec):
            return None
        plan = planning.planned(self.platform, spec, row["dataset"], name=row["id"], bounds=row["plan"])
        searches.freeze(self.platform.db, plan)
        return plan

    def _crowd(self, mine: str) -> int:
        """Trials of other searches that train on this machine by now."""
        one = trials.trials
        others = sa.select(one.c.job).where(one.c.state == "running", one.c.search != mine)
        with self.platform.db.reading() as conn:
            return sum(self.platform.jobs.where(str(job)) == LOCAL for job in conn.execute(others).scalars())

    def _fail(self, row: Row, error: CirandaError) -> None:
        with self.platform.db.writing() as conn:
            values = {"state": "failed", "reason": str(error)[:2000], "ended_at": clock.iso()}
            conn.execute(trials.searches.update().where(trials.searches.c.id == row["id"]).values(**values))
            detail = {"reason": error.message[:500]}
            audit.record(conn, actor="loop", action="search.failed", subject=row["id"], detail=detail)


def driver(platform: Platform, spec: ModelSpec, plan: Plan, studies: Studies, *, crowd: int = 0) -> Search:
    """Who follows a search: trainer, study, measure and admission of its model."""
    return Search(
        platform.db, picks.trainer(platform, spec), studies, plan, crowd=crowd,
        measure=Probe(platform, spec, plan) if plan.measured or plan.compared else None,
        admit=lambda recipe, base: _admit(platform, spec, plan, recipe, base),
    )  # fmt: skip


def _admit(platform: Platform, spec: ModelSpec, plan: Plan, recipe: Recipe, base: str) -> None:
    """Refuse a recipe that the model's engine could not serve, or that would not fit into memory."""
    picks.servable(spec, recipe, planning.config(platform, base))
    estimates.demand(platform, spec.model_copy(update={"base": base}), recipe=recipe, dataset=plan.dataset)


# --- within a turn ----------------------------------------------------------------------------------------------------


def best(platform: Platform, spec: ModelSpec, dataset: str, *, turn: str, tell: Told) -> dict[str, Any]:
    """Look for the best recipe on a dataset version; it goes on from the live version's weights, where there are some.

    A search of the turn's event that somebody asked for before the turn is taken as it is, on the rows that it learnt from.

    Raises:
        Refused: The recipe could not be served by the model's engine; nothing was trained.
        Failed: No trial has a result.
    """
    name = f"search:{turn.removeprefix('turn:')}"
    plan = _asked(platform, name, turn, tell) or _whole(platform, spec, dataset, name=name, turn=turn)
    mine = driver(platform, spec, plan, Studies(platform.db))
    searches.begin(platform.db, plan, actor="loop", workers=spec.train.search.workers)
    found = searches.search(mine, actor="loop", tell=tell)
    return {
        "trial": found.id,
        "folder": found.folder,
        "tuning": found.figures.get("tuning", "lora"),
        "recipe": found.recipe.model_dump(mode="json"),
        "base": found.base,
        "mix": {found.mix: dict(spec.train.search.mixes.get(found.mix, {}))} if found.mix else {},
        "dataset": plan.dataset,
        "trials": len(trials.of(platform.db, found.search)),
        "summary": f"{found.objective or 0.0:.1%} exact on validation at rate {found.recipe.learning_rate:g}",
        "environment": dict(found.figures.get("environment", {})),
        "started_from": plan.started_from,
        "policies": dict(plan.policies),
    }


def _asked(platform: Platform, name: str, turn: str, tell: Told) -> Plan | None:
    """The plan of a search that began already: the turn's own before a crash, or one that was asked for, once that is over."""
    while row := trials.find_search(platform.db, name):
        if row["turn"] == turn or row["state"] != "running":
            return plans.of(row)
        tell(f"waits for {name}")
        time.sleep(POLL_S)
    return None


def _whole(platform: Platform, spec: ModelSpec, dataset: str, *, name: str, turn: str) -> Plan:
    while not planning.ready(platform, spec):
        time.sleep(POLL_S)
    return planning.planned(platform, spec, dataset, name=name, turn=turn)
