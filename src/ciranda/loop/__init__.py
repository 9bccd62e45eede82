"""START HERE: the loop, in the order data travels, and what makes it turn.

    data -> train -> register -> evaluate -> gate -> release (shadow, canary, all) -> live -> watch -> and again

A turn is one run of it for one model. `turn_v1` below is the whole sequence; each step's result is committed before the
next begins, so a control process killed anywhere goes on where it was (`jobs.durable`). A turn is short: it ends when a
gate says no, or when the release has begun; the release is then moved by its own evidence (`deploy.rollout`), and its end
closes the turn. Nothing is awaited from a person inside a turn.

What starts a turn: somebody asks (`start_turn`); a drift signal with worse quality or feedback (`monitor`), within cool-down
and weekly budget, once there are corrections enough to learn from; a source's schedule that brought new rows. Each is a
row in `turns`.
"""

from __future__ import annotations

from typing import Any

from ciranda.errors import CirandaError
from ciranda.jobs.durable import Body, Steps
from ciranda.loop.control import Control
from ciranda.loop.erasing import Erasing
from ciranda.loop.feeding import ingest
from ciranda.loop.gatekeeping import approve, decline, override, release
from ciranda.loop.platform import Platform, first_key, open
from ciranda.loop.up import up
from ciranda.loop.verbs import apply, erase, evaluate, plan, promote, publish, rollback, start_turn
from ciranda.loop.work import Work

__all__ = [
    "Control",
    "Platform",
    "apply",
    "approve",
    "decline",
    "erase",
    "erase_v1",
    "evaluate",
    "first_key",
    "ingest",
    "keep",
    "open",
    "override",
    "plan",
    "promote",
    "publish",
    "release",
    "rollback",
    "start_turn",
    "turn_v1",
    "up",
]


def turn_v1(platform: Platform) -> Body:
    """The loop once, for the turn that the payload names. A released body is never edited: a change is `turn_v2` beside it."""

    def body(run: Steps, payload: dict[str, Any]) -> dict[str, Any]:
        work = Work(platform, payload["turn"])
        try:
            data = run.step("data", work.told, "data", work.data)
            best = run.step("train", work.told, "train", work.train, data)
            entry = run.step("register", work.told, "register", work.register, data, best)
            scores = run.step("evaluate", work.told, "evaluate", work.evaluate, data, entry)
            verdict = run.step("gate", work.told, "gate", work.gate, entry, scores)
            if verdict["outcome"] != "pass":
                return run.step("refuse", work.refuse, verdict)
            return run.step("release", work.release, entry)
        except CirandaError as error:
            return run.step("fail", work.fail, str(error))

    return body


def erase_v1(platform: Platform) -> Body:
    """A person is forgotten (`erasing`), by the erasure that the payload names. No step tells the workflow's database who it is."""

    def body(run: Steps, payload: dict[str, Any]) -> dict[str, Any]:
        erasing = Erasing(platform, payload["erasure"])
        for step in ("collect", "interactions", "datasets", "files", "records", "models", "proof"):
            run.step(step, getattr(erasing, step))
        return {"state": "done"}

    return body


def keep(platform: Platform) -> Control:
    """Begin to keep the loop turning in this process, which leads."""
    return Control(platform, {"turn_v1": turn_v1(platform), "erase_v1": erase_v1(platform)}).start()
