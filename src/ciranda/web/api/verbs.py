"""What is done: the verbs of the loop behind one shape, so that a handler holds no decision of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ciranda import loop
from ciranda.config import model as files
from ciranda.config.model import ModelSpec
from ciranda.deploy.plan import Plan
from ciranda.errors import Invalid
from ciranda.loop import estimates, suites
from ciranda.registry import models
from ciranda.web.api.asked import Back, Files, Nothing, Override, Said, Turn, Version
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.api.suites import Examined


def plan(call: Call[Files]) -> Item:
    """What `apply` would do with these files, and what a turn of each changed model would take."""
    todo = _planned(call, "plan")
    return {**todo.to_dict(), "estimates": estimates.of_plan(call.platform, todo)}


def apply(call: Call[Files]) -> Item:
    """Do it: all steps, or none."""
    todo = _planned(call, "apply")
    _demand_for_weaker(call, todo)
    loop.apply(call.platform, todo, call.actor)
    return {**todo.to_dict(), "applied": True}


def _planned(call: Call[Files], right: str) -> Plan:
    """The plan, once the key has the right on every model that the files name."""
    _demand(call, call.asked.files, right)
    return loop.plan(call.platform, call.asked.files)


def _demand_for_weaker(call: Call[Files], todo: Plan) -> None:
    """Fewer approvals than a model asks for now are an admin's to decide: whom they bind cannot lift them."""
    with call.platform.db.reading() as conn:
        applied = {model.name: model.spec.release.approve for model in models.every(conn)}
    for step in todo.steps:
        if step.kind == "model.change":
            now, wanted = applied[step.subject], ModelSpec.model_validate(step.detail["spec"]).release.approve
            if wanted.people < now.people or (wanted.people and now.people and now.not_author > wanted.not_author):
                call.require(step.subject, right="settings")


def _demand(call: Call[Files], given: Mapping[str, str], right: str) -> None:
    for name, text in given.items():
        call.require(files.read(text, file=name).model, right=right)


def turn(call: Call[Turn]) -> Item:
    """Start one run of the loop. The same event (or Idempotency-Key) again is the same turn."""
    event = call.asked.event or call.key
    identifier = loop.start_turn(
        call.platform, call.path["model"], cause=call.asked.cause, event=event, actor=call.actor
    )
    return {"turn": identifier, "estimate": _estimate(call)}


def estimate(call: Call[Nothing]) -> Item:
    """What a turn of the model would take: time, memory, money; with the problem when it cannot fit."""
    return _estimate(call)


def _estimate(call: Call[Any]) -> Item:
    with call.platform.db.reading() as conn:
        spec = models.get(conn, call.path["model"]).spec
    return estimates.told(call.platform, spec)


def evaluate(call: Call[Examined]) -> Item:
    """Evaluate a version on its model's suites, or on others; the result becomes an evaluation."""
    ref, asked = _own(call, call.asked.version), call.asked
    for name in asked.suites:
        suites.demand(call.platform, name, call.principal)
    job = loop.evaluate(call.platform, ref, call.actor, suites=asked.suites, scorers=asked.scorers)
    return {"version": ref, "job": job}


def promote(call: Call[Version]) -> Item:
    """Make a version live now; its gates are demanded all the same."""
    return loop.promote(call.platform, _own(call, call.asked.version), call.actor)


def _own(call: Call[Any], ref: str | None) -> str:
    """The version asked for, which must be one of the model in the address: that is the one whose right was checked."""
    model = call.path["model"]
    if ref is None:
        return ""
    if ref.rpartition("@")[0] != model:
        raise Invalid(f"{ref} is no version of {model}", where="body: version", remedy=f"name a version {model}@<n>")
    return ref


def rollback(call: Call[Back]) -> Item:
    """Back to the version before, or end the rollout that is under way."""
    _own(call, call.asked.to)
    return loop.rollback(call.platform, call.path["model"], call.actor, to=call.asked.to)


def approve(call: Call[Said]) -> Item:
    """A person says yes to what waits for one."""
    asked, model = call.asked, call.path["model"]
    _own(call, asked.version)
    return loop.approve(call.platform, model, call.actor, note=asked.note, version=asked.version or "")


def decline(call: Call[Said]) -> Item:
    """A person says no to what waits for one."""
    asked, model = call.asked, call.path["model"]
    _own(call, asked.version)
    return loop.decline(call.platform, model, call.actor, note=asked.note, version=asked.version or "")


def release(call: Call[Version]) -> Item:
    """Begin to release a version by hand; its evidence moves it from there."""
    return loop.release(call.platform, _own(call, call.asked.version), call.actor)


def override(call: Call[Override]) -> Item:
    """An admin lets a version pass its gates, in an emergency."""
    ref = _own(call, call.asked.version)
    role, note = call.principal.role, call.asked.note
    return loop.override(call.platform, ref, actor=call.actor, role=role, note=note)
