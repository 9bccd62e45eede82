"""A plan says what `apply` will do, and `perform` does exactly that or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ciranda.config.model import ModelSpec
from ciranda.deploy import apply, plan, rollout
from ciranda.deploy.plan import Plan
from ciranda.errors import Conflict
from ciranda.registry import models
from registry_world import MODEL, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.db.close()


def make(world: World, *specs: dict[str, Any]) -> Plan:
    with world.db.reading() as conn:
        applied, live = plan.current(conn)
    return plan.plan(applied, {spec["model"]: ModelSpec.model_validate(spec) for spec in specs}, live=live)


def perform(world: World, todo: Plan) -> None:
    with world.db.writing() as conn:
        plan.perform(conn, todo, actor="ana")


def test_nothing_to_do_is_said(world: World) -> None:
    todo = make(world, {"model": MODEL})
    assert todo.steps == ()
    assert todo.text() == "Nothing to do: everything is as the files say."


def test_a_new_model_is_created(world: World) -> None:
    todo = make(world, {"model": "router"})
    assert todo.text() == "+ model router: new, on smollm2-135m-instruct"
    perform(world, todo)
    with world.db.reading() as conn:
        assert [(model.name, model.generation) for model in models.every(conn)] == [("router", 1), (MODEL, 1)]


def test_a_change_names_every_key_and_its_effect_on_what_runs(world: World) -> None:
    with world.db.writing() as conn:
        rollout.promote(conn, world.base.ref, actor="test")
    todo = make(world, {"model": MODEL, "serve": {"replicas": 2, "slots": 8}, "purpose": "lights"})
    assert todo.text().splitlines() == [
        "~ model smart-home: 3 changes",
        '    purpose: "" -> "lights"',
        "    serve.replicas: 1 -> 2",
        "    serve.slots: 4 -> 8",
        "> deployment of smart-home@0: 1 -> 2 replicas, processes replaced, new ones first",
    ]
    perform(world, todo)
    with world.db.reading() as conn:
        deployment = apply.get(conn, "smart-home@0")
    assert (deployment.replicas, deployment.generation, deployment.spec["serve"]["slots"]) == (2, 2, 8)
    assert make(world, {"model": MODEL, "serve": {"replicas": 2, "slots": 8}, "purpose": "lights"}).steps == ()


def test_a_change_of_limits_touches_no_process(world: World) -> None:
    with world.db.writing() as conn:
        rollout.promote(conn, world.base.ref, actor="test")
    todo = make(world, {"model": MODEL, "serve": {"max_in_flight": 8}})
    assert "no process is touched" in todo.text()
    perform(world, todo)
    with world.db.reading() as conn:
        assert apply.get(conn, "smart-home@0").generation == 1


def test_a_model_that_the_files_leave_out_stays(world: World) -> None:
    perform(world, make(world, {"model": "router"}))
    with world.db.reading() as conn:
        assert models.find(conn, MODEL) is not None


def test_a_stale_plan_is_refused_whole(world: World) -> None:
    stale = make(world, {"model": "another"}, {"model": MODEL, "purpose": "lights"})
    perform(world, make(world, {"model": MODEL, "purpose": "doors"}))
    with pytest.raises(Conflict, match="was changed by ana since this plan was made"):
        perform(world, stale)
    with world.db.reading() as conn:
        assert models.find(conn, "another") is None
        assert models.get(conn, MODEL).spec.purpose == "doors"


def test_a_plan_is_json(world: World) -> None:
    todo = make(world, {"model": MODEL, "purpose": "lights"})
    said = json.loads(json.dumps(todo.to_dict()))
    assert said["steps"][0]["kind"] == "model.change"
    assert said["steps"][0]["detail"]["changes"] == [["purpose", "", "lights"]]
