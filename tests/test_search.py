"""The search: what it decides, that a kill at any moment changes nothing, and that failures are told."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import smallmodel

from ciranda.errors import CirandaError, Failed
from ciranda.govern.audit import audit_events
from ciranda.jobs.local import Local
from ciranda.store.database import Database, metadata
from ciranda.train import search, trials
from ciranda.train.recipe import Recipe, Spec
from ciranda.train.run import Jobs, Result, Status
from ciranda.train.search import Move, Plan, Range
from ciranda.train.trials import Trial

SPACE = {"learning_rate": Range(1e-3, 6e-3), "rank": (4, 8), "layers": (6, 12)}


@dataclass
class Arithmetic:
    """Trains by a formula: the nearer the learning rate to 3e-3, the better. Keeps what a real trainer keeps, nothing else."""

    looks: int = 2
    fail: frozenset[int] = frozenset()
    specs: dict[str, Spec] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)

    def submit(self, key: str, spec: Spec) -> None:
        self.specs.setdefault(key, spec)
        self.lost.discard(key)

    def status(self, key: str) -> Status:
        if key not in self.specs or key in self.lost:
            return Status("gone")
        self.seen[key] += 1
        if self.seen[key] <= self.looks:
            return Status("running")
        return Status("failed", "the loss became nan") if int(key[-1]) in self.fail else Status("succeeded")

    def curve(self, key: str) -> tuple[tuple[int, float], ...]:
        return tuple((step + 1, 1.0 / (step + 1)) for step in range(self.seen[key]))

    def collect(self, key: str) -> Result:
        rate = self.specs[key].recipe.learning_rate
        score = 1 - abs(rate - 3e-3) * 100
        return Result(Path("output"), score, 1 - score, 50, 9.0, self.curve(key), {"tokens_per_s": 100.0})

    def cancel(self, key: str) -> None:
        self.lost.add(key)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(found.engine)
    yield found
    found.close()


def plan(**changes: object) -> Plan:
    given = Plan(
        id="search:m:1",
        model="m",
        dataset="d@1",
        base=Path("base"),
        rows=Path("train.jsonl"),
        validation=Path("validation.jsonl"),
        recipe=Recipe(learning_rate=1e-3, steps=10),
        space=SPACE,
        limit=4,
        abreast=2,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def trial(number: int, state: str, objective: float | None = None, loss: float | None = None) -> Trial:
    return Trial(
        id=f"s.{number}", search="s", number=number, state=state, recipe=Recipe(learning_rate=2e-3), objective=objective,
        loss=loss, loss_curve=(), seconds=None, job="", folder="", reason="", figures={}, started_at="", ended_at=None,
    )  # fmt: skip


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_it_begins_as_many_trials_as_there_are_places() -> None:
    one, two = trial(0, "running"), trial(1, "waiting")
    assert search.decide(plan(), [], elapsed_s=0, places=2) == Move("begin")
    assert search.decide(plan(), [one], elapsed_s=0, places=2) == Move("begin")
    assert search.decide(plan(), [one, two], elapsed_s=0, places=2) == Move("wait")


def test_the_budget_stops_new_trials_but_never_the_first() -> None:
    assert search.decide(plan(), [], elapsed_s=1e9, places=1) == Move("begin")
    assert search.decide(plan(), [trial(0, "running")], elapsed_s=1e9, places=2) == Move("wait")
    assert search.decide(plan(), [trial(0, "complete", 0.5, 1.0)], elapsed_s=1e9, places=2) == Move("end", 0)


@given(
    st.lists(st.sampled_from(["waiting", "running", "complete", "failed"]), max_size=6),
    st.floats(0, 4000),
    st.integers(1, 4),
)
def test_it_ends_exactly_when_nothing_runs_and_nothing_may_begin(
    states: list[str], elapsed: float, places: int
) -> None:
    known = [trial(n, state, 0.5, 0.5) for n, state in enumerate(states)]
    move = search.decide(plan(), known, elapsed_s=elapsed, places=places)
    running = any(one.open for one in known)
    may_begin = len(known) < 4 and (elapsed < 1200 or not known)
    assert (move.kind == "end") == (not running and not may_begin)
    assert move.kind != "begin" or len([one for one in known if one.open]) < places


def test_the_best_is_the_highest_then_the_surest_then_the_first() -> None:
    known = [
        trial(0, "complete", 0.8, 0.2),
        trial(1, "failed"),
        trial(2, "complete", 0.8, 0.1),
        trial(3, "complete", 0.7, 0.0),
    ]
    assert search.best_of(known) == 2
    assert search.best_of([known[1]]) is None


def test_the_first_trial_is_the_recipe_as_given_and_the_others_differ_within_bounds() -> None:
    asked = plan()
    known: list[Trial] = []
    for number in range(6):
        how = search.suggest(asked, known)
        assert how == search.suggest(asked, known)
        known.append(replace(trial(number, "complete", 0.1 * number, 1.0), recipe=how))
    assert known[0].recipe == asked.recipe
    for one in known[1:]:
        assert 1e-3 <= one.recipe.learning_rate <= 6e-3
        assert one.recipe.rank in (4, 8)
        assert one.recipe.alpha == 2 * one.recipe.rank
        assert one.recipe.steps == asked.recipe.steps
    assert len({one.recipe for one in known}) >= 5


def test_what_the_user_fixed_and_what_an_adapter_fixes_does_not_vary() -> None:
    assert set(search.space(Recipe(), {}, layers=30)) == {"learning_rate", "rank", "layers"}
    assert set(search.space(Recipe(), {"rank": 8}, layers=30)) == {"learning_rate", "layers"}
    assert set(search.space(Recipe(), {}, layers=30, going_on=True)) == {"learning_rate"}


# --- searching --------------------------------------------------------------------------------------------------------


def test_a_search_keeps_the_best_and_every_curve(db: Database) -> None:
    said: list[str] = []
    best = search.search(db, Arithmetic(), plan(), actor="turn", tell=said.append)
    known = trials.of(db, "search:m:1")
    assert [one.state for one in known] == ["complete"] * 4
    assert best.objective == max(one.objective or 0 for one in known)
    assert all(one.loss_curve and one.figures["tokens_per_s"] == 100.0 for one in known)
    row = trials.get(db, "search:m:1")
    assert (row["state"], row["best"], row["dataset"]) == ("complete", best.number, "d@1")
    assert any("step" in line and "loss" in line for line in said)
    with db.reading() as conn:
        assert [event.action for event in conn.execute(audit_events.select())] == ["search.started", "search.complete"]


def test_it_is_the_same_search_however_often_it_is_killed(db: Database, tmp_path: Path) -> None:
    whole = search.search(db, Arithmetic(), plan(), actor="turn")
    recipes = [one.recipe for one in trials.of(db, "search:m:1")]

    other = Database(f"sqlite:///{tmp_path}/other.db")
    metadata.create_all(other.engine)
    trainer = Arithmetic(looks=3)
    writes = Killer(other)
    for patience in itertools.count(1):  # die at the first write, then at the second, …
        writes.left = patience
        try:
            best = search.search(writes, trainer, plan(), actor="turn")
            break
        except Killed:
            trainer.lost |= {key for key in trainer.specs if trainer.seen[key] <= trainer.looks and patience % 3 == 0}
    assert patience > 3
    assert best.number == whole.number
    assert [one.recipe for one in trials.of(other, "search:m:1")] == recipes
    assert set(trainer.specs) == {f"train:search:m:1:{number}" for number in range(4)}
    other.close()


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Killer(Database):
    """The same database, until its writer dies."""

    def __init__(self, real: Database) -> None:
        self.engine, self.url, self.is_sqlite, self.left = real.engine, real.url, real.is_sqlite, 0

    def writing(self):  # type: ignore[no-untyped-def]
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().writing()


def test_a_failed_trial_is_told_and_the_others_go_on(db: Database) -> None:
    best = search.search(db, Arithmetic(fail=frozenset({0, 2})), plan(), actor="turn")
    assert best.number in (1, 3)
    assert [one.state for one in trials.of(db, "search:m:1")] == ["failed", "complete", "failed", "complete"]
    assert trials.of(db, "search:m:1")[0].reason == "the loss became nan"


def test_a_search_in_which_all_fails_says_why_and_stays_failed(db: Database) -> None:
    trainer = Arithmetic(fail=frozenset(range(4)))
    for _ in range(2):
        with pytest.raises(Failed, match="trial 0: the loss became nan"):
            search.search(db, trainer, plan(), actor="turn")
    assert trials.get(db, "search:m:1")["state"] == "failed"


def test_a_search_that_is_over_answers_without_training(db: Database) -> None:
    best = search.search(db, Arithmetic(), plan(), actor="turn")
    idle = Arithmetic()
    assert search.search(db, idle, plan(), actor="turn") == best
    assert idle.specs == {}


# --- real runs --------------------------------------------------------------------------------------------------------


def test_real_trials_run_as_jobs_and_a_wrong_one_says_why(db: Database, tmp_path: Path) -> None:
    given = smallmodel.spec(tmp_path, steps=2)
    asked = plan(
        base=given.base, rows=given.rows, validation=given.validation, recipe=given.recipe, limit=2, abreast=1,
        space={"layers": (40,)},
    )  # fmt: skip
    trainer = Jobs(Local(tmp_path / "jobs"), tmp_path / "jobs")
    best = search.search(db, trainer, asked, actor="turn")
    known = trials.of(db, "search:m:1")
    assert best.number == 0
    assert [step for step, _ in best.loss_curve] == [1, 2]
    assert (Path(best.folder) / "adapter.gguf").is_file()
    assert best.figures["environment"]["torch"]
    assert known[1].state == "failed"
    assert "the base has 30" in known[1].reason
    with pytest.raises(CirandaError):
        trainer.collect("train:never:0")
