"""When the loop may turn by itself, and what its rows say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ciranda.config import model as models
from ciranda.errors import Conflict
from ciranda.govern import audit
from ciranda.loop import turns
from ciranda.store import clock
from ciranda.store.database import Database, metadata


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(database.engine)
    yield database
    database.close()


def ask(conn, event, *, automatic=False):
    return turns.ask(
        conn, "smart-home", cause="drift", event=event, reason="topics moved", actor="monitor", automatic=automatic
    )


def test_one_event_is_one_turn_and_one_turn_at_a_time(database):
    with database.writing() as conn:
        first = ask(conn, "alarm-1")
        assert ask(conn, "alarm-1") == first
        with pytest.raises(Conflict, match="is under way"):
            ask(conn, "alarm-2")
        turns.end(conn, first, "unchanged")
        assert ask(conn, "alarm-2") != first


def test_steps_keep_their_first_start_when_they_run_again_after_a_crash(database):
    with database.writing() as conn:
        turn = ask(conn, "alarm-1")
        turns.note(conn, turn, "train", "running", state="running")
        began = turns.get(conn, turn).steps[0]["started_at"]
        turns.note(conn, turn, "train", "running")
        turns.note(conn, turn, "train", "done", summary="2 trials, best 81 %")
        step = turns.get(conn, turn).steps
    assert len(step) == 1
    assert step[0]["started_at"] == began
    assert (step[0]["state"], step[0]["summary"]) == ("done", "2 trials, best 81 %")


def test_cool_down_and_weekly_budget_hold_automatic_turns_only(database):
    spec = models.read(
        "model: smart-home\nwatch: {cooldown: 1h, budget: {turns_per_week: 2}}\n", file="smart-home.yaml"
    )
    with database.writing() as conn:
        assert turns.barred(conn, spec) == ""
        turns.end(conn, ask(conn, "by-hand"), "unchanged")
        assert turns.barred(conn, spec) == ""
        for number in (1, 2):
            turns.end(conn, ask(conn, f"alarm-{number}", automatic=True), "unchanged")
            assert "cools down until" in turns.barred(conn, spec) or "budget of 2" in turns.barred(conn, spec)
            earlier = clock.iso(clock.now() - timedelta(hours=2))
            conn.execute(turns.turns.update().values(asked_at=earlier))
        assert "budget of 2 automatic turns a week is used" in turns.barred(conn, spec)
        conn.execute(turns.turns.update().values(asked_at=clock.iso(clock.now() - timedelta(days=8))))
        assert turns.barred(conn, spec) == ""


def test_every_change_of_state_is_in_the_audit_log(database):
    with database.writing() as conn:
        turn = ask(conn, "alarm-1")
        turns.note(conn, turn, "data", "running", state="running")
        turns.end(conn, turn, "refused", summary="a gate said no")
    actions = [event.action for event in audit.page(database)]
    assert actions == ["turn.refused", "turn.running", "turn.asked"]
