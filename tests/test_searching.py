"""Searches as people ask for them, on a real control process with the fake trainer: over REST and the command line, killed at will.

Control runs alone, since a search needs nobody else; trainers are processes of their own, as ever.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import house
from ciranda import loop
from ciranda.cli import cli
from ciranda.cli.client import Client
from ciranda.config import Home
from ciranda.errors import CirandaError, Conflict, NotFound, Refused
from ciranda.jobs import process
from ciranda.jobs.process import Identity
from ciranda.loop import intake, planning
from ciranda.registry import models
from ciranda.train import trials
from ciranda.train.studies import Studies
from test_turn_kill import Warm

SPACE = "space: {learning_rate: {low: 0.001, high: 0.004}, batch_size: [2, 4, 8], mix: [plain, kitchens]}"
MIXES = "mixes: {plain: {}, kitchens: {'language:en': 1.5}}"
SEARCH = f"search: {{trials: 4, budget: 10m, price: 1, workers: 2, {SPACE}, {MIXES}}}"
SPEC = (
    house.SPEC.replace("    - {interactions: feedback}\n", "")
    .replace("search: {trials: 2, budget: 1m}", SEARCH)
    .replace("recipe: {steps: 50, batch_size: 8}", "recipe: {steps: 200}")
)


class Lab:
    """A home with rows, and a control process that may be killed."""

    def __init__(self, folder: Path, warm: Warm, spec: str = SPEC) -> None:
        self.warm, self.home = warm, Home(folder / ".ciranda")
        self.platform = loop.open(self.home)
        loop.first_key(self.platform)
        self.file = house.project(folder, spec=spec)
        self.apply()
        with self.platform.db.reading() as conn:
            self.spec = models.get(conn, house.MODEL).spec
        intake.take(self.platform, self.spec, actor="test", patient=True)
        self.pid: Identity | None = None
        self.start()

    def apply(self) -> None:
        loop.apply(self.platform, loop.plan(self.platform, {str(self.file): self.file.read_text()}), "test")

    def start(self) -> None:
        (self.home.run / "control.json").unlink(missing_ok=True)
        self.pid = self.warm.start(self.home)
        self.until(lambda: (self.home.run / "control.json").exists())

    def kill(self) -> None:
        if self.pid is not None:
            process.kill(self.pid)
            while Path(f"/proc/{self.pid.pid}").exists():
                time.sleep(0.001)
        self.pid = None

    @property
    def control(self) -> Client:
        return Client(json.loads((self.home.run / "control.json").read_text())["url"], self.home.admin_key.read_text())

    def run(self, *arguments: str) -> Any:
        """A command line; its JSON."""
        told = CliRunner().invoke(cli, [*arguments, "--home", str(self.home.path), "--json"], standalone_mode=False)
        if told.exception:
            raise told.exception
        return json.loads(told.stdout)

    def show(self, search: str) -> Any:
        return self.run("search", "show", search)

    def known(self, search: str) -> list[trials.Trial]:
        return trials.of(self.platform.db, search)

    def until(self, look: Callable[[], Any], *, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, (self.home.logs / "control.log").read_text()[-3000:]
            time.sleep(0.005)
        return found

    def ended(self, search: str, *, seconds: float = 90) -> dict[str, Any]:
        """The search's row, once it is over."""

        def over() -> Any:
            return (row := trials.get(self.platform.db, search))["state"] != "running" and row

        found: dict[str, Any] = self.until(over, seconds=seconds)
        return found

    def running(self, search: str) -> list[trials.Trial]:
        return [one for one in self.known(search) if one.state == "running" and one.loss_curve]

    def hold(self, search: str, count: int) -> list[trials.Trial]:
        """So many trials at once in the middle of their runs, stopped there however slow or busy the machine is."""

        def held() -> Any:
            at_work = [one for one in self.known(search) if self._steps(one)]
            for one in at_work:
                self.signal(one, signal.SIGSTOP)
            return len(at_work) == count and len(self.running(search)) == count and at_work

        found: list[trials.Trial] = self.until(held)
        return found

    def _steps(self, one: trials.Trial) -> bool:
        """Whether its run has told of a step."""
        told = self.home.jobs / one.job / "progress.jsonl"
        return one.open and told.exists() and '"loss"' in told.read_text()

    def signal(self, one: trials.Trial, number: int) -> None:
        for each in process.marked(f"CIRANDA_JOB={self.home.jobs / one.job}"):
            with suppress(ProcessLookupError):
                os.kill(each.pid, number)

    def trainers(self, search: str) -> list[Identity]:
        """Wrapper and trainer of every run of the search that is alive."""
        return [
            one for trial in self.known(search) for one in process.marked(f"CIRANDA_JOB={self.home.jobs / trial.job}")
        ]

    def close(self) -> None:
        self.kill()
        for key in self.platform.jobs.keys():  # noqa: SIM118 - no mapping
            self.platform.jobs.cancel(key, grace_s=0.5)
        self.platform.close()


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    warm = Warm()
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"), warm)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def tidy(lab: Lab) -> Iterator[None]:
    """What a test leaves behind, however it ended, is no matter of the next one."""
    yield
    if lab.pid is None:
        lab.start()
    for one in lab.run("search", "list")["items"]:
        for trial in lab.known(one["id"]):
            lab.signal(trial, signal.SIGCONT)
        if one["state"] == "running":
            lab.run("search", "stop", one["id"])
            lab.until(lambda one=one: not any(trial.open for trial in lab.known(one["id"])))


@pytest.fixture
def patient(lab: Lab) -> Iterator[None]:
    """Runs that last long enough to be killed in."""
    with changed(lab, "steps: 200", "steps: 3000"):
        yield


@contextmanager
def changed(lab: Lab, before: str, after: str) -> Iterator[None]:
    """Another model file, for a while."""
    file = lab.file.read_text()
    assert before in file
    lab.file.write_text(file.replace(before, after))
    lab.apply()
    try:
        yield
    finally:
        lab.file.write_text(file)
        lab.apply()


NUMBERS = itertools.count(1)


def started(lab: Lab, *more: str) -> str:
    """A search of its own, begun from the command line."""
    told = lab.run("search", "start", house.MODEL, "--event", f"test-{next(NUMBERS)}", *more)
    return str(told["search"])


def test_a_search_is_asked_for_and_found_with_everything_that_was_drawn(lab: Lab) -> None:
    search = started(lab)
    assert lab.ended(search)["state"] == "complete"
    told = lab.show(search)
    assert [one["state"] for one in told["trials"]] == ["complete"] * 4
    assert told["best"] == next(one["number"] for one in told["trials"] if one["best"])
    assert all(0.001 <= one["recipe"]["learning_rate"] <= 0.004 for one in told["trials"][1:])
    assert {one["mix"] for one in told["trials"]} <= {"plain", "kitchens"}
    assert told["spent"] == pytest.approx(told["worker_s"] / 3600)
    assert "rows" not in told["plan"]  # where files lie is this machine's business
    assert lab.run("search", "list")["items"][0]["id"] == search
    assert [one.state.name for one in Studies(lab.platform.db).storage.get_all_trials(1)] == ["COMPLETE"] * 4


def test_what_it_will_take_is_told_when_it_is_asked_for(lab: Lab) -> None:
    told = lab.run("search", "start", house.MODEL, "--event", "told", "--trials", "3", "--workers", "1")
    estimate = told["estimate"]
    assert (estimate["trials"], estimate["abreast"]) == (3, 1), "by its own bounds, not by those of the file"
    assert estimate["search_s"] == pytest.approx(3 * estimate["seconds"], abs=0.2)  # told in tenths of a second
    assert estimate["cost"] == pytest.approx(3 * estimate["seconds"] / 3600, abs=1e-4)
    lab.run("search", "stop", told["search"])


def test_a_mix_is_the_same_rows_in_other_shares(lab: Lab) -> None:
    search = started(lab, "--trials", "1")
    lab.ended(search)
    files = trials.get(lab.platform.db, search)["plan"]["rows"]
    plain, mixed = (Path(files[f"sft/{mix}"]).read_text().splitlines() for mix in ("plain", "kitchens"))
    assert len(plain) * 1.3 < len(mixed) < len(plain) * 1.7
    assert {json.loads(line)["completion"] for line in mixed} == {json.loads(line)["completion"] for line in plain}
    assert all("language" not in json.loads(line) for line in mixed)
    row = house.rows()[0]
    assert [planning.times(row, {"language:en": share}, "m") for share in (0.0, 1.0, 3.0)] == [0, 1, 3]
    assert planning.times(row, {"language:pt": 0.0}, "m") == 1


def test_trainer_worker_and_control_are_killed_in_the_middle_and_it_is_the_same_search(lab: Lab, patient: None) -> None:
    undisturbed = started(lab, "--trials", "1")
    lab.ended(undisturbed)

    search = started(lab, "--trials", "3")
    first, second = lab.hold(search, 2)
    for one in process.marked(f"CIRANDA_JOB={lab.home.jobs / first.job}"):
        process.kill(one)  # a trainer, and the worker that waits for it
    lab.until(lambda: lab.platform.jobs.status(first.job).attempt == 2)
    lab.kill()
    for one in lab.trainers(search)[:1]:
        process.kill(one)  # while nobody looks
    lab.signal(second, signal.SIGCONT)
    lab.start()
    assert lab.ended(search)["state"] == "complete"
    assert [one.state for one in lab.known(search)] == ["complete"] * 3
    assert len({one.job for one in lab.known(search)}) == 3
    assert [one.state.name for one in _study(lab, search)] == ["COMPLETE"] * 3
    losses = {one.number: one.loss_curve for one in lab.known(search)}
    assert losses[0] == {one.number: one.loss_curve for one in lab.known(undisturbed)}[0]


def _study(lab: Lab, search: str) -> list[Any]:
    import optuna

    return list(optuna.load_study(study_name=search, storage=Studies(lab.platform.db).storage).get_trials())


def test_it_is_stopped_freed_and_resumed_with_more_room_and_workers(lab: Lab, patient: None) -> None:
    search = started(lab, "--workers", "1", "--trials", "2")
    lab.until(lambda: lab.running(search))
    lab.run("search", "stop", search)
    lab.until(lambda: not any(one.open for one in lab.known(search)))
    assert not lab.trainers(search)
    halted = lab.known(search)[0]
    assert (halted.state, halted.reason) == ("cancelled", trials.STOPPED)
    assert lab.run("search", "resume", search, "--trials", "3")["state"] == "running"
    assert lab.run("search", "workers", search, "2")["workers"] == 2
    for one in lab.hold(search, 2):
        lab.signal(one, signal.SIGCONT)
    assert lab.ended(search)["state"] == "complete"
    again = lab.known(search)[0]
    assert (again.attempt, again.state, again.recipe) == (2, "complete", halted.recipe)
    assert len(lab.known(search)) == 3
    told = [event["action"] for event in lab.control.get("/audit", subject=search)["items"]][::-1]
    assert told == ["search.started", "search.stopped", "search.resumed", "search.workers", "search.complete"]


def test_the_best_goes_through_the_gates_as_a_turn_that_finds_its_training_done(lab: Lab) -> None:
    search = started(lab)
    lab.ended(search)
    turn = lab.run("search", "release", search)["turn"]

    def registered() -> Any:
        return lab.control.get(f"/turns/{turn}")["version"]

    version = lab.control.get(f"/versions/{lab.until(registered)}")
    best = next(one for one in lab.show(search)["trials"] if one["best"])
    assert version["trial"] == best["id"]
    assert version["dataset"] == f"{house.MODEL}@1"
    assert {name: version["recipe"][name] for name in ("learning_rate", "batch_size")} == {
        name: best["recipe"][name] for name in ("learning_rate", "batch_size")
    }
    assert list(version["recipe"].get("mix", {})) == ([best["mix"]] if best["mix"] else [])
    with pytest.raises(Conflict):  # one turn of a model at a time
        lab.control.post(f"/models/{house.MODEL}/turns", {})


def test_what_cannot_be_is_refused_with_what_can(lab: Lab) -> None:
    search = started(lab, "--trials", "1")
    lab.ended(search)
    for words, error in (
        (("stop", search), Conflict),
        (("show", "search:nothing"), NotFound),
        (("start", "nobody"), NotFound),
        (("start", house.MODEL, "--dataset", f"{house.MODEL}@99"), NotFound),
    ):
        with pytest.raises(error) as refused:
            lab.run("search", *words)
        assert isinstance(refused.value, CirandaError)
        assert refused.value.remedy
    running = started(lab)
    with pytest.raises(Refused, match="running"):
        lab.run("search", "release", running)
    with pytest.raises(NotFound, match="no search of other"):
        lab.control.post(f"/models/other/searches/{running}/stop", {})
    lab.run("search", "stop", running)


def test_a_search_that_cannot_be_planned_fails_with_the_reason(lab: Lab) -> None:
    with changed(lab, "'language:en': 1.5", "'language:en': 0"):
        row = lab.ended(started(lab))
    assert row["state"] == "failed"
    assert "leaves no row" in row["reason"]
    assert "raise a share" in row["reason"]


@pytest.mark.slow
def test_what_is_weighed_is_measured_by_serving_what_was_trained(lab: Lab) -> None:
    with changed(lab, "trials: 4,", "trials: 2, objectives: [quality, latency, size],"):
        search = started(lab)
        assert lab.ended(search)["state"] == "complete", lab.show(search)
    told = lab.show(search)
    for one in told["trials"]:
        assert one["measures"]["latency_ms"] > 0
        assert one["measures"]["size_mb"] > 0
    assert any(one["front"] for one in told["trials"])
    assert [len(one.values) for one in _study(lab, search)] == [3, 3]


@pytest.mark.slow
def test_a_signal_to_control_ends_it_and_leaves_the_trainers(lab: Lab, patient: None) -> None:
    search = started(lab, "--trials", "2")
    both = lab.hold(search, 2)
    assert lab.pid is not None
    process.end(lab.pid, grace_s=20)
    held = {one.pid for one in lab.trainers(search)}
    assert held
    for one in both:
        lab.signal(one, signal.SIGCONT)
    lab.start()
    assert lab.ended(search)["state"] == "complete"


REAL = """\
model: house
data: {sources: [{files: ../data/*.jsonl}]}
train:
  search: {trials: 2, budget: 30m, workers: 1, space: {learning_rate: {low: 0.001, high: 0.004}}}
  recipe: {steps: 60, layers: 2}
evaluate: {cases: 12, max_tokens: 32}
"""


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_with_the_real_small_model_it_is_the_same_search_after_trainer_worker_and_control_were_killed(
    tmp_path: Path, warm: Warm
) -> None:
    lab = Lab(tmp_path, warm, REAL)
    try:
        search = started(lab)
        first = lab.until(lambda: lab.running(search), seconds=600)[0]
        for one in lab.trainers(search):
            process.kill(one)  # the trainer, and the worker that waits for it
        lab.until(lambda: lab.platform.jobs.status(first.job).attempt == 2, seconds=600)
        lab.until(lambda: len(lab.known(search)[0].loss_curve) > 40, seconds=600)  # past a checkpoint
        lab.kill()
        for one in lab.trainers(search):
            process.kill(one)  # while nobody looks
        lab.start()
        lab.ended(search, seconds=1800)
        again = started(lab, "--trials", "1")
        lab.ended(again, seconds=1800)
        known = lab.known(search)
        assert [(one.state, len(one.loss_curve)) for one in known] == [("complete", 60)] * 2
        assert known[0].figures["resumed_at"] == 40
        undisturbed = lab.known(again)[0]
        assert known[0].loss_curve == undisturbed.loss_curve
        assert known[0].objective == undisturbed.objective
        folders = [Path(one.folder) / "adapter/adapter_model.safetensors" for one in (known[0], undisturbed)]
        assert folders[0].read_bytes() == folders[1].read_bytes(), "bit by bit"
    finally:
        lab.close()
