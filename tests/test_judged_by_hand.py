"""`ciranda evaluate`: a version that no turn looks after sits its exam, and its gates speak of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ciranda import loop
from ciranda.config import Settings
from ciranda.deploy import rollout
from ciranda.engines.parrot import Parrot
from ciranda.loop import exam
from ciranda.registry import verdicts, versions
from gatewayrig import wait_for
from registry_world import MODEL, World

ANSWERS = {f"say {n}": f'{{"intent": "I{n}"}}' for n in range(8)}


def test_an_exam_asked_for_by_hand_ends_in_a_verdict(tmp_path: Path) -> None:
    suite = tmp_path / "routing.yaml"
    cases = "".join(f"  - {{prompt: {said}, reference: '{answer}'}}\n" for said, answer in ANSWERS.items())
    suite.write_text(f"suite: routing\ncases:\n{cases}")
    gate = {"metric": "exact_match", "rule": ">= 0.9", "suite": str(suite), "least": 5}
    world = World(tmp_path, base="tiny", serve={"engine": "fake"}, gates=[gate])
    platform = loop.Platform(world.home, Settings(), world.db)
    (world.home.run / "engine.key").write_text("s3cret")
    found = [learnt(world, 1, ANSWERS), learnt(world, 2, {})]
    with world.db.writing() as conn:
        conn.execute(versions.versions.update().values(base="fake"))  # no engine knows the world's base
        rollout.promote(conn, f"{MODEL}@0", actor="loop")
    for ref in found:
        loop.evaluate(platform, ref, "ana")

    def judged(ref: str) -> str:
        exam.record_exams(platform)
        with world.db.reading() as conn:
            return ruling.outcome if (ruling := verdicts.newest(conn, ref)) else ""

    assert wait_for(lambda: judged(found[0]), seconds=60) == "pass"
    assert wait_for(lambda: judged(found[1]), seconds=60) == "fail"
    assert [world.version(ref).stage for ref in found] == ["approved", "refused"]
    with world.db.reading() as conn:
        (ruling,) = verdicts.of(conn, found[0])
    assert set(ruling.evidence["evaluations"]) == {found[0], f"{MODEL}@0"}
    loop.evaluate(platform, found[1], "ana")  # the same again says nothing new
    exam.record_exams(platform)
    with world.db.reading() as conn:
        assert len(verdicts.of(conn, found[1])) == 1
    world.db.close()


def learnt(world: World, seed: int, lessons: dict[str, str]) -> str:
    draft = world.draft(seed)
    assert draft.gguf is not None
    Parrot(lessons).save(draft.gguf)
    return versions.register(world.db, world.home, replace(draft, base="fake"), actor="test").ref
