"""Studies: what Optuna knows of a search, and what it makes of it. The one file that names Optuna.

A search's rows (`train.trials`) say what is; its study is brought to match them at every look, so a kill between the two is healed
by the next one. The study is a real one: `optuna-dashboard` opens it, a notebook loads it, and trials that somebody added there
(`study.add_trial`) are learnt from. New recipes come from it: TPE over everything that it holds, seeded by search and number, so
that the same trials give the same next one wherever the process before was killed.

Where it lies. Optuna names its tables `trials`, `studies`, `alembic_version`, …, which are names of ours or of Alembic's, so they
cannot stand among our tables, and a migration of ours must never see them. On PostgreSQL they stand in the control database, in a
schema of their own, `optuna`; SQLite has no schemas, so there it is a file of its own beside the control database, `studies.db`,
as the workflows have one. Both are made and brought forward by Optuna itself, and lose nothing that the rows do not have.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from ciranda.errors import Conflict
from ciranda.store.database import BUSY_S, Database
from ciranda.train import plans
from ciranda.train.plans import Plan
from ciranda.train.spaces import BASE, MIX, Range, Space, holds
from ciranda.train.trials import STOPPED, Trial

SCHEMA = "optuna"
FILE = "studies.db"
LOCK = 0x4F505455
OURS = "trial"  # the attribute that names our row
WHOLE, HALF = 100, 50  # percent of a run; before the half, exact match says too little (docs/search.md)
STARTUP = 4  # trials that are drawn at random before the sampler goes by what it learnt
DIRECTIONS = {"quality": "maximize", "latency": "minimize", "size": "minimize"}
NAMES = {"quality": "exact match", "latency": "latency ms", "size": "size MB"}
STATES = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "cancelled": TrialState.FAIL,
}  # fmt: skip

optuna.logging.set_verbosity(optuna.logging.WARNING)


def address(database: Database) -> str:
    """The URL under which Optuna's own tools find the studies, such as `optuna-dashboard`. It may hold a password."""
    url = database.engine.url
    if database.is_sqlite:
        folder, _, _ = (url.database or "").rpartition("/")
        return f"sqlite:///{folder}/{FILE}" if folder else f"sqlite:///{FILE}"
    options = " ".join(filter(None, (str(url.query.get("options", "")), f"-csearch_path={SCHEMA}")))
    return url.update_query_dict({"options": options}).render_as_string(hide_password=False)


class Studies:
    """The studies beside one control database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[Any, ...]] = {}

    @cached_property
    def storage(self) -> Any:
        """Optuna's storage, made where it is not.

        Raises:
            Conflict: Another release of Optuna made it, and this one does not know its tables.
        """
        with self._lock, self._made():
            try:
                url = address(self.database).replace("{", "{{").replace("}", "}}")  # Optuna formats it
                patience = {"connect_args": {"timeout": BUSY_S}} if self.database.is_sqlite else {"pool_pre_ping": True}
                return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=patience))
            except RuntimeError as error:
                raise Conflict(
                    f"the studies were made by another Optuna: {error}", where=self._place,
                    remedy=f"`optuna storage upgrade --storage {self._place}`, or move them aside: the rows of searches stay",
                ) from error  # fmt: skip

    @property
    def _place(self) -> str:
        return sa.make_url(address(self.database)).render_as_string(hide_password=True)

    @contextmanager
    def _made(self) -> Iterator[None]:
        """A place for the tables, a file in WAL mode or a schema, while nobody else makes them."""
        if self.database.is_sqlite:
            beside = Database(address(self.database))
            with beside.reading():
                pass
            beside.close()
        else:
            with self.database.writing() as conn:
                _lock(conn)
                made = sa.text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name")
                if conn.execute(made, {"name": SCHEMA}).first() is None:
                    conn.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))
        with self.database.writing() as conn:
            _lock(conn)
            yield

    def study(self, plan: Plan) -> Any:
        """The study of a search, made when it is not there yet."""
        names = [DIRECTIONS[name] for name in plan.objectives]
        study = optuna.create_study(
            storage=self.storage, study_name=plan.id, directions=names, load_if_exists=True, sampler=_sampler(0)
        )
        if "model" not in study.user_attrs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([NAMES[name] for name in plan.objectives])
            for name, value in (("model", plan.model), ("dataset", plan.dataset), ("turn", plan.turn)):
                study.set_user_attr(name, value)
        return study

    def follow(self, plan: Plan, known: Sequence[Trial]) -> None:
        """Bring the study up to the rows; nothing is asked of it when nothing happened since."""
        marks = tuple((one.state, len(one.checks)) for one in known)
        if self._seen.get(plan.id) == marks:
            return
        study = self.study(plan)
        mirrored = {one.user_attrs.get(OURS): one for one in study.get_trials(deepcopy=False)}
        for trial in known:
            held = mirrored.get(trial.id) or self._added(study, plan, trial)
            if not held.state.is_finished():
                self._brought(study, plan, trial, held)
        self._seen[plan.id] = marks

    def _added(self, study: Any, plan: Plan, trial: Trial) -> FrozenTrial:
        number = self.storage.create_new_trial(study._study_id, template_trial=_frozen(plan, trial))
        return self.storage.get_trial(number)

    def _brought(self, study: Any, plan: Plan, trial: Trial, held: FrozenTrial) -> None:
        for step, value in points(trial).items():
            if step not in held.intermediate_values:
                self.storage.set_trial_intermediate_value(held._trial_id, step, value)
        if trial.open or trial.reason == STOPPED:  # it may go on
            return
        told: dict[str, Any] = {"reason": trial.reason[:500], "loss": trial.loss, "seconds": trial.seconds}
        for name, value in told.items():
            if value not in (None, ""):
                self.storage.set_trial_user_attr(held._trial_id, name, value)
        reached = plans.values(plan, trial) if trial.state == "complete" else None
        state = STATES[trial.state] if reached or trial.state != "complete" else TrialState.FAIL
        self.storage.set_trial_state_values(held._trial_id, state, values=reached)

    def suggest(self, plan: Plan, number: int) -> dict[str, Any]:
        """What the next trial has of the space; the same for the same study, whoever asks."""
        known = self.study(plan).get_trials(deepcopy=True)
        return drawn(plan, known, number)


def _lock(conn: sa.Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def drawn(plan: Plan, known: Sequence[FrozenTrial], number: int) -> dict[str, Any]:
    """The values of the space for a trial, by TPE over what is known."""
    mark = hashlib.sha256(f"{plan.id}:{number}".encode()).digest()
    study = optuna.create_study(
        directions=[DIRECTIONS[name] for name in plan.objectives], sampler=_sampler(int.from_bytes(mark[:4], "big"))
    )
    shapes = _distributions(plan.space)
    for one in known:
        if one.state != TrialState.WAITING and set(one.params) <= set(shapes):
            study.add_trial(one)
    return dict(study.ask(shapes).params)


def behind(trial: Trial, others: Sequence[Trial]) -> bool:
    """Whether a trial is worse by now than the median of the others was at the same part of their runs (Optuna's pruner)."""
    mine = points(trial)
    if not mine or max(mine) >= WHOLE:  # at its end there is nothing to save
        return False
    study = optuna.create_study(direction="maximize")
    for other in others:
        if other.state == "complete" and (curve := points(other)):
            study.add_trial(
                optuna.trial.create_trial(state=TrialState.COMPLETE, value=other.objective, intermediate_values=curve)
            )
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=plans.TELLING, n_warmup_steps=HALF, n_min_trials=plans.TELLING
    )
    asked = optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values=mine)
    return bool(pruner.prune(study, asked))


def points(trial: Trial) -> dict[int, float]:
    """Validation in the middle of a run, by percent of the run, so that long and short runs can be compared."""
    return {round(WHOLE * check.step / max(1, trial.recipe.steps)): check.exact_match for check in trial.checks}


def _sampler(seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)


def _frozen(plan: Plan, trial: Trial) -> FrozenTrial:
    """A row as a trial that runs; one whose recipe lies outside of the space tells only that it was."""
    whole = {**trial.recipe.model_dump(), BASE: trial.base, MIX: trial.mix}
    shapes = _distributions(plan.space)
    inside = {name: whole[name] for name, what in plan.space.items() if holds(what, whole[name])}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING, params=inside, distributions={name: shapes[name] for name in inside},
        user_attrs={OURS: trial.id},
    )  # fmt: skip


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {name: _distribution(what) for name, what in space.items()}


def _distribution(what: Range | tuple[Any, ...]) -> BaseDistribution:
    if not isinstance(what, Range):
        return CategoricalDistribution(what)
    if what.whole:
        return IntDistribution(int(what.low), int(what.high), log=what.log, step=1 if what.log else int(what.step or 1))
    return FloatDistribution(what.low, what.high, log=what.log, step=None if what.log else what.step or None)


def board(database: Database, *, host: str, port: int) -> None:
    """Serve Optuna's own dashboard over the studies until it is interrupted. It knows no keys: give it the loopback address.

    Raises:
        ImportError: optuna-dashboard is not installed.
    """
    import optuna_dashboard

    optuna_dashboard.run_server(Studies(database).storage, host=host, port=port)
