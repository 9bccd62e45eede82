"""The search: what it decides, that a kill at any moment changes nothing, and that failures are told."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import smallmodel

from ciranda.config import model as files
from ciranda.config.model import ModelSpec
from ciranda.errors import CirandaError, Conflict, Failed, Invalid, Refused
from ciranda.govern.audit import audit_events
from ciranda.jobs.local import Local
from ciranda.store.database import Database, metadata
from ciranda.train import plans, search, spaces, studies, trials
from ciranda.train.plans import Move, Place, Plan
from ciranda.train.recipe import Recipe, Spec
from ciranda.train.run import CANCELLED, Jobs, Result, Status, abreast
from ciranda.train.search import Search
from ciranda.train.spaces import Range
from ciranda.train.studies import Studies
from ciranda.train.trials import Check, Trial

SPACE = {"learning_rate": Range(1e-3, 6e-3), "rank": (4, 8), "layers": (6, 12)}


@dataclass
class Arithmetic:
    """Trains by a formula: the nearer the learning rate to 3e-3, the better. Keeps what a real trainer keeps, nothing else."""

    looks: int = 2
    fail: frozenset[int] = frozenset()
    specs: dict[str, Spec] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    went_on: dict[str, str] = field(default_factory=dict)
    checking: bool = False

    def places(self, limit: int, crowd: int) -> int:
        return abreast(limit) - crowd

    def submit(self, key: str, spec: Spec, *, after: str = "") -> None:
        self.specs.setdefault(key, spec)
        self.lost.discard(key)
        if after:
            self.went_on[key] = after

    def status(self, key: str) -> Status:
        if key in self.ended:
            return Status("failed", CANCELLED)
        if key not in self.specs or key in self.lost:
            return Status("gone")
        self.seen[key] += 1
        if self.seen[key] <= self.looks:
            return Status("running")
        return Status("failed", "the loss became nan") if number_of(key) in self.fail else Status("succeeded")

    def curve(self, key: str) -> tuple[tuple[int, float], ...]:
        return tuple((step + 1, 1.0 / (step + 1)) for step in range(self.seen[key]))

    def checks(self, key: str) -> tuple[Check, ...]:
        steps = range(1, self.seen[key] + 1) if self.checking else ()
        return tuple(Check(step, self._score(key) * min(1, step / 3), 1.0, 50) for step in steps)

    def _score(self, key: str) -> float:
        return max(0.0, 1 - abs(self.specs[key].recipe.learning_rate - 3e-3) * 100)

    def collect(self, key: str) -> Result:
        score = self._score(key)
        return Result(Path("output"), score, 1 - score, 50, 9.0, self.curve(key), {"tokens_per_s": 100.0})

    def cancel(self, key: str) -> None:
        self.ended.add(key)

    def halt(self, key: str) -> None:
        self.ended.add(key)


def number_of(key: str) -> int:
    return int(key.split(":")[-1].split(".")[0])


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
        bases={"small": Place(Path("base"))},
        rows={"sft/": Path("train.jsonl")},
        validation={"sft": Path("validation.jsonl")},
        recipe=Recipe(learning_rate=1e-3, steps=10),
        space=SPACE,
        limit=4,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def trial(number: int, state: str, objective: float | None = None, loss: float | None = None, **more: Any) -> Trial:
    given = Trial(
        id=f"s.{number}", search="s", number=number, state=state, recipe=Recipe(learning_rate=2e-3), base="small", mix="",
        objective=objective, loss=loss, loss_curve=(), checks=(), measures={}, seconds=None, job="", attempt=1, folder="",
        reason="", figures={}, started_at="", since=None, worked_s=0.0, ended_at=None,
    )  # fmt: skip
    return replace(given, **more)


def searched(db: Database, trainer: Any, asked: Plan | None = None, **more: Any) -> Trial:
    """Search to the end, two trials at a time."""
    asked = asked or plan()
    search.begin(db, asked, actor="turn", workers=more.pop("workers", 2))
    driver = Search(db, trainer, Studies(db), asked, **more)
    while (found := driver.tick(actor="turn")) is None:
        pass
    return found


def known(db: Database) -> list[Trial]:
    return trials.of(db, "search:m:1")


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_it_begins_as_many_trials_as_there_are_places() -> None:
    one, two = trial(0, "running"), trial(1, "waiting")
    assert plans.decide(plan(), [], elapsed_s=0, places=2) == Move("begin")
    assert plans.decide(plan(), [one], elapsed_s=0, places=2) == Move("begin")
    assert plans.decide(plan(), [one, two], elapsed_s=0, places=2) == Move("wait")
    assert plans.decide(plan(), [one, two], elapsed_s=0, places=3) == Move("begin")  # a worker more


def test_the_budget_stops_new_trials_but_never_the_first() -> None:
    assert plans.decide(plan(), [], elapsed_s=1e9, places=1) == Move("begin")
    assert plans.decide(plan(), [trial(0, "running")], elapsed_s=1e9, places=2) == Move("wait")
    assert plans.decide(plan(), [trial(0, "complete", 0.5, 1.0)], elapsed_s=1e9, places=2) == Move("end", 0)


def test_money_is_kept_for_what_one_more_trial_will_cost() -> None:
    hour = trial(0, "complete", 0.5, 1.0, worked_s=3600.0)
    assert plans.decide(plan(money=2.0, price=1.0), [hour], elapsed_s=0, places=1) == Move("begin")
    assert plans.decide(plan(money=1.9, price=1.0), [hour], elapsed_s=0, places=1) == Move("end", 0)
    half = trial(1, "running", worked_s=1800.0)  # will take an hour too
    assert plans.decide(plan(money=2.9, price=1.0), [hour, half], elapsed_s=0, places=2) == Move("wait")
    assert plans.decide(plan(money=3.0, price=1.0), [hour, half], elapsed_s=0, places=2) == Move("begin")
    assert plans.spent(plan(price=2.0), [hour, half]) == 3.0


@given(
    st.lists(st.sampled_from(["waiting", "running", "complete", "failed", "pruned", "cancelled"]), max_size=6),
    st.floats(0, 4000),
    st.integers(1, 4),
)
def test_it_ends_exactly_when_nothing_runs_and_nothing_may_begin(
    states: list[str], elapsed: float, places: int
) -> None:
    some = [trial(n, state, 0.5, 0.5) for n, state in enumerate(states)]
    move = plans.decide(plan(), some, elapsed_s=elapsed, places=places)
    running = any(one.open for one in some)
    may_begin = len(some) < 4 and (elapsed < 1200 or not some)
    assert (move.kind == "end") == (not running and not may_begin)
    assert move.kind != "begin" or len([one for one in some if one.open]) < places


def test_the_best_is_the_highest_then_the_surest_then_the_first() -> None:
    some = [
        trial(0, "complete", 0.8, 0.2),
        trial(1, "failed"),
        trial(2, "complete", 0.8, 0.1),
        trial(3, "complete", 0.7, 0.0),
    ]
    assert plans.chosen(plan(), some) == 2
    assert plans.chosen(plan(), [some[1]]) is None


def test_of_several_objectives_the_preferred_is_bought_with_a_little_quality_and_no_more() -> None:
    both = plan(objectives=("quality", "latency"), within=0.02)
    some = [
        trial(n, "complete", quality, 0.1, measures={"latency_ms": latency})
        for n, (quality, latency) in enumerate([(0.90, 50.0), (0.89, 30.0), (0.80, 10.0), (0.88, 40.0)])
    ]
    assert plans.chosen(both, some) == 1
    assert plans.chosen(replace(both, within=0.0), some) == 0
    assert plans.chosen(replace(both, within=0.5), some) == 2
    assert plans.front(both, some) == {0, 1, 2}


MEASURED = st.tuples(st.floats(0, 1), st.floats(1, 100), st.floats(1, 500))


@given(st.lists(MEASURED, min_size=1, max_size=8), st.floats(0, 1))
def test_what_is_chosen_is_never_dominated(found: list[tuple[float, float, float]], within: float) -> None:
    asked = plan(objectives=("quality", "size", "latency"), within=within)
    some = [
        trial(n, "complete", quality, 0.1, measures={"latency_ms": latency, "size_mb": size})
        for n, (quality, latency, size) in enumerate(found)
    ]
    assert plans.chosen(asked, some) in plans.front(asked, some)


# --- what may vary ----------------------------------------------------------------------------------------------------


def model(search: str = "", recipe: str = "{}") -> ModelSpec:
    return files.read(f"model: m\ntrain:\n  recipe: {recipe}\n  search: {{{search}}}\n", file="m.yaml")


def test_what_the_user_fixed_and_what_an_adapter_fixes_does_not_vary() -> None:
    assert set(spaces.space(model(), Recipe(), layers=30)) == {"learning_rate", "rank", "layers"}
    assert set(spaces.space(model(recipe="{rank: 8}"), Recipe(), layers=30)) == {"learning_rate", "layers"}
    assert set(spaces.space(model(), Recipe(), layers=30, going_on=True)) == {"learning_rate"}


def test_a_model_file_may_say_what_varies() -> None:
    mixed = model(
        "space: {steps: {low: 60, high: 240, step: 60, log: false}, base: [a, b], mix: [all]}, mixes: {all: {}}"
    )
    spaces.check(mixed)
    found = spaces.space(mixed, Recipe(), layers=30)
    assert found == {"steps": Range(60, 240, log=False, step=60, whole=True), "base": ("a", "b"), "mix": ("all",)}
    assert spaces.of(spaces.to_dict(found)) == found
    assert spaces.afresh(mixed)
    numbers = model("space: {batch_size: [1, 2], dora: [true, false], beta: [0.1, 1]}").train.search.space
    assert repr(numbers) == "{'batch_size': (1, 2), 'dora': (True, False), 'beta': (0.1, 1)}"
    assert not spaces.afresh(model("space: {learning_rate: {low: 0.001, high: 0.002}}"))


@pytest.mark.parametrize(
    ("search", "recipe", "said"),
    [
        ("space: {rnak: [4]}", "{}", "rnak"),
        ("space: {rank: [4, 100]}", "{}", "rank"),
        ("space: {learning_rate: {low: 0.001, high: 5}}", "{}", "learning_rate"),
        ("space: {rank: [4]}", "{rank: 8}", "varies and is fixed"),
        ("space: {base: {low: 1, high: 2}}", "{}", "base is no number"),
        ("space: {method: {low: 1, high: 2}}", "{}", "method is no number"),
    ],
)
def test_a_space_that_no_recipe_could_be_drawn_from_is_refused_before_anything_is_applied(
    search: str, recipe: str, said: str
) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        spaces.check(model(search, recipe))
    assert "train.search.space" in refused.value.where
    assert refused.value.remedy


@pytest.mark.parametrize(
    "search",
    [
        "space: {mix: [other]}",
        "mixes: {all: {weather: 2}}",
        "objectives: [latency]",
        "objectives: [quality, quality]",
        "prefer: size",
        "money: 3",
        "space: {rank: {low: 8, high: 4}}",
        "space: {rank: {low: 0, high: 4}}",
    ],
)
def test_a_search_that_contradicts_itself_is_refused_by_its_line(search: str) -> None:
    with pytest.raises(Invalid) as refused:
        model(search)
    assert refused.value.where.startswith("m.yaml:")


def test_the_first_trial_is_the_recipe_as_given_and_the_others_differ_within_bounds(db: Database) -> None:
    asked = plan(limit=6)
    searched(db, Arithmetic(), asked)
    first, *others = known(db)
    assert first.recipe == asked.recipe
    for one in others:
        assert 1e-3 <= one.recipe.learning_rate <= 6e-3
        assert one.recipe.rank in (4, 8)
        assert one.recipe.alpha == 2 * one.recipe.rank
        assert one.recipe.steps == asked.recipe.steps
    assert len({one.recipe.learning_rate for one in known(db)}) >= 5


def test_bases_and_mixes_vary_like_everything_else(db: Database) -> None:
    asked = plan(
        bases={"small": Place(Path("a")), "large": Place(Path("b"))},
        rows={"sft/all": Path("all.jsonl"), "sft/new": Path("new.jsonl")},
        space={"base": ("small", "large"), "mix": ("all", "new")},
        limit=8,
    )
    trainer = Arithmetic()
    searched(db, trainer, asked)
    assert (known(db)[0].base, known(db)[0].mix) == ("small", "all")
    assert {one.base for one in known(db)} == {"small", "large"}
    assert {one.mix for one in known(db)} == {"all", "new"}
    for one in known(db):
        assert trainer.specs[one.job].base == asked.bases[one.base].folder
        assert trainer.specs[one.job].rows == asked.rows[f"sft/{one.mix}"]


# --- searching --------------------------------------------------------------------------------------------------------


def test_a_search_keeps_the_best_and_every_curve(db: Database) -> None:
    said: list[str] = []
    search.begin(db, plan(), actor="turn", workers=2)
    best = search.search(Search(db, Arithmetic(), Studies(db), plan()), actor="turn", tell=said.append)
    assert [one.state for one in known(db)] == ["complete"] * 4
    assert best.objective == max(one.objective or 0 for one in known(db))
    assert all(one.loss_curve and one.figures["tokens_per_s"] == 100.0 for one in known(db))
    row = trials.get(db, "search:m:1")
    assert (row["state"], row["best"], row["dataset"]) == ("complete", best.number, "d@1")
    assert any("step" in line and "loss" in line for line in said)
    with db.reading() as conn:
        assert [event.action for event in conn.execute(audit_events.select())] == ["search.started", "search.complete"]


def test_it_is_the_same_search_however_often_it_is_killed(db: Database, tmp_path: Path) -> None:
    whole = searched(db, Arithmetic())
    recipes = [one.recipe for one in known(db)]

    (tmp_path / "other").mkdir()
    other = Database(f"sqlite:///{tmp_path}/other/c.db")
    metadata.create_all(other.engine)
    trainer = Arithmetic(looks=3)
    writes = Killer(other)
    for patience in itertools.count(1):  # die at the first write, then at the second, …
        writes.left = patience
        try:
            best = searched(writes, trainer)
            break
        except Killed:
            trainer.lost |= {key for key in trainer.specs if trainer.seen[key] <= trainer.looks and patience % 3 == 0}
    assert patience > 3
    assert best.number == whole.number
    assert [one.recipe for one in known(other)] == recipes
    assert set(trainer.specs) == {f"train:search:m:1:{number}" for number in range(4)}
    followed = Studies(other).study(plan()).get_trials()
    assert [one.state.name for one in followed] == ["COMPLETE"] * 4
    assert [one.params["rank"] for one in followed[1:]] == [recipe.rank for recipe in recipes[1:]]
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
    best = searched(db, Arithmetic(fail=frozenset({0, 2})))
    assert best.number in (1, 3)
    assert [one.state for one in known(db)] == ["failed", "complete", "failed", "complete"]
    assert known(db)[0].reason == "the loss became nan"


def test_a_search_in_which_all_fails_says_why_and_stays_failed(db: Database) -> None:
    trainer = Arithmetic(fail=frozenset(range(4)))
    for _ in range(2):
        with pytest.raises(Failed, match="trial 0: the loss became nan"):
            searched(db, trainer)
    assert trials.get(db, "search:m:1")["state"] == "failed"


def test_a_search_that_is_over_answers_without_training(db: Database) -> None:
    best = searched(db, Arithmetic())
    idle = Arithmetic()
    assert searched(db, idle) == best
    assert idle.specs == {}


def test_a_trial_far_behind_is_ended_early_and_the_search_learns_from_that(db: Database) -> None:
    trainer = Arithmetic(looks=4, checking=True)
    asked = plan(limit=12, space={"learning_rate": Range(1e-3, 2e-2)}, recipe=Recipe(learning_rate=3e-3, steps=5))
    best = searched(db, trainer, asked, workers=1)
    pruned = [one for one in known(db) if one.state == "pruned"]
    assert pruned
    for one in pruned:
        assert "behind the median" in one.reason
        assert one.job in trainer.ended
        assert one.number > 2  # never before three have told what is usual
    assert best.state == "complete"
    told = {one.number: one.state.name for one in Studies(db).study(asked).get_trials()}
    assert [told[one.number] for one in pruned] == ["PRUNED"] * len(pruned)


def test_one_that_was_ended_for_being_behind_is_so_even_when_nobody_lived_to_write_it() -> None:
    others = [
        trial(n, "complete", 0.9, 0.1, checks=(Check(5, 0.9, 0.1, 50),), recipe=Recipe(steps=10)) for n in range(3)
    ]
    late = trial(3, "running", recipe=Recipe(steps=20), checks=(Check(10, 0.1, 0.5, 50),))
    assert studies.behind(late, others)  # half of its run, as theirs
    assert not studies.behind(
        replace(late, checks=(Check(5, 0.1, 0.5, 50),)), others
    )  # a quarter: nobody was there yet
    assert not studies.behind(late, others[:2])


def test_what_is_weighed_beside_quality_is_measured_on_the_finished_run(db: Database) -> None:
    asked, looks = plan(objectives=("quality", "latency")), Counter[int]()

    def measure(one: Trial, _result: Result) -> Mapping[str, float] | None:
        looks[one.number] += 1
        return {"latency_ms": 10.0 + one.number} if looks[one.number] > 2 else None

    best = searched(db, Arithmetic(), asked, measure=measure)
    assert [one.measures["latency_ms"] for one in known(db)] == [10.0, 11.0, 12.0, 13.0]
    assert best.number == plans.chosen(asked, known(db))
    study = Studies(db).study(asked)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {one.number for one in study.best_trials} == plans.front(asked, known(db))


# --- stop, resume, workers --------------------------------------------------------------------------------------------


def ticked(db: Database, trainer: Any, asked: Plan, times: int) -> None:
    driver = Search(db, trainer, Studies(db), asked)
    for _ in range(times):
        driver.tick(actor="loop")


def test_a_stopped_search_frees_everything_and_goes_on_where_it_was(db: Database) -> None:
    asked, trainer = plan(limit=3), Arithmetic(looks=5)
    search.begin(db, asked, actor="ana", workers=2)
    ticked(db, trainer, asked, 4)
    assert [one.state for one in known(db)] == ["running", "running"]

    search.stop(db, asked.id, actor="ana")
    with pytest.raises(Failed, match="stopped by ana"):
        ticked(db, trainer, asked, 1)  # nothing is complete yet
    halted = known(db)
    assert [one.state for one in halted] == ["cancelled", "cancelled"]
    assert {one.job for one in halted} == trainer.ended
    assert [one.state.name for one in Studies(db).study(asked).get_trials()] == ["RUNNING", "RUNNING"]

    search.resume(db, asked.id, actor="ana")
    best = searched(db, trainer, asked)
    assert [one.state for one in known(db)] == ["complete"] * 3
    assert trainer.went_on == {f"train:search:m:1:{n}.2": f"train:search:m:1:{n}" for n in (0, 1)}
    assert [one.recipe for one in known(db)][:2] == [one.recipe for one in halted]
    assert best.number == plans.chosen(asked, known(db))
    assert [one.state.name for one in Studies(db).study(asked).get_trials()] == ["COMPLETE"] * 3


def test_a_search_that_is_over_may_get_more_room(db: Database) -> None:
    here = Path(__file__)
    searched(db, Arithmetic(), plan(rows={"sft/": here}, validation={"sft": here}))
    row = search.resume(db, "search:m:1", actor="ana", bounds={"limit": 6, "budget_s": None})
    asked = plans.of(row)
    assert asked is not None
    assert (asked.limit, asked.budget_s) == (6, 1200.0)
    searched(db, Arithmetic(), asked)
    assert [one.state for one in known(db)] == ["complete"] * 6


def test_a_search_whose_rows_are_gone_is_planned_anew_when_it_goes_on(db: Database, tmp_path: Path) -> None:
    """A person was erased meanwhile, and the rows that were written for it with them."""
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    asked = plan(rows={"sft/": rows}, validation={"sft": rows}, limit=3)
    search.begin(db, asked, actor="ana")
    search.stop(db, asked.id, actor="ana")
    assert plans.of(search.resume(db, asked.id, actor="ana")) == asked
    search.stop(db, asked.id, actor="ana")
    rows.unlink()
    row = search.resume(db, asked.id, actor="ana")
    assert plans.of(row) is None
    assert row["plan"] == {"limit": 3, "budget_s": 1200.0, "money": None}


def test_workers_are_added_and_taken_away_in_the_middle(db: Database) -> None:
    asked, trainer = plan(limit=8), Arithmetic(looks=50)
    search.begin(db, asked, actor="ana", workers=1)
    ticked(db, trainer, asked, 5)
    assert len(known(db)) == 1
    search.staff(db, asked.id, 3, actor="ana")
    ticked(db, trainer, asked, 5)
    assert len([one for one in known(db) if one.state == "running"]) == 3
    search.staff(db, asked.id, 1, actor="ana")
    ticked(db, trainer, asked, 5)
    assert len(known(db)) == 3  # those that ran go on, none is added


def test_what_cannot_be_is_refused_with_what_can(db: Database) -> None:
    searched(db, Arithmetic(), plan(turn="turn:m:1"))
    with pytest.raises(Conflict, match="complete"):
        search.stop(db, "search:m:1", actor="ana")
    with pytest.raises(Conflict, match="complete"):
        search.staff(db, "search:m:1", 2, actor="ana")
    with pytest.raises(Refused, match="turn:m:1 went on"):
        search.resume(db, "search:m:1", actor="ana")


def test_a_stopped_search_of_a_turn_hands_over_the_best_so_far(db: Database) -> None:
    asked, trainer = plan(turn="turn:m:1", limit=8), Arithmetic()
    search.begin(db, asked, actor="turn", workers=1)
    driver = Search(db, trainer, Studies(db), asked)
    while len([one for one in known(db) if one.state == "complete"]) < 2:
        assert driver.tick(actor="turn") is None
    search.stop(db, asked.id, actor="ana")
    best = driver.tick(actor="turn")
    assert best is not None
    assert best.objective == max(one.objective or 0 for one in known(db))


def test_the_plan_is_kept_whole_so_that_whoever_comes_next_has_the_same(db: Database) -> None:
    asked = plan(
        rows={"sft/all": Path("a"), "sft/new": Path("b")}, init_adapter=Path("adapter"),
        objectives=("quality", "size"), money=3.0, price=1.0,
        space={"steps": Range(60, 240, False, 60, True), "mix": ("all", "new")}, policies={"names": ["p"]}, started_from="m@1",
    )  # fmt: skip
    search.begin(db, asked, actor="ana")
    assert plans.of(trials.get(db, asked.id)) == asked


# --- real runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_trials_run_as_jobs_and_a_wrong_one_says_why(db: Database, tmp_path: Path) -> None:
    given = smallmodel.spec(tmp_path, steps=2)
    asked = plan(
        bases={"small": Place(given.base)}, rows={"sft/": given.rows}, validation={"sft": given.validation},
        recipe=given.recipe, limit=2,
        space={"layers": (40,)},
    )  # fmt: skip
    trainer = Jobs(Local(tmp_path / "jobs"), tmp_path / "jobs")
    best = searched(db, trainer, asked, workers=1)
    assert best.number == 0
    assert [step for step, _ in best.loss_curve] == [1, 2]
    assert (Path(best.folder) / "adapter.gguf").is_file()
    assert best.figures["environment"]["torch"]
    assert known(db)[1].state == "failed"
    assert "the base has 30" in known(db)[1].reason
    with pytest.raises(CirandaError):
        trainer.collect("train:never:0")
