"""Runs: what they tell while they train, what they are made of, beside each other; and one that is cancelled leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import house
from ciranda import loop
from ciranda.cli.client import Client, part
from ciranda.cli.stage import Stage
from ciranda.config import Settings
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.jobs import process
from ciranda.jobs.usage import Usage, peak, resident
from ciranda.loop import runs
from ciranda.train import provenance, search, telemetry, trials
from ciranda.train.plans import Place, Plan
from ciranda.train.recipe import Recipe
from ciranda.train.search import Search
from ciranda.train.studies import Studies
from ciranda.train.telemetry import Listener, Telemetry
from registry_world import MODEL, World

# --- what a run tells -------------------------------------------------------------------------------------------------

LINES = [
    {"phase": "loading"},
    {"run": {"code": "c", "seed": 17}},
    {"step": 1, "steps": 4, "loss": 2.0, "rate": 1e-3, "tokens_per_s": 50.0},
    {"step": 2, "steps": 4, "loss": 1.0},
    {"sample": {"step": 2, "prompt": "light on", "reference": "{1}", "answer": "{2}"}},
    {"system": {"rss_bytes": 5, "cpu_percent": 99.0, "at": "now"}},
    {"step": 2, "steps": 4, "loss": 0.9},
    {"validation": {"step": 2, "exact_match": 0.5, "loss": 0.7, "n": 8}},
    {"sample": {"step": 4, "prompt": "light on", "reference": "{1}", "answer": " {1}\n"}},
]


def test_lines_become_one_whole_and_a_step_done_again_counts_once() -> None:
    told = telemetry.read(LINES)
    assert [(one.step, one.loss) for one in told.curve] == [(1, 2.0), (2, 0.9)]
    assert (told.steps, told.resumed, told.run["seed"], told.peak_rss_bytes) == (4, (2,), 17, 5)
    assert [one.exact_match for one in told.validations] == [0.5]
    assert [one.right for one in told.samples] == [False, True]
    assert told.without_words().samples == ()


names = st.sampled_from(["step", "loss", "run", "sample", "system", "validation", "phase", "steps"])
values = st.recursive(
    st.none() | st.floats() | st.text(max_size=5) | st.booleans(),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.sampled_from(["step", "n", "rss_bytes"]), one),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(names, values)))
@example([{"run": {"step": float("inf")}}])
def test_no_line_breaks_the_reading(lines: list[dict[str, object]]) -> None:
    told = telemetry.read(lines)
    assert json.loads(json.dumps(told.to_dict(), allow_nan=False))["steps"] >= 0


def test_a_long_run_stays_small_and_keeps_its_ends() -> None:
    lines = ({"step": n, "steps": 100_000, "loss": 1 / n} for n in range(1, 20_001))
    curve = telemetry.read(lines).curve
    assert len(curve) <= telemetry.MOST_POINTS
    assert (curve[0].step, curve[-1].step) == (1, 20_000)


class Kept:
    """Lines of one job that grow."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []
        self.asked: list[int] = []

    def progress(self, key: str, offset: int = 0) -> tuple[list[dict[str, object]], int]:
        self.asked.append(offset)
        return self.lines[offset:], len(self.lines)


def test_who_looks_again_reads_on_from_where_they_were() -> None:
    kept, listener = Kept(), Listener()
    kept.lines += LINES[:4]
    assert len(listener.of(kept, "a").curve) == 2
    kept.lines.append({"step": 3, "steps": 4, "loss": 0.5})
    assert len(listener.of(kept, "a").curve) == 3
    assert kept.asked == [0, 4, 4, 5]


def test_what_a_process_takes_is_told_and_ever_more_rarely() -> None:
    said: list[dict[str, object]] = []
    with Usage(said.append, shortest_s=0.01) as usage:  # type: ignore[arg-type]
        while len(said) < 3:
            time.sleep(0)
    first = said[0]["system"]
    assert isinstance(first, dict)
    assert 0.5 < first["rss_bytes"] / resident() < 2
    assert first["cpu_percent"] >= 0
    assert (usage.pause_s(0), usage.pause_s(600), usage.pause_s(1e6)) == (0.01, 10.0, 60.0)


def test_the_most_memory_is_a_program_s_own_and_not_that_of_whoever_started_it() -> None:
    held = bytearray(b"1") * (300 << 20)
    said = subprocess.run(
        [sys.executable, "-c", "from ciranda.jobs import usage; print(usage.peak())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 0 < int(said.stdout) < len(held) < peak()


def test_what_was_not_the_same_is_named() -> None:
    before = {"code": "a", "rows": "r", "environment": {"torch": "2.12", "threads": "1"}}
    after = {"code": "b", "rows": "r", "environment": {"torch": "2.13"}}
    assert provenance.differences(before, before) == []
    assert provenance.differences(before, after) == [
        "code",
        "torch: 2.12 then, 2.13 now",
        "threads: 1 then, nothing now",
    ]


# --- an end to one ----------------------------------------------------------------------------------------------------


class Rig:
    """A home with one search whose trials never end by themselves, as slow jobs of the real executor."""

    def __init__(self, path: Path, *, steps: int = 100_000) -> None:
        self.world = World(path, base="fake", serve={"engine": "fake"})
        self.platform = loop.Platform(self.world.home, Settings(), self.world.db)
        base = path / "base"
        (base / "hf").mkdir(parents=True)
        (base / "base.json").write_text('{"digest": "sha256:0"}')
        rows = path / "rows.jsonl"
        rows.write_text("".join(f'{{"prompt": "say {n}", "completion": "{n}"}}\n' for n in range(8)))
        self.plan = Plan(
            id=f"search:{MODEL}:one", model=MODEL, dataset=f"{MODEL}@1", bases={"fake": Place(base)}, rows={"sft/": rows},
            validation={"sft": rows}, recipe=Recipe(steps=steps, batch_size=1), limit=2,
        )  # fmt: skip
        self.trainer = runs.trainer(self.platform, MODEL)
        self.search = Search(self.platform.db, self.trainer, Studies(self.platform.db), self.plan)

    def tick(self) -> None:
        self.search.tick(actor="test")

    def begin(self) -> None:
        search.begin(self.platform.db, self.plan, actor="test", workers=2)
        self.tick()

    def trial(self, number: int = 0) -> trials.Trial:
        return trials.find(self.platform.db, f"{self.plan.id}.{number}")

    def running(self) -> trials.Trial:
        """The first trial, once its job has told a step."""
        deadline = time.monotonic() + 30
        self.begin()
        while not runs.told(self.platform, self.trial()).curve:
            assert time.monotonic() < deadline, "no step in time"
            self.tick()
        return self.trial()

    def processes(self, trial: trials.Trial) -> list[process.Identity]:
        return process.marked(f"CIRANDA_JOB={self.platform.jobs.root / trial.job}")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    for trial in trials.of(rig.platform.db, rig.plan.id):
        rig.platform.jobs.cancel(trial.job, grace_s=0)


def test_a_cancelled_run_is_gone_with_all_it_held_and_the_search_goes_on(rig: Rig) -> None:
    trial = rig.running()
    assert rig.processes(trial)
    assert runs.cancel(rig.platform, trial, actor="ana")["state"] == "cancelled"
    assert rig.processes(trial) == []
    assert not (rig.platform.jobs.root / trial.job / "output").exists()
    rig.tick()
    after = rig.trial()
    assert (after.state, after.reason) == ("cancelled", "cancelled by ana")
    assert runs.told(rig.platform, after).curve, "what it told stays"
    assert rig.trial(1).open
    assert runs.cancel(rig.platform, after, actor="bob")["state"] == "cancelled"
    assert rig.trial().reason == "cancelled by ana"

    # The other one is cancelled by somebody who dies right after writing the row, and a tick that saw it open begins it again.
    with rig.platform.db.writing() as conn:
        assert trials.cancel(conn, rig.trial(1), actor="eve")
    rig.trainer.submit(rig.trial(1).job, rig.search._spec(rig.trial(1)))
    look = runs.Cancelled(rig.platform).look
    look()
    assert rig.processes(rig.trial(1)) == []
    with pytest.raises(Exception, match="cancelled by"):
        rig.tick()
    look()


def test_what_ended_cannot_be_cancelled_and_names_are_found_by_their_end(rig: Rig) -> None:
    rig.begin()
    trials.change(rig.platform.db, rig.trial(), state="failed", reason="no memory")
    with pytest.raises(Conflict, match="failed already"):
        runs.cancel(rig.platform, trials.find(rig.platform.db, "one.0"), actor="ana")
    with pytest.raises(NotFound, match="no run 'nine'"):
        trials.find(rig.platform.db, "nine")
    rig.tick()
    with pytest.raises(Invalid, match="several runs"):
        trials.find(rig.platform.db, "") if rig.trial(1) else None


# --- beside each other ------------------------------------------------------------------------------------------------


def test_recipes_are_told_apart_and_answers_stand_side_by_side() -> None:
    recipes = {"a": {"rank": 8, "seed": 17}, "b": {"rank": 16, "seed": 17}}
    assert runs.differing(recipes) == {"rank": {"a": 8, "b": 16}}
    assert runs.agreeing(recipes) == {"seed": 17}
    one = telemetry.read(LINES)
    (row,) = runs.beside(["a", "b"], [one, Telemetry()])
    assert row["prompt"] == "light on"
    assert row["answers"] == {"a": {"step": 4, "answer": " {1}\n", "right": True}}


# --- as people do it --------------------------------------------------------------------------------------------------


def test_runs_through_the_front_door(tmp_path: Path) -> None:
    def ciranda(*words: str) -> str:
        command = [sys.executable, "-m", "ciranda.cli", *words, "--home", str(stage.home.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    file = house.project(tmp_path)
    with house.platform(tmp_path) as stage:
        house.apply(stage, file)
        house.live(stage, "house@0")
        turn = stage.control.post("/models/house/turns", {"event": "first"})["turn"]
        house.ended(stage, turn, "released", "refused", limit_s=120)
        listed = json.loads(ciranda("runs", "list", "--json"))["items"]
        assert [one["state"] for one in listed] == ["complete", "complete"]
        first, second = (one["id"] for one in listed)
        whole = json.loads(ciranda("runs", "show", first, "--json"))
        heard, made = whole["telemetry"], whole["made_of"]
        assert len(heard["curve"]) == 50
        assert {one["step"] for one in heard["samples"]} == {40, 50}
        assert heard["system"][-1]["rss_bytes"] > 1e6
        assert made["seed"] == 17
        assert len(made["code"]) == len(made["rows"]) == 64
        assert made["environment"]["python"]
        beside = json.loads(ciranda("runs", "compare", first, second.rpartition(":")[2], "--json"))
        assert [one["id"] for one in beside["runs"]] == [first, second]
        assert len(beside["samples"]) == 3
        assert "loss" in ciranda("runs", "show", first)
        assert "asked" in ciranda("runs", "compare", first, second)
        ciranda("runs", "logs", first)
        assert "a trial" in ciranda("train", "house", "--estimate")
        hidden_from_some(stage, first)
        trained_again(stage, ciranda)


def hidden_from_some(stage: Stage, run: str) -> None:
    """Samples quote rows, so whoever may not see those sees no sample."""
    key = stage.control.post("/keys", {"name": "vera", "role": "viewer"})["secret"]
    vera = Client(stage.control.url, key)
    assert vera.get(f"/runs/{part(run)}")["telemetry"]["samples"]
    policy = {
        "policy": "no-answers", "why": "They are for those who train.", "effect": "mask", "fields": {"names": ["completion"]},
        "datasets": {"names": ["house"]}, "who": {"roles": ["viewer"]},
    }  # fmt: skip
    stage.control.post("/policies", {"policy": policy})
    assert vera.get(f"/runs/{part(run)}")["telemetry"]["samples"] == []
    assert stage.control.get(f"/runs/{part(run)}")["telemetry"]["samples"]


def trained_again(stage: Stage, ciranda: Callable[..., str]) -> None:
    """The same record gives the same weights; with other rows it says so and how far it is off."""
    told = json.loads(ciranda("reproduce", "house@1", "--exact", "--json"))
    assert (told["state"], told["verdict"]["summary"]) == ("complete", "bit by bit the same")
    assert told["verdict"]["differences"] == []
    assert not (stage.home.jobs / told["job"] / "output").exists()
    for path in (stage.home.jobs / "rows").glob("*-train*.jsonl"):
        path.write_text("".join(sorted(path.read_text().splitlines(keepends=True)[:40])))
    off = json.loads(ciranda("reproduce", "house@1", "--json"))["verdict"]
    assert (off["equal"], off["differences"]) == (False, ["rows"])
    assert len(stage.control.get("/reproductions", model="house")["items"]) == 2
