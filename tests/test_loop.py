"""The loop turns, on the fake engine: a first version from files, live by its evidence; the world changes, it heals; and back.

Everything is what a user runs: `ciranda up`, the REST API, the official client at the gateway. No step is made by hand.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import house
import postgres
from ciranda.cli import telling
from ciranda.cli.crowd import Crowd
from ciranda.cli.stage import Stage
from ciranda.data import versions as datasets
from ciranda.deploy import stages
from ciranda.govern import audit
from ciranda.loop import turns
from ciranda.registry import folders, verdicts, versions

STEPS = ["data", "train", "register", "evaluate", "gate", "release"]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("ciranda.cli.crowd.MISTAKEN", 0.0)  # so few users must not press the wrong button
    file = house.project(tmp_path)
    with house.platform(tmp_path) as stage:
        house.apply(stage, file)
        yield stage


@pytest.fixture
def on_postgresql(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with postgres.server() as url:
        monkeypatch.setenv("CIRANDA_DATABASE_URL", postgres.fresh(url, "ciranda"))
        yield


def test_the_loop_turns_heals_itself_and_goes_back(stage: Stage) -> None:
    the_story(stage)


@pytest.mark.slow
def test_the_same_with_its_rows_in_postgresql(on_postgresql: None, stage: Stage) -> None:
    assert not stage.platform.db.is_sqlite
    the_story(stage)


def the_story(stage: Stage) -> None:
    began = time.monotonic()
    house.live(stage, "house@0")
    first = stage.control.post("/models/house/turns", {"cause": "asked", "event": "first"})["turn"]
    house.ended(stage, first, "released")
    with house.users(stage) as crowd:
        promoted(stage, first, "house@1", before="house@0")
        print(f"the first version was live after {time.monotonic() - began:.1f} s")
        settle_down(stage, crowd)
        second = change_the_world(stage, crowd)
        promoted(stage, second, "house@2", before="house@1")
        healed(stage, crowd)
        back_and_forth(stage, crowd)
    everything_is_on_record(stage, crowd)
    print(f"the whole story took {time.monotonic() - began:.1f} s")


def promoted(stage: Stage, turn: str, ref: str, *, before: str) -> None:
    """A turn runs to its good end, and its rows say how."""
    done = house.ended(stage, turn, "promoted", limit_s=120)
    assert [(step["name"], step["state"]) for step in done.steps] == [(name, "done") for name in STEPS]
    assert (done.version, done.next_actor) == (ref, "nobody")
    with stage.platform.db.reading() as conn:
        version, ruling, rollout = versions.get(conn, ref), verdicts.newest(conn, ref), stages.of(conn, "house")[0]
        champion = versions.get(conn, before)
    assert (version.stage, version.turn, version.base) == ("live", turn, "fake")
    assert champion.stage == "retired"
    assert ruling is not None
    assert (ruling.outcome, ruling.champion, len(ruling.gates)) == ("pass", before, 3)
    assert (rollout.candidate, rollout.champion, rollout.state, rollout.turn) == (ref, before, "promoted", turn)
    assert folders.verify(Path(version.folder)) == []
    found = telling.trials(stage.platform, turn)
    assert [trial.state for trial in found] == ["complete", "complete"]
    assert all(len(trial.loss_curve) == trial.recipe.steps for trial in found)


def settle_down(stage: Stage, crowd: Crowd) -> None:
    """Users are content, and the monitors have learned what is usual."""
    stage.until("the feedback of house@1 has been learned", lambda: _learned(stage, "house@1"), limit_s=30)
    crowd.count.recent.clear()
    crowd.wait(20, limit_s=30)
    assert crowd.count.recent_right == 1.0


def _learned(stage: Stage, ref: str) -> bool:
    channels = {one["channel"]: one for one in stage.control.get("/models/house/drift")["streams"]}
    return "feedback" in channels and channels["feedback"]["version"] == ref and channels["feedback"]["seen"] >= 45


def change_the_world(stage: Stage, crowd: Crowd) -> str:
    """Other people come; the change is noticed, explained, and starts a turn; returns the turn."""
    crowd.serve(house.speech("pt"))
    alarm = stage.until("the drift is noticed", lambda: telling.drift_since(stage.platform, "house", ""), limit_s=60)
    assert "pt" in alarm.title
    turn = stage.until("the drift starts a turn", lambda: telling.turn_by_drift(stage.platform, "house"), limit_s=60)
    assert turn.automatic
    return turn.id


def healed(stage: Stage, crowd: Crowd) -> None:
    """What users corrected is in the data, and they are content again."""
    counts = Counter(row.language for row in datasets.read(stage.home, "house@2") if row.source == "interactions")
    assert counts["pt"] >= 30
    crowd.count.recent.clear()
    crowd.wait(40, limit_s=30)
    assert crowd.count.recent_right >= 0.8


def back_and_forth(stage: Stage, crowd: Crowd) -> None:
    """Rollback while people ask: the old version answers within a second, no request fails, and forward again."""
    failed = crowd.count.failed
    for path, body, ref in (("rollback", {}, "house@1"), ("promote", {"version": "house@2"}, "house@2")):
        change = stage.control.post(f"/models/house/{path}", body)
        assert (change["after"], change["ready"]) == (ref, True)
        assert crowd.served_by(ref, limit_s=10)
    crowd.wait(10, limit_s=30)
    assert crowd.count.failed == failed == 0


def everything_is_on_record(stage: Stage, crowd: Crowd) -> None:
    """Every answer that was given is stored, and the chain of what happened holds."""
    stage.until("all answers are stored", lambda: house.recorded(stage) >= crowd.count.answered, limit_s=30)
    assert house.recorded(stage) == crowd.count.answered
    checked = audit.verify(stage.platform.db)
    assert (checked.ok, checked.problem) == (True, "")
    states = [one.state for one in turns.page(stage.platform.db, model="house")]
    assert states == ["promoted", "promoted"]
    ended = Counter(event.action for event in audit.page(stage.platform.db, limit=5000))
    assert (ended["turn.promoted"], ended["version.registered"], ended["rollout.promoted"]) == (2, 3, 2)


def test_a_turn_that_finds_nothing_to_learn_says_so_and_harms_nothing(stage: Stage) -> None:
    """Data of which no row is good end the turn, named by file and line; what is live stays live."""
    house.live(stage, "house@0")
    data = stage.folder / "data" / "said.jsonl"
    data.write_text(json.dumps({"prompt": "no answer"}) + "\n")
    turn = stage.control.post("/models/house/turns", {"event": "bad-row"})["turn"]
    failed = house.ended(stage, turn, "failed")
    assert [(step["name"], step["state"]) for step in failed.steps] == [("data", "failed")]
    assert "said.jsonl:1" in failed.steps[0]["summary"]
    assert failed.next_actor == "an engineer"
    assert datasets.newest_of(stage.platform.db, "house") is None
    house.live(stage, "house@0")
