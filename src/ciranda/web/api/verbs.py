"""What is done: the verbs of the loop behind one shape, so that a handler holds no decision of its own."""

from __future__ import annotations

from collections.abc import Mapping

from ciranda import loop
from ciranda.config import model as files
from ciranda.deploy.plan import Plan
from ciranda.errors import Invalid
from ciranda.web.api.asked import Back, Files, Note, Turn, Version
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def plan(call: Call[Files]) -> Item:
    """What `apply` would do with these files."""
    return _planned(call, "plan").to_dict()


def apply(call: Call[Files]) -> Item:
    """Do it: all steps, or none."""
    todo = _planned(call, "apply")
    loop.apply(call.platform, todo, call.actor)
    return {**todo.to_dict(), "applied": True}


def _planned(call: Call[Files], right: str) -> Plan:
    """The plan, once the key has the right on every model that the files name."""
    _demand(call, call.asked.files, right)
    return loop.plan(call.platform, call.asked.files)


def _demand(call: Call[Files], given: Mapping[str, str], right: str) -> None:
    for name, text in given.items():
        call.require(files.read(text, file=name).model, right=right)


def turn(call: Call[Turn]) -> Item:
    """Start one run of the loop. The same event (or Idempotency-Key) again is the same turn."""
    event = call.asked.event or call.key
    identifier = loop.start_turn(
        call.platform, call.path["model"], cause=call.asked.cause, event=event, actor=call.actor
    )
    return {"turn": identifier}


def evaluate(call: Call[Version]) -> Item:
    """Evaluate a version on its model's suites; the result becomes an evaluation."""
    ref = _own(call)
    return {"version": ref, "job": loop.evaluate(call.platform, ref, call.actor)}


def promote(call: Call[Version]) -> Item:
    """Make a version live now; its gates are demanded all the same."""
    return loop.promote(call.platform, _own(call), call.actor)


def _own(call: Call[Version]) -> str:
    """The version asked for, which must be one of the model in the address: that is the one whose right was checked."""
    model, ref = call.path["model"], call.asked.version
    if ref.rpartition("@")[0] != model:
        raise Invalid(f"{ref} is no version of {model}", where="body: version", remedy=f"name a version {model}@<n>")
    return ref


def rollback(call: Call[Back]) -> Item:
    """Back to the version before, or end the rollout that is under way."""
    return loop.rollback(call.platform, call.path["model"], call.actor, to=call.asked.to)


def approve(call: Call[Note]) -> Item:
    """A person says yes to what waits for one."""
    return loop.approve(call.platform, call.path["model"], call.actor, note=call.asked.note)
