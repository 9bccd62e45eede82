"""One model's page: its track around the loop, what happens next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ciranda.data import versions as datasets
from ciranda.deploy import stages
from ciranda.loop import turns as loop_turns
from ciranda.loop.platform import Platform
from ciranda.monitor import drift as monitor
from ciranda.registry import versions
from ciranda.web.load import release, runs
from ciranda.web.load.fleet import Standing
from ciranda.web.views.fleet import STAGES
from ciranda.web.views.models import Next, Stop
from ciranda.web.views.runs import SearchRow

IN_TURN = ("data", "train", "gate", "canary")


def used_of_limit(platform: Platform, model: str) -> tuple[float | None, bool, str]:
    """How far the nearest stream is on the way to its limit (on a log scale), whether drift is certain, and which stream."""
    states = monitor.Watch(platform.db, platform.interactions).status(model)
    ways = [
        (_way(state), state["state"] == "drift", str(state["name"])) for state in states if state["state"] != "learning"
    ]
    return max(ways, key=lambda one: (one[1], one[0])) if ways else (None, False, "")


def _way(state: Mapping[str, Any]) -> float:
    limit = max(2.0, float(state["e_limit"]))
    return min(1.0, math.log(max(1.0, float(state["e_value"]))) / math.log(limit))


def stops(platform: Platform, one: Standing) -> tuple[Stop, ...]:
    """The track. While a turn runs, what it has not reached yet is to come, whatever an earlier turn left there."""
    facts = {
        "data": _data(platform, one),
        "train": _train(platform, one),
        "gate": _gate(platform, one),
        "canary": _canary(platform, one),
        "live": _live(platform, one),
        "drift": _drift(platform, one),
        "retrain": _retrain(platform, one),
    }
    here = STAGES.index(one.stage) if one.stage in IN_TURN and (one.turning or one.rollout) else -1
    return tuple(_placed(facts[stage], STAGES.index(stage), here) for stage in STAGES)


def _placed(stop: Stop, place: int, here: int) -> Stop:
    if here < 0 or place > STAGES.index("canary"):
        return stop
    state = "done" if place < here else "now" if place == here else "todo"
    if stop.state == "blocked":
        state = "blocked"
    return Stop(stop.stage, state, stop.at if state != "todo" else "", stop.page, stop.facts if state != "todo" else {},
                stop.also, stop.reason)  # fmt: skip


def _data(platform: Platform, one: Standing) -> Stop:
    busy = one.turn if one.turn and one.turn.state in loop_turns.BUSY else None
    ref = (busy and busy.dataset) or one.model.spec.dataset
    newest = datasets.newest_of(platform.db, ref) if "@" not in ref else datasets.get(platform.db, ref)
    if newest is None:
        return Stop("data", "todo")
    return Stop(
        "data",
        "done",
        newest.created_at,
        "dataset",
        {"version": f"@{newest.number}", "rows": newest.rows, "ref": newest.ref},
    )


def _train(platform: Platform, one: Standing) -> Stop:
    found = runs.listing(platform, ("*",), model=one.model.name, limit=1)
    if not found:
        return Stop("train", "todo")
    search: SearchRow = found[0]
    best = search.best or (search.trials[-1] if search.trials else None)
    facts = {
        "running": search.state == "running", "trial": len(search.trials), "of": _limit(one, search),
        "seconds": search.seconds, "id": best.id if best else "",
    }  # fmt: skip
    return Stop(
        "train", "blocked" if search.state == "failed" else "done", search.started_at, "trial" if best else "", facts
    )


def _limit(one: Standing, search: SearchRow) -> int:
    return max(len(search.trials), one.model.spec.train.search.trials if search.state == "running" else 0)


def _gate(platform: Platform, one: Standing) -> Stop:
    with platform.db.reading() as conn:
        known = versions.of(conn, one.model.name)
        ruling = next((found for version in known if (found := release.newest_judged(conn, version.ref))), None)
    if ruling is None:
        return Stop("gate", "todo", page="release")
    facts = {"passed": sum(gate["outcome"] == "pass" for gate in ruling.gates), "of": len(ruling.gates)}
    state = "done" if ruling.outcome == "pass" else "blocked"
    return Stop("gate", state, ruling.at, "release", facts)


def _canary(platform: Platform, one: Standing) -> Stop:
    with platform.db.reading() as conn:
        known = stages.of(conn, one.model.name)
    if not known:
        return Stop("canary", "todo", page="release")
    last = known[0]
    if last.state in stages.OPEN:
        facts: dict[str, Any] = {"stage": last.kind, "percent": last.percent, "state": last.state}
        blocked = last.state in ("held", "awaiting_approval")
        return Stop("canary", "blocked" if blocked else "now", last.stage_at, "release", facts)
    state = "done" if last.state == "promoted" else "blocked"
    return Stop("canary", state, last.ended_at, "release", {"stage": "ended", "percent": 100.0, "state": last.state})


def _live(platform: Platform, one: Standing) -> Stop:
    if not one.live:
        return Stop("live", "todo")
    with platform.db.reading() as conn:
        since = release.live_since(conn, one.model.name, int(one.live.rpartition("@")[2]))
    facts = {"version": f"@{one.live.rpartition('@')[2]}", "since": since, "ref": one.live}
    return Stop("live", "live", since, "version", facts)


def _drift(platform: Platform, one: Standing) -> Stop:
    value, certain, stream = used_of_limit(platform, one.model.name)
    if value is None:
        return Stop("drift", "todo", page="drift")
    facts = {"value": value, "certain": certain, "stream": stream}
    return Stop("drift", "blocked" if certain else "done", "", "drift", facts)


def _retrain(platform: Platform, one: Standing) -> Stop:
    turn, state = one.turn, "armed"
    if turn is not None and turn.state in loop_turns.BUSY:
        state = "waiting" if turn.state == "waiting" else "running"
        return Stop("retrain", "done", turn.asked_at, "turn", {"state": state, "id": turn.id})
    if one.model.spec.watch.on_drift != "retrain":
        state = "off"
    else:
        with platform.db.reading() as conn:
            state = "cooling" if loop_turns.barred(conn, one.model.spec) else "armed"
    return Stop("retrain", "todo", "", "turns", {"state": state})


def next_of(one: Standing) -> Next:
    """What happens next, and who acts."""
    if one.rollout is not None and one.rollout.state in ("awaiting_approval", "held"):
        return Next("waits", "approve", one.rollout.candidate, {"who": "approver", "reason": one.rollout.reason})
    if one.rollout is not None:
        since = one.rollout.stage_at or one.rollout.started_at
        return Next(
            "acts", "release", one.rollout.candidate, {"step": "release", "since": since, "reason": one.rollout.reason}
        )
    turn = one.turn
    if turn is not None and one.turning:
        since = turn.started_at or turn.asked_at
        return Next(
            "acts", "turn_page", turn.id, {"step": turn.step or turn.state, "since": since, "reason": turn.reason}
        )
    if turn is None and (not one.live or one.live.endswith("@0")):
        return Next("first", "turn")
    if turn is not None and turn.state in ("failed", "refused"):
        return Next("failed", "turn", turn.id, {"step": turn.step, "reason": turn.reason})
    return Next("retrains" if one.model.spec.watch.on_drift == "retrain" else "watches")
