"""The search for a recipe: trials, each a training run, the best of which becomes a version.

A search is a function of its rows (`train.trials`). `tick` looks at them and at the runs, decides (`plans.decide`, pure), acts, and
writes what it saw; `search` ticks until it is over. Kill it anywhere and call it again under the same id: recipes were written
before their runs began, and a run's key follows from the search, its number and its attempt, so nothing is trained twice or
forgotten. The study (`train.studies`) follows the rows.

Trial 0 is the recipe as given. The next ones come from the study. Quality is exact match on the validation split, ties broken by
loss; the test split is never touched. What else is weighed is measured on the finished run (`Measure`). A trial that is far behind
at the same part of its run is ended early.

Stopped, a search frees what it holds: its runs are halted, with their checkpoints, and go on where they were when it is resumed. A
search that a turn waits for hands over the best of what is complete instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from ciranda.errors import Conflict, Failed, Invalid, Refused
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database
from ciranda.train import endings, plans, spaces, studies, trials
from ciranda.train.plans import OBJECTIVE, Plan
from ciranda.train.recipe import Recipe, Spec
from ciranda.train.run import CANCELLED, Result, Status, Trainer, cores
from ciranda.train.studies import Studies
from ciranda.train.trials import STOPPED, Trial, change, searches

POLL_S = 0.25
Tell = Callable[[str], None]


class Measure(Protocol):
    """Who measures a finished run (`latency_ms`, `size_mb`); None while it is still under way. Asked again and again."""

    def __call__(self, trial: Trial, result: Result) -> Mapping[str, float] | None: ...


Admit = Callable[[Recipe, str], None]


class Search:
    """Follows one search to its end; any process may take over at any line.

    Args:
        trainer: Where its runs are done.
        studies: What it learns from.
        plan: What is asked.
        measure: Who measures what is weighed beside quality.
        admit: Refuses a drawn recipe on a base that the model's engine could not serve, before anything is trained.
        crowd: How many trials of other searches run on this machine, which leaves fewer places for ours.
    """

    def __init__(
        self, db: Database, trainer: Trainer, studies: Studies, plan: Plan, *, measure: Measure | None = None,
        admit: Admit | None = None, crowd: int = 0,
    ) -> None:  # fmt: skip
        self.db, self.trainer, self.studies, self.plan = db, trainer, studies, plan
        self.measure, self.admit, self.crowd = measure, admit, crowd

    def tick(self, *, actor: str) -> Trial | None:
        """One look at everything, one move; the best trial when the search is over.

        Raises:
            Failed: It is over and no trial has a result.
        """
        self.step(actor=actor)
        return self._outcome()

    def step(self, *, actor: str) -> None:
        """One look at everything, one move."""
        row = trials.get(self.db, self.plan.id)
        if row["state"] != "running":
            self._halt()
        else:
            self._look()
            self._move(row, actor=actor)
        self.studies.follow(self.plan, trials.of(self.db, self.plan.id))

    def _look(self) -> None:
        known = trials.of(self.db, self.plan.id)
        for trial in known:
            if trial.open:
                self._follow(trial, known)

    def _move(self, row: Mapping[str, Any], *, actor: str) -> None:
        known = trials.of(self.db, self.plan.id)
        self.studies.follow(self.plan, known)
        move = plans.decide(self.plan, known, elapsed_s=trials.elapsed_s(row), places=self._places(row))
        if move.kind == "begin":
            self._write(len(known))
        elif move.kind == "end":
            self._end(move.best, actor=actor)

    def _places(self, row: Mapping[str, Any]) -> int:
        """How many trials may run: as many as were asked for, else as fit this machine beside those of others."""
        return int(row["workers"]) or max(1 if self.plan.turn else 0, self.trainer.places(self.plan.limit, self.crowd))

    # --- one trial ----------------------------------------------------------------------------------------------------

    def _follow(self, trial: Trial, known: list[Trial]) -> None:
        """Bring one open trial's row up to its run: begin it (again), follow it, end it early, or close it."""
        status = self.trainer.status(trial.job)
        if status.state == "gone":
            self.trainer.submit(trial.job, self._spec(trial), after=trial.folder if trial.attempt > 1 else "")
            change(self.db, trial, state="running", folder=trial.job, since=trial.since or clock.iso())
        elif status.state == "running":
            self._running(trial, known)
        elif status.state == "failed":
            self._close(trial, *self._why(status, trial, known), loss_curve=self.trainer.curve(trial.job))
        else:
            self._complete(trial)

    def _running(self, trial: Trial, known: list[Trial]) -> None:
        curve, checks = self.trainer.curve(trial.job), self.trainer.checks(trial.job)
        if len(curve) <= len(trial.loss_curve) and len(checks) <= len(trial.checks):
            return
        now = replace(trial, loss_curve=curve, checks=checks)
        change(self.db, trial, state="running", loss_curve=curve, checks=checks)
        if self.plan.prune and len(checks) > len(trial.checks) and studies.behind(now, known):
            self.trainer.cancel(trial.job)
            self._close(trial, "pruned", _behind(now))

    def _why(self, status: Status, trial: Trial, known: list[Trial]) -> tuple[str, str]:
        """State and reason of a run that has no result; one that was ended for being behind, before that was written, still is."""
        if status.reason != CANCELLED:
            return "failed", status.reason
        now = replace(trial, checks=self.trainer.checks(trial.job))
        if self.plan.prune and studies.behind(now, known):
            return "pruned", _behind(now)
        return "cancelled", status.reason

    def _complete(self, trial: Trial) -> None:
        try:
            result: Result = self.trainer.collect(trial.job)
            measures = self.measure(trial, result) if self.measure else {}
        except Failed as error:
            self._close(trial, "failed", error.message)
            return
        if measures is None:
            return
        quality = measures.get("exact_match", result.exact_match)
        figures = {name: value for name, value in result.about.items() if name != "loss_curve"}
        self._close(
            trial, "complete", "", objective=quality, loss=result.loss, loss_curve=result.curve, figures=figures,
            seconds=result.seconds, folder=str(result.folder), measures=dict(measures), checks=self.trainer.checks(trial.job),
        )  # fmt: skip

    def _close(self, trial: Trial, state: str, reason: str, **values: Any) -> None:
        change(self.db, trial, state=state, reason=reason, ended_at=clock.iso(), **values)

    def _spec(self, trial: Trial) -> Spec:
        row = trials.get(self.db, self.plan.id)
        return Spec(
            base=self.plan.bases[trial.base].folder,
            rows=self.plan.rows[f"{trial.recipe.method}/{trial.mix}"],
            validation=self.plan.validation[trial.recipe.method],
            output=Path("output"),
            recipe=plans.checked(self.plan, trial.recipe),
            init_adapter=self.plan.init_adapter,
            init_weights=self.plan.init_weights,
            threads=max(1, cores() // max(1, self._places(row))),
        )

    def _write(self, number: int) -> None:
        """A trial's row, before its run: whoever comes after a crash begins exactly this one."""
        plan = self.plan
        values = self.studies.suggest(plan, number) if number and plan.space else {}
        base, mix = str(values.get(spaces.BASE, plan.base)), str(values.get(spaces.MIX, plan.mix))
        recipe, reason = self._drawn(values, base, number)
        now = clock.iso()
        with self.db.writing() as conn:
            conn.execute(
                trials.trials.insert().values(
                    id=f"{plan.id}.{number}", search=plan.id, number=number, state="failed" if reason else "waiting",
                    recipe=recipe.model_dump(mode="json"), base=base, mix=mix, loss_curve=[], checks=[], measures={},
                    job=key(plan.id, number), attempt=1, folder="", reason=reason, figures={}, started_at=now, worked_s=0.0,
                    ended_at=now if reason else None,
                )
            )  # fmt: skip

    def _drawn(self, values: Mapping[str, Any], base: str, number: int) -> tuple[Recipe, str]:
        """The recipe of a trial, and why it is not even tried: values that contradict each other, or what could not be served."""
        where = f"{self.plan.id} trial {number}"
        try:
            recipe = spaces.drawn(self.plan.recipe, values, where=where)
            if self.admit is not None:
                self.admit(recipe, base)
        except (Invalid, Refused) as error:
            mine = {name: value for name, value in values.items() if name in Recipe.model_fields}
            return self.plan.recipe.model_copy(update=mine), error.message
        return recipe, ""

    # --- the end ------------------------------------------------------------------------------------------------------

    def _halt(self) -> None:
        """Free what a search holds that does not go on; what its runs had saved is kept."""
        for trial in trials.of(self.db, self.plan.id):
            if trial.open:
                self.trainer.halt(trial.job)
                curve, checks = self.trainer.curve(trial.job), self.trainer.checks(trial.job)
                self._close(trial, "cancelled", STOPPED, loss_curve=curve, checks=checks)

    def _end(self, best: int | None, *, actor: str) -> None:
        known = trials.of(self.db, self.plan.id)
        state = "failed" if best is None else "complete"
        reasons = (
            endings.say("of", number=one.number, reason=one.reason)
            for one in known
            if one.state in ("failed", "cancelled")
        )
        reason = next(reasons, "") if best is None else ""
        with self.db.writing() as conn:
            row = trials.held(conn, self.plan.id)
            if row["state"] != "running":  # stopped at this very moment
                return
            conn.execute(
                searches.update()
                .where(searches.c.id == self.plan.id)
                .values(
                    state=state, best=best, reason=reason, ended_at=clock.iso(), worked_s=trials.elapsed_s(row)
                )
            )  # fmt: skip
            detail = {"best": best, "trials": len(known), "reason": reason[:500]}
            audit.record(conn, actor=actor, action=f"search.{state}", subject=self.plan.id, detail=detail)

    def _outcome(self) -> Trial | None:
        row = trials.get(self.db, self.plan.id)
        known = trials.of(self.db, self.plan.id)
        if row["state"] == "running":
            return None
        best = row["best"] if row["state"] != "stopped" else plans.chosen(self.plan, known)
        if best is None:
            raise Failed(
                f"no trial of the search has a result; {row['reason']}".rstrip("; "),
                where=self.plan.id,
                remedy="correct the recipe or the space under `train`, then start another one",
            )
        return next(trial for trial in known if trial.number == best)


def key(search: str, number: int, attempt: int = 1) -> str:
    """The key of a trial's run."""
    return f"train:{search}:{number}" + (f".{attempt}" if attempt > 1 else "")


def _behind(trial: Trial) -> str:
    return endings.say("behind", step=trial.checks[-1].step)


def search(driver: Search, *, actor: str, tell: Tell = lambda _: None) -> Trial:
    """Search to the end and return the best trial. Called again after a crash it goes on; after its end it answers at once.

    Raises:
        Failed: No trial has a result; says why the first failed.
    """
    plan = driver.plan
    begin(driver.db, plan, actor=actor)
    while (found := driver.tick(actor=actor)) is None:
        tell(trials.summary(trials.of(driver.db, plan.id), plan.limit))
        time.sleep(POLL_S)
    tell(trials.summary(trials.of(driver.db, plan.id), plan.limit))
    return found


# --- what people ask of it --------------------------------------------------------------------------------------------


def begin(db: Database, plan: Plan, *, actor: str, workers: int = 0) -> None:
    """Write the search's row, once."""
    detail = {"model": plan.model, "dataset": plan.dataset, "trials": plan.limit}
    ask(db, plan.id, model=plan.model, dataset=plan.dataset, turn=plan.turn, plan=plan.to_dict(), actor=actor,
        workers=workers, detail=detail)  # fmt: skip


def ask(
    db: Database, identifier: str, *, model: str, dataset: str, turn: str, plan: Mapping[str, Any], actor: str,
    workers: int, detail: Mapping[str, Any],
) -> bool:  # fmt: skip
    """Write a search's row, whole or only asked for; whether it was not there before."""
    with db.writing() as conn:
        if conn.execute(sa.select(searches.c.id).where(searches.c.id == identifier)).first():
            return False
        now = clock.iso()
        conn.execute(
            searches.insert().values(
                id=identifier, model=model, dataset=dataset, turn=turn, state="running", objective=OBJECTIVE, plan=dict(plan),
                workers=workers, reason="", asked_by=actor, started_at=now, since=now, worked_s=0.0,
            )
        )  # fmt: skip
        audit.record(conn, actor=actor, action="search.started", subject=identifier, detail=dict(detail))
    return True


def freeze(db: Database, plan: Plan) -> None:
    """Keep the whole plan of a search that was only asked for; its clock begins now. Once: what is whole stays as it is."""
    with db.writing() as conn:
        if plans.of(trials.held(conn, plan.id)) is None:
            values = {"plan": plan.to_dict(), "dataset": plan.dataset, "since": clock.iso(), "reason": ""}
            conn.execute(searches.update().where(searches.c.id == plan.id).values(**values))


def stop(db: Database, identifier: str, *, actor: str) -> dict[str, Any]:
    """Begin nothing more and end what runs; whoever keeps the search frees it within a moment.

    Raises:
        Conflict: It is over already.
    """
    with db.writing() as conn:
        row = trials.held(conn, identifier)
        if row["state"] == "stopped":
            return row
        if row["state"] != "running":
            raise Conflict(
                f"the search is {row['state']}", where=identifier, remedy="`ciranda search show` has its end"
            )
        _change(
            conn,
            row,
            state="stopped",
            worked_s=trials.elapsed_s(row),
            reason=endings.say("stopped", actor=actor),
            ended_at=clock.iso(),
        )
        audit.record(conn, actor=actor, action="search.stopped", subject=identifier)
        return trials.held(conn, identifier)


def resume(db: Database, identifier: str, *, actor: str, bounds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Go on with a search that was stopped, or that is over and gets more room; halted trials go on from their checkpoints.

    Args:
        bounds: `limit`, `budget_s`, `money` in place of what it had.

    Raises:
        Refused: A turn went on with its best trial.
        Conflict: It runs.
    """
    with db.writing() as conn:
        row = trials.held(conn, identifier)
        if row["turn"]:
            raise Refused(f"{row['turn']} went on with its best trial", where=identifier,
                          remedy=f"start one of its own: `ciranda search start {row['model']}`")  # fmt: skip
        if row["state"] == "running":
            raise Conflict(
                "the search runs", where=identifier, remedy="`ciranda search workers` changes how many at a time"
            )
        plan = plans.raised(_standing(row["plan"]), bounds or {})
        _change(conn, row, state="running", best=None, since=clock.iso(), ended_at=None, reason="", plan=plan)
        mine = (trials.trials.c.search == identifier) & (trials.trials.c.state == "cancelled")
        for held in conn.execute(sa.select(trials.trials).where(mine, trials.trials.c.reason == STOPPED)).mappings():
            _again(conn, trials.trial(dict(held)))
        audit.record(conn, actor=actor, action="search.resumed", subject=identifier, detail=dict(bounds or {}))
        return trials.held(conn, identifier)


def _standing(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """A kept plan; only its bounds where the rows that it names are gone (a person was erased): then it is planned anew."""
    written = [*plan.get("rows", {}).values(), *plan.get("validation", {}).values()]
    if all(Path(path).exists() for path in written):
        return plan
    return {name: plan[name] for name in plans.BOUNDS}


def _again(conn: sa.Connection, trial: Trial) -> None:
    attempt = trial.attempt + 1
    values = {
        "state": "waiting", "reason": "", "ended_at": None, "since": None, "worked_s": trial.spent_s, "attempt": attempt,
        "job": key(trial.search, trial.number, attempt), "folder": trial.job,
    }  # fmt: skip
    conn.execute(trials.trials.update().where(trials.trials.c.id == trial.id).values(**values))


def staff(db: Database, identifier: str, workers: int, *, actor: str) -> dict[str, Any]:
    """Train so many trials at the same time from now on; 0 fits them to the machine. Those that run go on.

    Raises:
        Conflict: It is over.
    """
    with db.writing() as conn:
        row = trials.held(conn, identifier)
        if row["state"] not in ("running", "stopped"):
            raise Conflict(f"the search is {row['state']}", where=identifier, remedy="resume it with more trials first")
        _change(conn, row, workers=workers)
        audit.record(conn, actor=actor, action="search.workers", subject=identifier, detail={"workers": workers})
        return trials.held(conn, identifier)


def _change(conn: sa.Connection, row: Mapping[str, Any], **values: Any) -> None:
    conn.execute(searches.update().where(searches.c.id == row["id"]).values(**values))
