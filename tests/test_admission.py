"""Who may let a version out: verdicts and people together, at every step of a release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.config.model import Approvals
from ciranda.deploy import rollout
from ciranda.errors import Conflict, Forbidden, Invalid, NotFound, Refused
from ciranda.govern import audit
from ciranda.loop import turns
from ciranda.registry import admission, aliases, approvals, verdicts, versions
from ciranda.registry.approvals import Word
from ciranda.registry.gates import Verdict
from registry_world import MODEL, PASSED, World
from test_rollout import Stage

TWO = {"people": 2}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, approve=TWO)
    yield stage
    stage.db.close()


def say(stage: Stage, actor: str, **more: Any) -> str:
    with stage.db.writing() as conn:
        return rollout.approve(conn, MODEL, actor=actor, **more).state


def test_a_release_waits_for_two_people_who_are_not_its_author(stage: Stage) -> None:
    assert stage.start().state == "awaiting_approval"
    assert stage.world.version(stage.candidate).stage == "candidate"
    with pytest.raises(Forbidden, match="its author's yes does not count"):
        say(stage, "Test ")  # "test" registered it, and a name is a name however it is written
    assert say(stage, "ana") == "awaiting_approval"
    assert say(stage, "ana", note="again") == "awaiting_approval"
    assert stage.newest().reason == "1 of 2 approvals: ana"
    assert say(stage, "bo") == "running"
    assert stage.newest().reason == "approved by ana and bo"
    assert stage.world.version(stage.candidate).stage == "approved"
    assert [one.actor for one in audit.page(stage.db, action="version.approved_by_person")] == ["bo", "ana"]


def test_one_no_ends_the_release_until_a_new_verdict(stage: Stage) -> None:
    stage.start()
    say(stage, "ana")
    with stage.db.writing() as conn:
        with pytest.raises(Invalid, match="a no needs a note"):
            rollout.decline(conn, stage.candidate, actor="bo", note=" ")
        rollout.decline(conn, stage.candidate, actor="bo", note="speaks English to Brazilians")
    assert (stage.newest().state, stage.world.version(stage.candidate).stage) == ("rolled_back", "refused")
    with pytest.raises(Refused, match="declined by bo"):
        stage.promote(stage.candidate)
    with pytest.raises(Refused, match="declined by bo"):
        stage.start()
    with stage.db.writing() as conn:
        verdicts.record(conn, stage.candidate, PASSED, champion="", actor="loop", turn="another")
    assert stage.start().state == "awaiting_approval"  # a new verdict asks everybody anew


def test_promotion_by_hand_needs_the_same_people(stage: Stage) -> None:
    with pytest.raises(Refused, match="it has 0 of 2 approvals"):
        stage.promote(stage.candidate)
    with stage.db.writing() as conn:
        for actor in ("ana", "bo"):
            admission.say(conn, stage.candidate, "approved", actor=actor)
        assert versions.admit(conn, stage.candidate, actor="bo").stage == "approved"
    assert stage.promote(stage.candidate).after == stage.candidate


def test_a_verdict_that_falls_in_the_middle_holds_the_release(tmp_path: Path) -> None:
    stage = Stage(tmp_path, shadow=0)
    stage.start()
    stage.ready(stage.candidate)
    with stage.db.writing() as conn:
        verdicts.record(conn, stage.candidate, Verdict("cannot tell", ()), champion="", actor="loop")
    stage.tick()
    assert (stage.newest().state, stage.newest().step) == ("held", -1)
    assert "cannot tell" in stage.newest().reason
    before = stage.newest().revision
    stage.tick()
    assert stage.newest().revision == before
    with pytest.raises(Refused, match="cannot be approved"):
        say(stage, "ana")
    with stage.db.writing() as conn:
        verdicts.record(conn, stage.candidate, PASSED, champion="", actor="loop")
    assert say(stage, "ana") == "running"
    stage.tick()
    assert stage.newest().stage == "5 %"


def test_approvals_that_the_file_asks_for_later_are_asked_for_before_all_traffic(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"shadow": 0, "steps": [50, 100], "judge_on": ["quality"], "margins": {"quality": 0.3}}
    stage = Stage(tmp_path, **plain)
    stage.start()
    stage.ready(stage.candidate)
    stage.tick()
    stage.world.apply(release={**plain, "approve": TWO})
    stage.traffic.behaviour = {"smart-home@0": {"valid": 0.3}}
    assert stage.run().state == "held"
    assert stage.live() == "smart-home@0"
    assert say(stage, "ana") == "held"
    assert say(stage, "bo") == "promoted"
    assert stage.live() == stage.candidate


def test_an_override_stands_for_gates_and_people_and_a_later_verdict_ends_it(stage: Stage) -> None:
    worse = stage.world.register(2).ref
    with stage.db.writing() as conn:
        verdicts.override(conn, worse, actor="root", role="admin", note="the live one leaks")
        assert admission.demand(conn, worse).complete
        verdicts.record(conn, worse, Verdict("fail", ()), champion="", actor="loop")
        with pytest.raises(Refused):
            admission.demand(conn, worse)


def test_whoever_asked_for_the_turn_is_an_author(stage: Stage) -> None:
    with stage.db.writing() as conn:
        turns.turns.create(conn, checkfirst=True)
        turn = turns.ask(conn, MODEL, cause="person", event="e", reason="", actor="carla")
        conn.execute(versions.versions.update().where(versions.versions.c.number == 1).values(turn=turn))
        assert admission.authors(conn, stage.candidate) == ("test", "carla")
        with pytest.raises(Forbidden):
            admission.say(conn, stage.candidate, "approved", actor="CARLA")


def test_what_live_traffic_refuted_is_no_way_back_while_there_is_another(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.promote(stage.candidate)
    stage.rollback()
    with stage.db.writing() as conn:  # released again, and harmful this time
        verdicts.refute(conn, stage.candidate, champion=f"{MODEL}@0", note="errors", actor="rollout")
    other = stage.world.passed(2).ref
    stage.promote(other)
    with pytest.raises(Refused, match="refuted by live traffic"):
        stage.rollback(to=stage.candidate)
    assert stage.rollback().after == f"{MODEL}@0"


words = st.lists(st.tuples(st.sampled_from("abcdE"), st.sampled_from(["approved", "declined"])), max_size=8)


@given(words, st.integers(0, 4), st.booleans(), st.sampled_from(["", "a", "e"]))
def test_a_quorum_is_so_many_different_people_and_no_no(
    said: list[tuple[str, str]], people: int, not_author: bool, author: str
) -> None:
    rows = [Word(n, "", "", "", "", what, who, "", "") for n, (who, what) in enumerate(said)]  # type: ignore[arg-type]
    found = approvals.quorum(Approvals(people=people, not_author=not_author), [author], rows)
    newest = {who.lower(): what for who, what in said}
    for_it = {who for who, what in newest.items() if what == "approved" and not (not_author and who == author)}
    assert found.complete == (len(for_it) >= people and "declined" not in newest.values())


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_moves_between_versions_and_sends_no_traffic(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    other = stage.world.register(2).ref
    with stage.db.writing() as conn:
        assert aliases.put(conn, stage.candidate, "champion", actor="ana").ref == stage.candidate
        assert aliases.put(conn, other, "champion", actor="ana").ref == other
        assert aliases.resolve(conn, f"{MODEL}@champion") == other
        assert aliases.resolve(conn, f"{MODEL}@live") == f"{MODEL}@0"
        assert aliases.resolve(conn, f"{MODEL}@newest") == other
        with pytest.raises(NotFound, match="has no previous version"):
            aliases.resolve(conn, f"{MODEL}@previous")
        with pytest.raises(Conflict, match="is called champion"):
            aliases.free(conn, other)
    assert [arm["version"] for arm in stage.route()["arms"]] == [f"{MODEL}@0"]
    with pytest.raises(Refused), stage.db.writing() as conn:
        rollout.promote(conn, aliases.resolve(conn, f"{MODEL}@champion"), actor="ana")
    with stage.db.writing() as conn:
        aliases.remove(conn, MODEL, "champion", actor="ana")
        with pytest.raises(NotFound, match="there are live, previous, newest"):
            aliases.resolve(conn, f"{MODEL}@champion")


@pytest.mark.parametrize("name", ["live", "approved", "latest", "7", "Über", "-x", "a b", "x" * 64])
def test_names_that_mean_something_already_or_have_another_shape_are_refused(tmp_path: Path, name: str) -> None:
    world = World(tmp_path)
    with world.db.writing() as conn, pytest.raises(Invalid, match="is no name for a version"):
        aliases.put(conn, f"{MODEL}@0", name, actor="ana")
    world.db.close()
