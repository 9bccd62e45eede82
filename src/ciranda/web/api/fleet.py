"""Models: what each is doing now, what was applied, its versions, its release, its drift."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ciranda import __version__
from ciranda.data import catalog
from ciranda.errors import Unavailable
from ciranda.interactions.query import Total
from ciranda.loop import exam
from ciranda.loop.quoting import Quotes
from ciranda.registry import admission, aliases, approvals, verdicts, versions
from ciranda.registry import history as stages
from ciranda.store import clock
from ciranda.web.api import rows
from ciranda.web.api.asked import Nothing, OfModel, Page
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item

TRAFFIC_S = 3600
STEP_S = 300
OPEN_ROLLOUT = ("awaiting_approval", "running", "held")
PROCESSES = re.compile(r"control|collector|gateway-\d+")


def status(call: Call[Nothing]) -> Item:
    """Everything at one glance."""
    names = tuple(row["model"] for row in _applied(call))
    alerts = rows.every(call.platform.db, "alerts", order="at", state="open", model=call.reach)
    traffic, told = _traffic(call)
    processes = _processes(call)
    return {
        "version": __version__,
        "at": clock.iso(),
        "gateway": _gateway(processes),
        "processes": processes,
        "loop": _told(call.platform.home.run / "loop.json").get("tasks", []),
        "models": [_summary(call, name, alerts, traffic.get(name)) for name in names],
        "alerts_open": len(alerts),
        "interactions": told,
    }


def listing(call: Call[Page]) -> Item:
    """The models that the key reaches, by name, with what each is doing."""
    names = [row["model"] for row in _applied(call) if row["model"] > call.asked.cursor]
    shown = names[: call.asked.limit]
    alerts = rows.every(call.platform.db, "alerts", order="at", state="open", model=call.reach)
    traffic, _ = _traffic(call)
    items = [_summary(call, name, alerts, traffic.get(name)) for name in shown]
    return rows.listed(items, shown[-1] if len(names) > len(shown) else None)


def one(call: Call[Nothing]) -> Item:
    """One model: its applied file, what it is doing, its newest turn and versions."""
    model = _model(call)
    alerts = rows.every(call.platform.db, "alerts", order="at", state="open", model=model["model"])
    traffic, _ = _traffic(call)
    held = rows.every(call.platform.db, "versions", order="number", model=model["model"])
    return {
        **model,
        **_summary(call, model["model"], alerts, traffic.get(model["model"])),
        "turn": rows.newest(call.platform.db, "turns", order="asked_at", model=model["model"]),
        "versions": [_version(row) for row in reversed(held)],
        "deployments": _deployments(call, model["model"]),
    }


def lines(call: Call[Page]) -> Item:
    """The versions of a model, newest first."""
    model = _model(call)["model"]
    found = rows.page(call.platform.db, "versions", call.asked, order="number", model=model)
    return {**found, "items": [_version(row) for row in found["items"]]}


def version(call: Call[Nothing]) -> Item:
    """One version: what it is made of, its figures, verdicts, evaluations and history."""
    ref = f"{call.path['model']}@{call.path['number']}"
    with call.platform.db.reading() as conn:
        found = versions.get(conn, ref)
        rulings = verdicts.of(conn, ref)
        gate, words = admission.standing(conn, ref), approvals.of(conn, ref)
        names = [one.name for one in aliases.of(conn, found.model) if one.number == found.number]
        history = [change for change in stages.of(conn, found.model) if change.number == found.number]
    return {
        **found.to_dict(),
        "names": names,
        "admission": {"complete": gate.complete, "barrier": gate.barrier, "approvals": asdict(gate.quorum)},
        "verdicts": rulings,
        "words": words,
        "history": history,
        "evaluations": rows.every(call.platform.db, "evaluations", order="created_at", version=ref),
        "exams": _exams(call, ref),
        "contamination": [one.to_dict() for one in catalog.contaminated(call.platform.db, found.dataset)],
    }


def _exams(call: Call[Nothing], ref: str) -> list[Item]:
    """The jobs that evaluate a version, or did."""
    jobs, known = call.platform.jobs, call.platform.jobs.keys()
    return [
        {"job": key, **asdict(jobs.status(key)), "evaluations": exam.kept(call.platform, key)}
        for key in known
        if key.startswith(f"evaluate:{ref}:")
    ]


def release(call: Call[Nothing]) -> Item:
    """The rollout that is open, the ones before, and what answers now."""
    model = _model(call)["model"]
    known = list(reversed(rows.every(call.platform.db, "rollouts", order="started_at", model=model)))
    live = rows.newest(call.platform.db, "versions", order="number", model=model, stage="live")
    return {
        "model": model,
        "live": f"{model}@{live['number']}" if live else None,
        "open": next((row for row in known if row["state"] in OPEN_ROLLOUT), None),
        "before": [row for row in known if row["state"] not in OPEN_ROLLOUT][:20],
        "deployments": _deployments(call, model),
    }


def drift(call: Call[Nothing]) -> Item:
    """Every watched stream of a model, and the alerts that drift raised."""
    model = _model(call)["model"]
    found = rows.every(call.platform.db, "drift_states", order="channel", model=model)
    alerts = rows.every(call.platform.db, "alerts", order="at", model=model)
    shown = ("channel", "version", "generation", "updated_at")
    quotes = Quotes(call.platform, model, call.principal)
    streams = [{**{name: row[name] for name in shown}, **quotes.body(row["summary"] or {})} for row in found]
    return {"model": model, "streams": streams, "alerts": heard(call, list(reversed(alerts))[:20])}


def heard(call: Call[Any], alerts: Sequence[Item]) -> list[Item]:
    """Alerts with the sentences of users in them as the reader may hear them."""
    quotes = {name: Quotes(call.platform, name, call.principal) for name in {one["model"] for one in alerts}}
    return [{**one, "body": quotes[one["model"]].body(one["body"] or {})} for one in alerts]


def turns(call: Call[OfModel]) -> Item:
    """Turns of the loop, newest first."""
    return rows.page(call.platform.db, "turns", call.asked, order="asked_at", model=within(call, call.asked.model))


def turn(call: Call[Nothing]) -> Item:
    """One turn: its steps so far, and the searches that it started."""
    found = rows.one(call.platform.db, "turns", id=call.path["turn"], remedy="`ciranda status` shows the newest")
    call.require(found["model"])
    return found


def evaluation(call: Call[Nothing]) -> Item:
    """One evaluation: metrics with intervals, overall and by slice."""
    found = rows.one(
        call.platform.db, "evaluations", id=call.path["evaluation"], remedy="`ciranda evaluate <version>` makes one"
    )
    call.require(found["model"])
    return found


def within(call: Call[Any], model: str) -> str | tuple[str, ...] | None:
    """The models that a list is narrowed to: the one asked for, else those that the key reaches. Raises Forbidden."""
    if not model:
        return call.reach
    call.require(model)
    return model


def _applied(call: Call[Any]) -> list[Item]:
    return rows.every(call.platform.db, "models", order="model", model=call.reach)


def _model(call: Call[Any]) -> Item:
    return rows.one(
        call.platform.db,
        "models",
        model=call.path["model"],
        remedy="`ciranda status` lists them; `ciranda apply` adds one",
    )


def _version(row: Item) -> Item:
    return {"ref": f"{row['model']}@{row['number']}", **row}


def _summary(call: Call[Any], model: str, alerts: list[Item], traffic: Item | None) -> Item:
    """One model in one line: what answers, what is on its way, what waits, and for whom."""
    db = call.platform.db
    live = rows.newest(db, "versions", order="number", model=model, stage="live")
    turn = rows.newest(db, "turns", order="asked_at", model=model)
    rollout = rows.newest(db, "rollouts", order="started_at", model=model, state=OPEN_ROLLOUT)
    return {
        "model": model,
        "live": f"{model}@{live['number']}" if live else None,
        "rollout": {
            name: rollout[name] for name in ("id", "candidate", "champion", "state", "stage", "reason", "started_at")
        }
        if rollout
        else None,
        "turn_state": turn["state"] if turn else None,
        "turn_step": turn["step"] if turn else None,
        "turn_id": turn["id"] if turn else None,
        "next_actor": turn["next_actor"] if turn else "a person: `ciranda train`",
        "alerts": sum(alert["model"] == model for alert in alerts),
        "traffic": traffic,
    }


def _deployments(call: Call[Any], model: str) -> list[Item]:
    found = rows.every(call.platform.db, "deployments", order="version", model=model)
    held = rows.every(call.platform.db, "replicas", order="id", deployment=tuple(row["id"] for row in found))
    return [{**row, "processes": [one for one in held if one["deployment"] == row["id"]]} for row in found]


def _traffic(call: Call[Any]) -> tuple[dict[str, Item], str]:
    """Counts of the last hour by model, without shadows, and how their store is: it may be away, and the rest still shows."""
    since = clock.now() - timedelta(seconds=TRAFFIC_S)
    try:
        totals = [total for total in call.platform.interactions.totals(since=since) if total.arm != "shadow"]
        names = {total.model for total in totals if call.reaches(total.model)}
        return {name: _sums(call, name, [one for one in totals if one.model == name], since) for name in names}, "ok"
    except Unavailable as error:
        return {}, error.message


def _sums(call: Call[Any], model: str, totals: list[Total], since: datetime) -> Item:
    counted = {
        name: sum(getattr(total, name) for total in totals)
        for name in ("requests", "errors", "thumbs_up", "thumbs_down")
    }
    steps = [0] * (TRAFFIC_S // STEP_S)
    for point in call.platform.interactions.series(model, since=since, step_s=STEP_S):
        place = int((point.t - since).total_seconds()) // STEP_S
        steps[min(max(place, 0), len(steps) - 1)] += point.requests
    slowest = max(total.latency_p95 for total in totals)
    return {**counted, "latency_p95_ms": slowest, "seconds": TRAFFIC_S, "series": steps}


def _gateway(processes: list[Item]) -> Item | None:
    """Where clients connect to."""
    return next((one for one in processes if one["name"].startswith("gateway")), None)


def _processes(call: Call[Any]) -> list[Item]:
    """What announced itself in the home, and how the supervisor sees it. Tokens stay in the files."""
    run = call.platform.home.run
    children = {one["name"]: one for one in _told(run / "supervisor.json").get("children", ())}
    found = []
    for file in sorted(run.glob("*.json")):
        if PROCESSES.fullmatch(file.stem) and (told := _told(file)):
            child = children.get(file.stem, {})
            seen = {name: child.get(name) for name in ("state", "reason", "restarts")}
            found.append({"name": file.stem, **{name: told.get(name) for name in ("url", "pid", "started_at")}, **seen})
    return found


def _told(file: Path) -> Item:
    """What a process wrote of itself; nothing when it went away or is being replaced: the next look tells."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
