"""The causal chain, from a file's rows to the answers of the version that learned from them, and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from ciranda.config.model import Source
from ciranda.data import sources, versions
from ciranda.data.sources import Inputs
from ciranda.deploy import stages
from ciranda.errors import NotFound
from ciranda.evals.suites import evaluations
from ciranda.registry import lineage, verdicts
from ciranda.registry.gates import Verdict
from ciranda.store import clock
from ciranda.web import graphs
from registry_world import MODEL, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two ingested dataset versions, and a model version that learned from the first."""
    made = World(tmp_path)
    for count in (3, 4):
        ingest(made, tmp_path, count)
    version = made.register(1)
    with made.db.writing() as conn:
        verdicts.record(conn, version.ref, Verdict("pass", ()), champion=f"{MODEL}@0", actor="test")
        estimate = {"mean": 0.8, "low": 0.7, "high": 0.9, "n": 10}
        conn.execute(
            evaluations.insert().values(
                id="eval_1", model=MODEL, version=version.ref, suite="test", suite_digest="sha256:s", n=10, errors=0, scorers=[],
                metrics={"exact_match": estimate}, slices={}, report="", created_at=clock.iso(),
            )
        )  # fmt: skip
        columns = {one.name: "" for one in stages.rollouts.c if isinstance(one.type, sa.String | sa.Text)}
        rest = {"step": 0, "revision": 0, "stages": [], "evidence": {}, "reading": {}, "e_values": {}}
        values = {"id": "roll_1", "model": MODEL, "candidate": version.ref, "state": "promoted", "stage": "100"}
        conn.execute(stages.rollouts.insert().values({**columns, **rest, **values}))
    yield made
    made.db.close()


def ingest(world: World, folder: Path, count: int) -> None:
    lines = (f'{{"prompt": "say {n}", "completion": "{n}"}}\n' for n in range(count))
    (folder / "rows.jsonl").write_text("".join(lines))
    source = Source.model_validate({"files": "rows.jsonl"})
    with sources.ingest(
        world.db, world.home, dataset=MODEL, model=MODEL, sources=[source], inputs=Inputs(folder)
    ) as batch:
        versions.commit(
            world.db,
            world.home,
            MODEL,
            batch.rows,
            transformation=batch.transformation,
            actor="test",
            within=batch.finish,
        )


def chain(world: World, thing: str, **more: object) -> lineage.Graph:
    with world.db.reading() as conn:
        return lineage.graph(conn, lineage.find(conn, thing), count=lambda _: 42, **more)


def kinds(found: lineage.Graph) -> list[str]:
    return sorted(node.kind for node in found.nodes)


def test_from_a_source_forward_to_the_answers_and_from_the_answers_back(world: World) -> None:
    forward = chain(world, f"source:{MODEL}/files: rows.jsonl")
    assert kinds(forward) == [
        "answers",
        "dataset",
        "dataset",
        "evaluation",
        "release",
        "run",
        "run",
        "source",
        "version",
    ]
    with world.db.reading() as conn:
        back = lineage.graph(conn, lineage.answer("int_1", f"{MODEL}@1"), direction="back")
    ids = {node.id for node in back.nodes}
    assert {f"source:{MODEL}/files: rows.jsonl", f"dataset:{MODEL}@1", "base:tiny", f"version:{MODEL}@1"} <= ids
    assert f"dataset:{MODEL}@2" not in ids, "what came later did not lead to this answer"


def test_what_is_asked_for_is_found_by_kind_or_by_the_nearest_meaning(world: World) -> None:
    with world.db.reading() as conn:
        assert lineage.find(conn, f"{MODEL}@1").kind == "version"
        assert lineage.find(conn, f"{MODEL}@2").kind == "dataset", "no model version has that number"
        assert lineage.find(conn, f"dataset:{MODEL}").name == f"{MODEL}@2"
        assert lineage.find(conn, "eval_1").facts["value"] == 0.8
        assert lineage.find(conn, "roll_1").kind == "release"
        for unknown in ("nobody@1", "dataset:none@1", "source:x/y", "eval_9", "run:ing_9", "version:nobody"):
            with pytest.raises(NotFound):
                lineage.find(conn, unknown)


def test_long_lines_of_versions_are_cut_and_say_so(world: World, tmp_path: Path) -> None:
    for count in range(5, 9):
        ingest(world, tmp_path, count)
    whole, cut = chain(world, f"dataset:{MODEL}@6"), chain(world, f"dataset:{MODEL}@6", generations=2)
    assert (whole.cut, cut.cut) == (False, True)
    assert [node.name for node in cut.nodes if node.kind == "dataset"] == [f"{MODEL}@{n}" for n in (6, 5, 4)]


def test_a_reader_sees_only_what_is_theirs(world: World) -> None:
    found = chain(world, f"dataset:{MODEL}@1").within(lambda node: node.kind != "run")
    assert "run" not in kinds(found)
    assert all("run:" not in one for edge in found.edges for one in edge)


def test_edges_go_to_the_right_and_boxes_do_not_meet(world: World) -> None:
    found = chain(world, f"dataset:{MODEL}@1")
    columns, ways = graphs.laid([node.id for node in found.nodes], found.edges)
    place = {one: number for number, column in enumerate(columns) for one in column}
    assert all(place[cause] < place[effect] for cause, effect in found.edges)
    assert {one for one in place if not one.startswith(graphs.BEND)} == {node.id for node in found.nodes}
    assert all(place[to] == place[one] + 1 for way in ways for one, to in pairwise(way)), "a line bends in each column"
