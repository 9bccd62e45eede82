"""Versions: immutable, numbered without gaps, whole or absent; stages that only a verdict opens; history that answers."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ciranda.errors import Conflict, Forbidden, Invalid, NotFound, Refused, StorageFull
from ciranda.govern import audit
from ciranda.registry import folders, history, lineage, models, verdicts, versions
from ciranda.registry.gates import Verdict
from ciranda.store import clock
from registry_world import MODEL, PASSED, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.db.close()


def test_a_version_is_a_row_and_a_folder_that_proves_itself(world: World) -> None:
    version = world.register(1)
    folder = Path(version.folder)
    assert version.ref == "smart-home@1"
    assert folder == world.home.artefacts / "versions" / "smart-home@1"
    assert {path.name for path in folder.iterdir()} == {
        "adapter", "adapter.gguf", "evaluation.json", "card.md", "bom.cdx.json", "manifest.json", "manifest.sig",
    }  # fmt: skip
    assert folders.verify(folder) == []
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    assert folders.verify(folder) == ["adapter/adapter_config.json was changed"]


def test_the_bare_base_is_number_zero_and_needs_no_gate(world: World) -> None:
    assert (world.base.ref, world.base.stage, world.base.gguf) == ("smart-home@0", "approved", None)
    again = versions.register_base(world.db, world.home, model=MODEL, base="tiny", base_digest="sha256:base", actor="x")
    assert again == world.base


def test_another_bare_base_cannot_take_number_zero(world: World) -> None:
    with pytest.raises(Conflict, match="cannot become number 0"):
        versions.register_base(world.db, world.home, model=MODEL, base="other", base_digest="sha256:o", actor="x")


def test_the_same_work_is_the_same_version(world: World) -> None:
    assert world.register(1) == world.register(1)
    assert world.register(2).number == 2


def test_numbers_have_no_gaps_when_many_register_at_once(world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(world.register, range(1, 9)))
    assert sorted(version.number for version in made) == list(range(1, 9))
    assert all(folders.verify(Path(version.folder)) == [] for version in made)


def test_a_model_must_be_applied_first(world: World) -> None:
    with pytest.raises(NotFound, match="no model 'other'; there are smart-home"):
        versions.register_base(world.db, world.home, model="other", base="tiny", base_digest="x", actor="x")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "state.pkl"])
def test_pickles_are_refused(world: World, name: str) -> None:
    draft = world.draft(1)
    assert draft.adapter is not None
    (draft.adapter / name).write_bytes(b"\x80")
    with pytest.raises(Invalid, match="pickle"):
        versions.register(world.db, world.home, draft, actor="test")
    with world.db.reading() as conn:
        assert [version.number for version in versions.of(conn, MODEL)] == [0]


def test_a_full_disk_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ciranda.registry.folders.shutil.copyfile", full)
    with pytest.raises(StorageFull, match="no room"):
        world.register(1)
    assert [path.name for path in folders.root(world.home).iterdir()] == ["smart-home@0"]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from registry_world import MODEL, World
from ciranda.config import Home
from ciranda.registry import versions
from ciranda.store import files
from ciranda.store.database import Database
world = World.__new__(World)
world.home = Home(Path(sys.argv[1])); world.db = Database(f"sqlite:///{world.home.database}")
at = int(sys.argv[3]); count = 0
def trace(frame, event, arg):
    global count
    if event == "line" and frame.f_code.co_filename.endswith(("registry/folders.py", "registry/versions.py")):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
draft = world.draft(1)
sys.settrace(trace)
versions.register(world.db, world.home, draft, actor="test")
sys.settrace(None)
"""


def test_kill_9_at_any_line_leaves_both_row_and_folder_or_neither(world: World) -> None:
    """A registration is killed at line after line; each time the next one ends with one whole version number 1."""
    deaths, line = 0, 5
    while True:
        script = [sys.executable, "-c", KILLED, str(world.home.path), str(Path(__file__).parent), str(line)]
        code = subprocess.run(script, check=False, capture_output=True).returncode
        with world.db.reading() as conn:
            registered = versions.find(conn, f"{MODEL}@1")
        if registered is not None:
            assert folders.verify(Path(registered.folder)) == []
        if code != -signal.SIGKILL:
            break
        deaths, line = deaths + 1, line + 41
        if registered is not None:
            break
    assert deaths >= 3
    version = world.register(1)
    assert version.number == 1
    assert folders.verify(Path(version.folder)) == []
    assert sorted(path.name for path in folders.root(world.home).iterdir()) == ["smart-home@0", "smart-home@1"]


def test_what_a_living_process_stages_is_nobody_elses_to_remove(world: World) -> None:
    staged = folders.stage(world.home, adapter=world.draft(2).adapter)
    world.register(1)
    assert staged.path.exists()
    folders.discard(staged)
    assert not staged.path.exists()


def test_figures_added_later_change_card_and_manifest_but_not_the_digest(world: World) -> None:
    version = world.register(1)
    figures = {"test": {"exact_match": {"mean": 0.83, "low": 0.8, "high": 0.86, "n": 500}}}
    with world.db.writing() as conn:
        after = versions.evaluated(conn, world.home, version.ref, figures, actor="test")
    assert after.digest == version.digest
    assert folders.verify(Path(after.folder)) == []
    card = (Path(after.folder) / "card.md").read_text()
    assert "| test / exact_match | 0.83 [0.8, 0.86], n = 500 |" in card
    assert json.loads((Path(after.folder) / "evaluation.json").read_text()) == figures


def test_the_card_cannot_be_broken_by_what_a_recipe_says(world: World) -> None:
    draft = world.draft(1)
    evil = versions.Draft(**{**draft.__dict__, "recipe": {"note": "a | b\nc"}})
    version = versions.register(world.db, world.home, evil, actor="test")
    assert "| note | a \\| b c |" in (Path(version.folder) / "card.md").read_text()


def test_there_is_no_way_past_a_gate(world: World) -> None:
    version = world.register(1)
    with world.db.writing() as conn:
        for stage in ("approved", "live"):
            with pytest.raises((Refused, Conflict)):
                versions.move(conn, version.ref, stage, actor="test", reason="please")
        for outcome in ("fail", "cannot tell"):
            verdicts.record(conn, version.ref, Verdict(outcome, ()), champion="smart-home@0", actor="test")
            with pytest.raises(Refused, match=f"its gates said: {outcome}"):
                versions.move(conn, version.ref, "approved", actor="test", reason="please")
        verdicts.record(conn, version.ref, PASSED, champion="smart-home@0", actor="test")
        versions.move(conn, version.ref, "approved", actor="test", reason="passed")
        verdicts.refute(conn, version.ref, champion="smart-home@0", note="live traffic says no", actor="rollout")
        with pytest.raises(Refused, match="live traffic says no"):
            versions.move(conn, version.ref, "live", actor="test", reason="please")


def test_an_override_has_a_name_a_role_and_a_note_and_is_audited(world: World) -> None:
    version = world.register(1)
    with world.db.writing() as conn:
        with pytest.raises(Forbidden):
            verdicts.override(conn, version.ref, actor="eve", role="approver", note="trust me")
        with pytest.raises(Invalid):
            verdicts.override(conn, version.ref, actor="ana", role="admin", note="  ")
        verdicts.override(conn, version.ref, actor="ana", role="admin", note="the suite has a wrong reference")
        versions.move(conn, version.ref, "approved", actor="ana", reason="overridden")
    (event,) = audit.page(world.db, action="verdict.override")
    assert (event.actor, event.subject) == ("ana", version.ref)
    assert audit.verify(world.db).ok


def test_only_number_zero_is_admitted_as_a_base(world: World) -> None:
    version = world.register(1)
    with world.db.writing() as conn, pytest.raises(Refused):
        verdicts.admit_base(conn, version.ref, actor="test")


def go_live(world: World, ref: str) -> None:
    with world.db.writing() as conn:
        if versions.get(conn, ref).stage == "candidate":
            versions.move(conn, ref, "approved", actor="test", reason="passed")
        versions.move(conn, ref, "live", actor="test", reason="test")


def test_one_version_is_live_and_history_says_which_was_when(world: World) -> None:
    before = clock.now() - timedelta(seconds=1)
    moments = []
    for ref in ("smart-home@0", world.passed(1).ref, world.passed(2).ref, "smart-home@1"):
        go_live(world, ref)
        moments.append(clock.now())
        while clock.iso() == clock.iso(moments[-1]):
            pass
    with world.db.reading() as conn:
        assert [history.live_at(conn, MODEL, moment) for moment in moments] == [
            "smart-home@0", "smart-home@1", "smart-home@2", "smart-home@1",
        ]  # fmt: skip
        assert history.live_at(conn, MODEL, before) is None
        assert [version.ref for version in versions.of(conn, MODEL) if version.stage == "live"] == ["smart-home@1"]
        previous = versions.previous(conn, MODEL)
        assert previous is not None
        assert previous.ref == "smart-home@2"


def test_moving_to_the_same_stage_does_nothing(world: World) -> None:
    go_live(world, "smart-home@0")
    with world.db.reading() as conn:
        count = len(history.of(conn, MODEL))
    go_live(world, "smart-home@0")
    with world.db.reading() as conn:
        assert len(history.of(conn, MODEL)) == count


@pytest.mark.parametrize("ref", ["smart-home", "@1", "smart-home@x", "smart-home@-1", ""])
def test_what_is_no_version_is_said_so(ref: str) -> None:
    with pytest.raises(Invalid, match="is no version"):
        versions.split(ref)


def test_a_missing_version_names_those_there_are(world: World) -> None:
    with world.db.reading() as conn, pytest.raises(NotFound, match=r"no version smart-home@7; there are smart-home@0"):
        versions.get(conn, "smart-home@7")


def test_the_same_spec_applied_again_keeps_its_generation(world: World) -> None:
    world.apply()
    world.apply(purpose="lights")
    with world.db.reading() as conn:
        assert models.get(conn, MODEL).generation == 2
    assert len(audit.page(world.db, action="model.applied")) == 2


def test_lineage_goes_back_to_causes_and_forward_to_effects(world: World) -> None:
    version = world.passed(1)
    go_live(world, version.ref)
    with world.db.reading() as conn:
        chain = lineage.graph(conn, lineage.find(conn, version.ref), count=lambda _: 7)
        assert ("base:tiny", f"version:{version.ref}") in chain.edges
        assert (f"version:{version.ref}", f"answers:{version.ref}") in chain.edges
        assert lineage.find(conn, MODEL).name == version.ref


def test_lineage_follows_the_version_that_one_went_on_from(world: World) -> None:
    first, draft = world.register(1), world.draft(2)
    second = versions.register(
        world.db,
        world.home,
        versions.Draft(**{**draft.__dict__, "recipe": {"started_from": first.ref}}),
        actor="test",
    )
    edge = (f"version:{first.ref}", f"version:{second.ref}")
    with world.db.reading() as conn:
        for ref, way in ((first.ref, "forward"), (second.ref, "back")):
            assert edge in lineage.graph(conn, lineage.find(conn, ref), direction=way).edges  # type: ignore[arg-type]
