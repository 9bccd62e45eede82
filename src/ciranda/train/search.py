"""The search for a recipe: trials, each a training run, the best of which becomes a version. The one file that names Optuna.

A search is a function of its rows (`train.trials`). `tick` looks at them and at the runs, decides (`decide`, pure), acts, and
writes what it saw; `search` ticks until it is over. Kill it anywhere and call it again under the same id: recipes were written
before their runs began, and a run's key follows from the search and its number, so nothing is trained twice or forgotten.

Trial 0 is the recipe as given. The next ones come from Optuna's TPE sampler, seeded by their number and fed with the trials so
far. The objective is teacher-forced exact match on the validation split, ties broken by loss; the test split is never touched.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy as sa

from ciranda.errors import Failed
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import Database
from ciranda.train import recipe as recipes
from ciranda.train import trials
from ciranda.train.recipe import Recipe, Spec
from ciranda.train.run import Result, Trainer, abreast, cores
from ciranda.train.trials import Trial, change

POLL_S = 0.25
OBJECTIVE = "validation exact match"


@dataclass(frozen=True)
class Range:
    """A number to look for between two bounds, evenly over its logarithm when `log`."""

    low: float
    high: float
    log: bool = True


Space = Mapping[str, Range | tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """What a search is asked to do; frozen into its row when it begins.

    Args:
        id: Names the search; the same id is the same search.
        base: A prepared base's folder.
        rows: The JSON-lines file to train on, and `validation` the one to judge by.
        recipe: The recipe as given: trial 0, and what all trials have where `space` says nothing.
        space: What may vary.
        limit: How many trials; no new one begins `budget_s` after the start.
        abreast: How many at the same time; 0 fits them to the machine.
        init_adapter: An adapter to go on from, and `init_weights` whole weights to go on from (`train.recipe.Spec`).
    """

    id: str
    model: str
    dataset: str
    base: Path
    rows: Path
    validation: Path
    recipe: Recipe = field(default_factory=Recipe)
    space: Space = field(default_factory=dict)
    limit: int = 2
    budget_s: float = 1200.0
    abreast: int = 0
    init_adapter: Path | None = None
    init_weights: Path | None = None
    turn: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The plan as its row keeps it, for people."""
        plain = {"base": str(self.base), "rows": str(self.rows), "validation": str(self.validation)}
        space = {name: vars(what) if isinstance(what, Range) else list(what) for name, what in self.space.items()}
        bounds = {"limit": self.limit, "budget_s": self.budget_s, "abreast": self.abreast}
        start = {name: str(at) if at else None for name, at in
                 (("init_adapter", self.init_adapter), ("init_weights", self.init_weights))}  # fmt: skip
        return plain | bounds | start | {"recipe": self.recipe.model_dump(), "space": space}


@dataclass(frozen=True)
class Move:
    """What a search does next: begin a trial, wait for one, or end with a best one (None: all failed)."""

    kind: Literal["begin", "wait", "end"]
    best: int | None = None


def space(
    recipe: Recipe, given: Mapping[str, Any], *, layers: int, going_on: bool = False
) -> dict[str, Range | tuple[int, ...]]:
    """What is worth varying: what measurably mattered, less what the user fixed.

    Args:
        recipe: The recipe as given: its method and tuning say which rates are worth a try.
        given: Keys of the recipe that must stay as they are.
        layers: How many layers the base has.
        going_on: From an existing adapter, whose shape is then fixed.
    """
    middle = recipes.usual(recipe.method, recipe.tuning)["learning_rate"]
    rate = Range(middle / 3, middle * 4 / 3) if going_on else Range(middle / 2, middle * 2)
    shape: dict[str, Range | tuple[int, ...]] = {
        "rank": (8, 16),
        "layers": tuple(sorted({layers * 2 // 5, layers // 2})),
    }
    found: dict[str, Range | tuple[int, ...]] = {
        "learning_rate": rate,
        **({} if going_on or recipe.tuning == "full" else shape),
    }
    return {name: what for name, what in found.items() if name not in given}


def decide(plan: Plan, done: Sequence[Trial], *, elapsed_s: float, places: int) -> Move:
    """What to do next, from the trials so far. At least one trial is made, however small the budget."""
    running = [trial for trial in done if trial.open]
    may_begin = len(done) < plan.limit and (elapsed_s < plan.budget_s or not done)
    if may_begin and len(running) < places:
        return Move("begin")
    return Move("wait") if running else Move("end", best_of(done))


def best_of(done: Sequence[Trial]) -> int | None:
    """The number of the best complete trial: highest objective, then lowest loss, then first."""
    complete = [trial for trial in done if trial.state == "complete"]
    if not complete:
        return None
    return min(complete, key=lambda one: (-(one.objective or 0.0), one.loss or 0.0, one.number)).number


def suggest(plan: Plan, done: Sequence[Trial]) -> Recipe:
    """The recipe of the next trial: the given one first, then what the sampler makes of the trials so far."""
    if not done or not plan.space:
        return plan.recipe
    number = len(done)
    mark = hashlib.sha256(f"{plan.id}:{number}".encode()).digest()
    sampler = optuna.samplers.TPESampler(seed=int.from_bytes(mark[:4], "big"), n_startup_trials=4, constant_liar=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    shapes = {name: _distribution(what) for name, what in plan.space.items()}
    for trial in done:
        study.add_trial(_known(trial, shapes, plan.space))
    values = study.ask(shapes).params
    if "rank" in values:
        values["alpha"] = plan.recipe.alpha / plan.recipe.rank * values["rank"]
    if "learning_rate" in values:
        values["learning_rate"] = float(f"{values['learning_rate']:.3g}")
    return recipes.recipe(plan.recipe.model_dump() | values, where=f"{plan.id} trial {number}")


def _distribution(what: Range | tuple[int, ...]) -> Any:
    if isinstance(what, Range):
        return optuna.distributions.FloatDistribution(what.low, what.high, log=what.log)
    return optuna.distributions.CategoricalDistribution(what)


def _known(trial: Trial, shapes: Mapping[str, Any], within: Space) -> Any:
    """A trial as Optuna sees it; one whose recipe lies outside of the space tells only that it was."""
    states = optuna.trial.TrialState
    ended = {"complete": states.COMPLETE, "failed": states.FAIL, "cancelled": states.FAIL}
    state = ended.get(trial.state, states.RUNNING)
    values = {name: getattr(trial.recipe, name) for name in shapes}
    inside = {name: value for name, value in values.items() if _lies_in(within[name], value)}
    return optuna.trial.create_trial(
        state=state,
        value=trial.objective if trial.state == "complete" else None,
        params=inside,
        distributions={name: shapes[name] for name in inside},
    )


def _lies_in(what: Range | tuple[int, ...], value: float) -> bool:
    return what.low <= value <= what.high if isinstance(what, Range) else value in what


def search(
    db: Database, trainer: Trainer, plan: Plan, *, actor: str, tell: Callable[[str], None] = lambda _: None
) -> Trial:
    """Search to the end and return the best trial. Called again after a crash it goes on; after its end it answers at once.

    Raises:
        Failed: every trial failed; says why the first did.
    """
    begin(db, plan, actor=actor)
    while (found := tick(db, trainer, plan, actor=actor)) is None:
        tell(trials.summary(trials.of(db, plan.id), plan.limit))
        time.sleep(POLL_S)
    tell(trials.summary(trials.of(db, plan.id), plan.limit))
    return found


def begin(db: Database, plan: Plan, *, actor: str) -> None:
    """Write the search's row, once."""
    with db.writing() as conn:
        if conn.execute(sa.select(trials.searches.c.id).where(trials.searches.c.id == plan.id)).first():
            return
        conn.execute(
            trials.searches.insert().values(
                id=plan.id, model=plan.model, dataset=plan.dataset, turn=plan.turn, state="running", objective=OBJECTIVE,
                plan=plan.to_dict(), reason="", started_at=clock.iso(),
            )
        )  # fmt: skip
        detail = {"model": plan.model, "dataset": plan.dataset, "trials": plan.limit}
        audit.record(conn, actor=actor, action="search.started", subject=plan.id, detail=detail)


def tick(db: Database, trainer: Trainer, plan: Plan, *, actor: str) -> Trial | None:
    """One look at everything, one move; the best trial when the search is over.

    Raises:
        Failed: it is over and every trial failed.
    """
    row = trials.get(db, plan.id)
    if row["state"] == "running":
        for trial in trials.of(db, plan.id):
            if trial.open:
                _look(db, trainer, plan, trial)
        elapsed = (clock.now() - clock.parse(row["started_at"])).total_seconds()
        known = trials.of(db, plan.id)
        places = plan.abreast or abreast(plan.limit)
        move = decide(plan, known, elapsed_s=elapsed, places=places)
        if move.kind == "begin":
            _write(db, plan, suggest(plan, known), len(known))
        if move.kind != "end":
            return None
        _end(db, plan, move.best, actor=actor)
    return _outcome(db, plan)


def _look(db: Database, trainer: Trainer, plan: Plan, trial: Trial) -> None:
    """Bring one open trial's row up to its run: begin it (again), follow it, or close it."""
    status = trainer.status(trial.job)
    if status.state == "gone":
        trainer.submit(trial.job, _spec(plan, trial))
        change(db, trial, state="running", folder=trial.job)
    elif status.state == "running":
        if len(curve := trainer.curve(trial.job)) > len(trial.loss_curve):
            change(db, trial, state="running", loss_curve=curve)
    elif status.state == "failed":
        change(
            db, trial, state="failed", reason=status.reason, ended_at=clock.iso(), loss_curve=trainer.curve(trial.job)
        )
    else:
        _complete(db, trial, trainer)


def _complete(db: Database, trial: Trial, trainer: Trainer) -> None:
    try:
        result: Result = trainer.collect(trial.job)
    except Failed as error:
        change(db, trial, state="failed", reason=error.message, ended_at=clock.iso())
        return
    figures = {name: value for name, value in result.about.items() if name != "loss_curve"}
    change(
        db, trial, state="complete", objective=result.exact_match, loss=result.loss, loss_curve=result.curve,
        seconds=result.seconds, figures=figures, folder=str(result.folder), ended_at=clock.iso(),
    )  # fmt: skip


def _spec(plan: Plan, trial: Trial) -> Spec:
    places = plan.abreast or abreast(plan.limit)
    return Spec(
        base=plan.base,
        rows=plan.rows,
        validation=plan.validation,
        output=Path("output"),
        recipe=trial.recipe,
        init_adapter=plan.init_adapter,
        init_weights=plan.init_weights,
        threads=max(1, cores() // places),
    )


def _write(db: Database, plan: Plan, recipe: Recipe, number: int) -> None:
    """A trial's row, before its run: whoever comes after a crash begins exactly this one."""
    with db.writing() as conn:
        conn.execute(
            trials.trials.insert().values(
                id=f"{plan.id}.{number}", search=plan.id, number=number, state="waiting", recipe=recipe.model_dump(),
                loss_curve=[], job=f"train:{plan.id}:{number}", folder="", reason="", figures={}, started_at=clock.iso(),
            )
        )  # fmt: skip


def _end(db: Database, plan: Plan, best: int | None, *, actor: str) -> None:
    known = trials.of(db, plan.id)
    state = "failed" if best is None else "complete"
    reason = (
        next((f"trial {one.number}: {one.reason}" for one in known if one.state in ("failed", "cancelled")), "")
        if best is None
        else ""
    )
    with db.writing() as conn:
        conn.execute(
            trials.searches.update()
            .where(trials.searches.c.id == plan.id)
            .values(state=state, best=best, reason=reason, ended_at=clock.iso())
        )
        detail = {"best": best, "trials": len(known), "reason": reason[:500]}
        audit.record(conn, actor=actor, action=f"search.{state}", subject=plan.id, detail=detail)


def _outcome(db: Database, plan: Plan) -> Trial:
    row = trials.get(db, plan.id)
    if row["best"] is None:
        raise Failed(
            f"every trial of the search failed; {row['reason']}",
            where=plan.id,
            remedy="correct the recipe under `train`, then start another turn",
        )
    return next(trial for trial in trials.of(db, plan.id) if trial.number == row["best"])
