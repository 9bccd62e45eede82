"""A person is forgotten: in the record, in every version of every dataset, in files and in what control wrote down; the raw bytes
of the whole home are searched afterwards. What cannot be taken back is named: models that learnt from them, files that went out."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ciranda import loop
from ciranda.config import Home
from ciranda.data import erasure as datasets
from ciranda.data import exports, reading, versions
from ciranda.data.rows import Row
from ciranda.errors import Invalid
from ciranda.evals import suites
from ciranda.evals.suites import Answer, Evaluation
from ciranda.govern import audit, erasures
from ciranda.interactions.spool import FEEDBACK, INTERACTION
from ciranda.loop.erasing import Erasing
from ciranda.monitor import alerts
from ciranda.registry import flags, models
from ciranda.registry import versions as registry
from ciranda.store import clock, ids, scrub
from ciranda.store.scrub import Needles
from recorded import Recorded, answered, asked, until

MARIA, JOAO = "maria.silva@example.com", "joao"
THEIRS = (
    "my parcel to rua das flores 12 is late",
    "rua das flores is served on mondays",
    "it is served on tuesdays, says maria",
)
OTHERS = "where is the nearest shop please"
STEPS = ("collect", "interactions", "datasets", "files", "records", "models", "proof")


class World:
    """A home with a recording collector, two datasets, a report, an alert, staged rows, and a version that learnt from them."""

    def __init__(self, folder: Path) -> None:
        self.platform = loop.open(Home(folder / "home"))
        self.home, self.db = self.platform.home, self.platform.db
        self.recorded = Recorded(self.home.path)
        self.recorded.start()
        self._talk()
        self._commit()
        self._write_down()
        self._learn()

    def _talk(self) -> None:
        writer = self.recorded.writer()
        self.said = [ids.text7() for _ in range(4)]
        for place, (user, text) in enumerate(
            [(MARIA, THEIRS[0]), (JOAO, OTHERS), (MARIA, THEIRS[0] + " again"), (JOAO, "hi")]
        ):
            about = {"ts_ms": clock.now_ms(), "model": "desk", "status": 200, "tenant": "default"}
            meta = {"id": self.said[place], "user": user, **about}
            writer.append(INTERACTION, meta, asked(text), answered(THEIRS[1] if user == MARIA else "round the corner"))
        writer.append(FEEDBACK, {
            "id": ids.new("fb"), "ts_ms": clock.now_ms(), "interaction": self.said[0], "user": MARIA, "thumb": -1,
            "correction": THEIRS[2], "tenant": "default",
        })  # fmt: skip
        writer.seal()
        until(lambda: len(self.platform.interactions.page(limit=10)) == 4)
        until(lambda: self.platform.interactions.feedback_since(None))

    def _commit(self) -> None:
        mine = Row.of(THEIRS[0], THEIRS[2], subject=MARIA, source="interactions", origin=self.said[0])
        theirs = [Row.of(f"{OTHERS} {n}", "round the corner", subject=JOAO, origin=f"f:{n}") for n in range(20)]
        for rows in ([mine, *theirs[:10]], [mine, *theirs], theirs[5:]):
            versions.commit(self.db, self.home, "desk", rows, transformation={"kind": "t", "user": MARIA}, actor="t")
        derived = mine.with_(subject=reading_hash(self.home))
        versions.commit(self.db, self.home, "derived", [derived, theirs[0]], transformation={}, actor="t",
                        report={"checks": {"length": {"examples": [{"reason": f"too long: {THEIRS[0]}"}]}}})  # fmt: skip

    def _write_down(self) -> None:
        with self.db.writing() as conn:
            alerts.raise_(conn, "drift:desk", model="", kind="drift", severity="info", title=f"grew: {THEIRS[0]}",
                          body={"examples": [THEIRS[1], OTHERS]})  # fmt: skip
            exports.note(conn, "desk@1", reading.Reader("bo", "engineer", "export"), format_="jsonl")
        rows = self.home.jobs / "rows"
        rows.mkdir(parents=True)
        (rows / "desk@1-abc-train.jsonl").write_text(json.dumps({"completion": THEIRS[2]}) + "\n")
        (self.home.jobs / "evaluate:desk@1:x").mkdir()
        (self.home.jobs / "evaluate:desk@1:x" / "spec.json").write_text(
            json.dumps({"prompt": THEIRS[0], "user": "é" + MARIA})
        )
        (self.home.logs / "control.log").write_text(f"INFO fine\nERROR got {THEIRS[0]!r}\n")
        said = ((THEIRS[0], THEIRS[2], 0.0), (OTHERS, "x", 1.0))
        answers = [Answer(one, one, two, "x", {"exact_match": score}, {}, 0.1) for one, two, score in said]
        evaluation = Evaluation("desk@1/test", "sha256:s", tuple(answers))
        self.report = suites.save(self.home, evaluation)
        with self.db.writing() as conn:
            suites.record(conn, evaluation, model="desk", version="desk@1", report=self.report, actor="t")

    def _learn(self) -> None:
        """Rows of a model, of a version that learnt from desk@2, one that went on from it, and one that learnt from desk@3."""
        with self.db.writing() as conn:
            conn.execute(models.models.insert().values(**model_row()))
            for number, dataset, recipe in (
                (1, "desk@2", {}),
                (2, "desk@3", {"started_from": "desk@1"}),
                (3, "desk@3", {}),
            ):
                conn.execute(registry.versions.insert().values(
                    model="desk", number=number, digest=f"d{number}", dataset=dataset, dataset_digest="x", base="b",
                    base_digest="b",
                    recipe=recipe, tuning="lora", adapter_digest="a", evaluation={}, policies={}, stage="candidate", folder="",
                    trial="", turn="", origin={}, removed_at="",
                    created_at=clock.iso(), created_by="t",
                ))  # fmt: skip

    def erase(self, subject: str = MARIA, *, mentions: bool = False) -> str:
        return loop.erase(self.platform, subject, mentions=mentions, actor="dpo")

    def run(self, identifier: str) -> erasures.Erasure:
        for step in STEPS:
            getattr(Erasing(self.platform, identifier), step)()
        with self.db.reading() as conn:
            return erasures.get(conn, identifier)

    def traces(self, *names: str, texts: tuple[str, ...] = THEIRS) -> list[str]:
        """Files of the home whose raw bytes hold the name or a text."""
        needles = Needles.of(names or (MARIA,), texts)
        return [str(path) for path in scrub.below(self.home.path) if needles.within(path)]

    def close(self) -> None:
        self.recorded.close()
        self.platform.close()


def reading_hash(home: Home) -> str:
    from ciranda.govern import pseudonyms

    return pseudonyms.hashed(pseudonyms.key_of(home), "subject", MARIA)


def model_row() -> dict[str, Any]:
    from ciranda.config import model as specs

    spec = specs.read("model: desk\nwatch: {on_erasure: retrain}\n", file="desk.yaml").model_dump(mode="json")
    values = {column.name: "" for column in models.models.columns}
    return {
        **values,
        "model": "desk",
        "spec": spec,
        **{c.name: 1 for c in models.models.columns if isinstance(c.type, sa.Integer)},
    }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_person_is_forgotten_everywhere_and_others_are_not(world: World) -> None:
    assert world.traces(), "there is something to find"
    done = world.run(world.erase())
    assert (done.step, done.target) == ("done", None)
    assert world.traces() == []
    assert [one.user for one in world.platform.interactions.page(limit=10)] == [JOAO, JOAO]
    assert world.platform.interactions.feedback_since(None) == []
    assert (world.home.logs / "control.log").read_text().startswith("INFO fine\n")
    for ref, rows in (("desk@1", 10), ("desk@2", 20), ("desk@3", 15), ("derived@1", 1)):
        held = list(reading.read(world.db, world.home, ref, reading.Reader("ana", "admin", "viewing")))
        assert len(held) == rows == versions.get(world.db, ref).rows
        assert {row.subject for row in held} == {JOAO}
        assert versions.get(world.db, ref).digest == versions.digest_of(held)
    after = versions.commit(world.db, world.home, "desk", held, transformation={}, actor="t")
    assert after.number == 4, "work goes on on top of what was written anew"
    assert audit.verify(world.db).ok


def test_the_receipt_names_what_went_what_learnt_and_what_left_but_nobody(world: World) -> None:
    before = {ref: versions.get(world.db, ref).digest for ref in ("desk@1", "desk@2", "derived@1")}
    identifier = world.erase()
    done = world.run(identifier)
    receipt = done.receipt
    assert receipt is not None
    assert receipt["subject"] == erasures.mark_of(world.home, MARIA)
    assert receipt["counts"]["interactions"] == {
        "events": 0, "feedback": 1, "interactions": 2, "quarantined": 0, "scores": 0, "started": 0,
    }  # fmt: skip
    assert receipt["counts"]["datasets"] == {"derived@1": 1, "desk@1": 1, "desk@2": 1}
    assert {f"{one['dataset']}@{one['number']}": one["before"] for one in receipt["datasets"]} == before
    assert all(
        one["after"] == versions.get(world.db, f"{one['dataset']}@{one['number']}").digest
        for one in receipt["datasets"]
    )
    assert [one["version"] for one in receipt["models"]] == ["desk@1", "desk@2"], "the second went on from the first"
    assert [one["what"] for one in receipt["exports"]] == ["desk@1"]
    assert receipt["traces"] == []
    event = next(one for one in audit.page(world.db, action="erasure.done"))
    assert json.loads(event.detail)["receipt"] == erasures.digest_of(receipt) == done.digest
    with world.db.reading() as conn:
        events = [tuple(row) for row in conn.execute(sa.select(audit.audit_events))]
    assert not any(word in repr(events) for word in (MARIA, *THEIRS))


def test_versions_that_learnt_from_them_are_flagged_told_and_trained_anew(world: World) -> None:
    identifier = world.run(world.erase()).id
    with world.db.reading() as conn:
        assert [one["ref"] for one in flags.of(conn, "desk")] == ["desk@1", "desk@2"]
        turn = conn.execute(sa.text("SELECT id, cause FROM turns")).one()
        (alert,) = [one for one in alerts.page(conn) if one.kind == "erasure"]
    assert tuple(turn) == (f"turn:desk:{identifier}", "erasure")
    assert alert.title == "desk: 2 versions learnt from a person who was erased"
    with world.db.writing() as conn:
        conn.execute(registry.versions.update().where(registry.versions.c.number == 3).values(stage="live"))
        assert flags.settle(conn, "desk") == ["desk@1", "desk@2"], "one that never learnt from them answers now"
        assert flags.of(conn, "desk") == []


def test_the_report_of_an_evaluation_is_written_anew_under_another_name(world: World) -> None:
    world.run(world.erase())
    with world.db.reading() as conn:
        (row,) = suites.of_version(conn, "desk@1")
    assert row["report"] != world.report
    assert not suites.report_path(world.home, world.report).exists()
    held = suites.load(world.home, row["report"])
    assert [one.prompt for one in held.answers] == [scrub.ERASED, OTHERS]
    assert held.answers[0].scores == {"exact_match": 0.0}


def test_who_was_erased_does_not_come_back_with_the_next_reading_of_a_file(world: World) -> None:
    from ciranda.data import tombstones

    world.run(world.erase())
    rows = [Row.of("a", "b", subject=MARIA), Row.of("c", "d", subject=JOAO), Row.of("e", "f")]
    assert [row.prompt for row in tombstones.without(world.db, world.home, rows)] == ["c", "e"]


def test_mentions_take_what_others_said_of_them_too(world: World) -> None:
    named = Row.of(f"write to {MARIA} please", "done", subject=JOAO, origin="f:99")
    versions.commit(world.db, world.home, "letters", [named, Row.of("x", "y")], transformation={}, actor="t")
    done = world.run(world.erase(mentions=True))
    assert done.counts["datasets"]["letters@1"] == 1
    assert world.traces() == []


def forget(home: str, identifier: str) -> None:
    """All steps, as the workflow does them after a restart."""
    platform = loop.open(Home(Path(home)))
    for step in STEPS:
        getattr(Erasing(platform, identifier), step)()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment_it_ends_the_same(world: World, seed: int) -> None:
    dice, identifier = random.Random(seed), world.erase()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ciranda.loop", "test_erasure"])
    kills = 0
    for patience in (*(dice.random() * 3 for _ in range(6)), 120.0):
        child = context.Process(target=forget, args=(str(world.home.path), identifier))
        child.start()
        child.join(patience)
        if child.exitcode == 0:
            break
        child.kill()
        child.join()
        kills += 1
    with world.db.reading() as conn:
        done = erasures.get(conn, identifier)
    assert (done.step, kills < 7) == ("done", True)
    assert world.traces() == []
    assert (done.receipt or {})["counts"]["datasets"] == {"derived@1": 1, "desk@1": 1, "desk@2": 1}
    for ref, rows in (("desk@1", 10), ("desk@2", 20), ("desk@3", 15)):
        held = list(reading.read(world.db, world.home, ref, reading.Reader("ana", "admin", "viewing")))
        assert (len(held), versions.get(world.db, ref).digest) == (rows, versions.digest_of(held))
    assert len(audit.page(world.db, action="erasure.done")) == 1


def test_asking_twice_is_one_erasure_and_nobody_is_not_a_name(world: World) -> None:
    assert world.erase() == world.erase()
    with pytest.raises(Invalid, match="name nobody"):
        world.erase(" ")
    shown = erasures.page(world.db)[0].to_dict()
    assert MARIA not in json.dumps(shown)


def test_what_is_theirs_is_told_before_anything_is_done(world: World) -> None:
    found = datasets.find(world.db, world.home, datasets.Theirs(frozenset({MARIA, reading_hash(world.home)})))
    assert found.rows == {"desk@1": 1, "desk@2": 1, "derived@1": 1}
    assert world.traces(), "nothing was changed"
