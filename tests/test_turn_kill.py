"""kill -9 at every step of a turn: whatever dies, the end is the one of an undisturbed run, and nothing is done twice.

Control runs alone here, since a turn needs nobody else; its release then waits for replicas that never come.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import house
import kubeapi
from ciranda import loop
from ciranda.config import Home
from ciranda.data.versions import dataset_versions
from ciranda.deploy.stages import rollouts
from ciranda.evals.suites import evaluations
from ciranda.govern import audit
from ciranda.jobs import process
from ciranda.jobs.process import Identity
from ciranda.loop import turns
from ciranda.loop.turns import Turn
from ciranda.registry import versions
from ciranda.registry.verdicts import verdicts
from ciranda.store.database import Database
from ciranda.train.trials import searches, trials

STEPS = ("data", "train", "register", "evaluate", "gate", "release")
SPEC = house.SPEC.replace("    - {interactions: feedback}\n", "").replace("steps: 50", "steps: 400")
RANDOM = re.compile(r"_[0-9a-f]{32}")  # what differs between any two runs


class Warm:
    """Starts control processes, see `warm.py`."""

    def __init__(self) -> None:
        environment = {**os.environ, "CIRANDA_CONTROL_PORT": "0"}
        script = str(Path(__file__).with_name("warm.py"))
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._say() == "ready"

    def start(self, home: Home) -> Identity:
        argv = ["--home", str(home.path), "--ready-file", str(home.run / "control.json")]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"argv": argv, "log": str(home.logs / "control.log")}) + "\n")
        self._process.stdin.flush()
        return process.identify(int(self._say()))

    def _say(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()


class Alone:
    """A home whose control process is started and killed by the test; everything else of it is files."""

    def __init__(self, folder: Path, warm: Warm, *, spec: str = SPEC, settings: str = "") -> None:
        self.warm = warm
        self.home = Home(folder / ".ciranda")
        self.home.make()
        (self.home.path / "config.toml").write_text(settings)
        self.platform = loop.open(self.home)
        loop.first_key(self.platform)
        self.pid: Identity | None = None
        file = house.project(folder, spec=spec)
        loop.apply(self.platform, loop.plan(self.platform, {str(file): file.read_text()}), "test")
        self.turn = loop.start_turn(self.platform, house.MODEL, event="the-same", actor="test")

    def start(self) -> None:
        self.pid = self.warm.start(self.home)

    def kill(self) -> None:
        if self.pid is not None:
            process.kill(self.pid)
            while Path(f"/proc/{self.pid.pid}").exists():  # until its last thread has let go of its files
                time.sleep(0.001)
        self.pid = None

    def row(self) -> Turn:
        with self.platform.db.reading() as conn:
            return turns.get(conn, self.turn)

    def until(self, look: Any, *, seconds: float = 90, every: float = 0.001) -> Any:
        """Look a thousand times a second."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"{self.row()}\n{(self.home.logs / 'control.log').read_text()[-3000:]}"
            time.sleep(every)
        return found

    def over(self) -> bool:
        """Whether the turn has done its part, and its workflow knows."""
        now = self.row()
        assert now.state not in ("failed", "refused"), now.steps
        return now.state == "released" and self.workflow() == "SUCCESS"

    def workflow(self) -> str:
        database = Database(f"sqlite:///{self.home.path / 'workflows.db'}")
        with database.reading() as conn:
            found = conn.execute(sa.text("SELECT status FROM workflow_status")).scalars().all()
        database.close()
        assert len(found) <= 1, "one turn is one workflow"
        return str(found[0]) if found else ""

    def close(self) -> None:
        self.kill()
        self.platform.close()


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    warm = Warm()
    yield warm
    warm.close()


@pytest.fixture
def alone(tmp_path: Path, warm: Warm) -> Iterator[Alone]:
    home = Alone(tmp_path, warm)
    yield home
    home.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> dict[str, Any]:
    """What a turn that nobody disturbs leaves."""
    home = Alone(tmp_path_factory.mktemp("undisturbed"), warm)
    try:
        home.start()
        home.until(home.over)
        return facts_of(home)
    finally:
        home.close()


def facts_of(home: Alone) -> dict[str, Any]:
    """Everything a turn decides, without times and random names."""

    def rows(*columns: sa.Column[Any]) -> list[tuple[Any, ...]]:
        with home.platform.db.reading() as conn:
            return sorted(tuple(row) for row in conn.execute(sa.select(*columns)))

    version = versions.versions.c
    log = audit.page(home.platform.db, limit=10_000)
    assert audit.verify(home.platform.db).ok
    return {
        "datasets": rows(dataset_versions.c.dataset, dataset_versions.c.number, dataset_versions.c.digest),
        "versions": rows(version.number, version.digest, version.adapter_digest, version.stage),
        "searches": rows(searches.c.id, searches.c.state, searches.c.best),
        "trials": rows(trials.c.id, trials.c.state, trials.c.objective),
        "evaluations": rows(evaluations.c.id, evaluations.c.version, evaluations.c.suite_digest, evaluations.c.n),
        "verdicts": rows(verdicts.c.version, verdicts.c.kind, verdicts.c.outcome, verdicts.c.champion),
        "rollouts": rows(rollouts.c.candidate, rollouts.c.champion, rollouts.c.state, rollouts.c.turn),
        "steps": [(step["name"], step["state"], step["summary"]) for step in home.row().steps[:-1]],
        "jobs": home.platform.jobs.keys(),
        "folders": sorted(path.name for path in (home.home.artefacts / "versions").iterdir()),
        "audit": Counter((one.action, RANDOM.sub("", one.subject)) for one in log),
    }


def reached(row: Turn, name: str, state: str) -> bool:
    """Whether a turn has got to a step's begin or end, or further."""
    here = next((step for step in row.steps if step["name"] == name), None)
    if here is None:
        return False
    return state == "running" or here["state"] == "done" or row.state == "released"


def test_control_killed_at_every_boundary_of_a_turn_leaves_what_an_undisturbed_one_leaves(
    alone: Alone, undisturbed: dict[str, Any]
) -> None:
    hit = []
    for name in STEPS:
        for state in ("running", "done"):
            alone.start()
            alone.until(lambda name=name, state=state: reached(alone.row(), name, state))
            alone.kill()
            now = alone.row()
            hit.append((now.steps[-1]["name"], now.steps[-1]["state"]))
    print(f"killed at {hit}")
    assert {name for name, _ in hit} == set(STEPS)
    alone.start()
    alone.until(alone.over)
    assert facts_of(alone) == undisturbed


def test_a_turn_that_trains_on_kubernetes_ends_like_one_at_home_although_control_is_killed(
    tmp_path: Path, warm: Warm, undisturbed: dict[str, Any]
) -> None:
    (tmp_path / "token").write_text(kubeapi.TOKEN)
    with kubeapi.running() as cluster:
        settings = (
            f'jobs_url = "file:{tmp_path}/depot"\nkubernetes = "{cluster.url}"\nkubernetes_token = "file:{tmp_path}/token"\n'
            'kubernetes_image = "ciranda:test"\nkubernetes_claim = "shared"\nkubernetes_queue = "trainers"\n'
        )
        spec = SPEC.replace("train:\n", "train:\n  executor: kubernetes\n  resources: {memory_gb: 1}\n")
        home = Alone(tmp_path, warm, spec=spec, settings=settings)
        try:
            home.start()
            home.until(lambda: len(cluster.jobs) == 2)  # both trials are there, and wait for Kueue
            home.kill()
            for _, name in list(cluster.jobs):
                cluster.admit(name)
            home.start()
            home.until(home.over)
            assert facts_of(home) == undisturbed
            assert len(cluster.jobs) == 2
            trained = [key for key in home.platform.jobs.keys() if key.startswith("train:")]  # noqa: SIM118
            assert [home.platform.jobs.where(key) for key in trained] == ["kubernetes", "kubernetes"]
            assert {path.name for path in (tmp_path / "depot").iterdir() if any(path.rglob("*.*"))} == {"shared"}
        finally:
            home.close()


def test_training_jobs_killed_in_the_middle_are_found_dead_and_go_on_from_their_checkpoint(
    alone: Alone, undisturbed: dict[str, Any]
) -> None:
    alone.start()
    folders = [alone.home.jobs / f"train:search:house:the-same:{number}" for number in (0, 1)]
    for folder in folders:
        alone.until(lambda folder=folder: _steps(folder) > 60)
        os.killpg(json.loads((folder / "job.json").read_text())["process"]["pid"], signal.SIGKILL)
    alone.until(alone.over)
    for folder in folders:
        assert json.loads((folder / "job.json").read_text())["attempt"] == 2
        assert json.loads((folder / "output/result.json").read_text())["resumed_at"] >= 40
    assert facts_of(alone) == undisturbed


def _steps(folder: Path) -> int:
    """Steps that it has told of; other lines tell of the machine, and on a busy one there are many."""
    progress = folder / "progress.jsonl"
    return progress.read_text().count('"tokens_per_s"') if progress.exists() else 0


def test_everything_dies_at_once_and_the_next_start_goes_on(alone: Alone, undisturbed: dict[str, Any]) -> None:
    """As when a machine goes down in the middle of training."""
    alone.start()
    folder = alone.home.jobs / "train:search:house:the-same:0"
    alone.until(lambda: _steps(folder) > 60)
    alone.kill()
    for job in alone.home.jobs.glob("train:*/job.json"):
        try:
            os.killpg(json.loads(job.read_text())["process"]["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue
    alone.start()
    alone.until(alone.over)
    assert facts_of(alone) == undisturbed


def test_a_step_that_breaks_as_nobody_foresaw_ends_the_turn_and_frees_its_model(alone: Alone) -> None:
    (alone.home.jobs / "rows").write_text("a file where a folder should be")
    alone.start()
    broken = alone.until(lambda: now if (now := alone.row()).ended_at else None)
    assert (broken.state, broken.step, broken.next_actor) == ("failed", "train", "an engineer")
    assert "rows" in broken.steps[-1]["summary"]
    (alone.home.jobs / "rows").unlink()
    alone.turn = loop.start_turn(alone.platform, house.MODEL, event="another", actor="test")
    alone.until(lambda: alone.row().state == "released")
