"""Alerts with their explanations, and the streams that are watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ciranda.govern.access import Principal
from ciranda.loop import turns
from ciranda.loop.platform import Platform
from ciranda.loop.quoting import Quotes
from ciranda.monitor import alerts, drift
from ciranda.monitor.alerts import Alert
from ciranda.registry import models
from ciranda.web.views.alerts import AlertPage, AlertRow, Group
from ciranda.web.views.drift import DriftPage, Stream

LIMIT = 200
FIGURES = ("messages", "fraction", "e_value", "before", "now", "limit")


def listing(
    platform: Platform, reach: Sequence[str], state: str, *, model: str = "", limit: int = LIMIT
) -> tuple[AlertRow, ...]:
    """Alerts, newest first; without a state, all of them."""
    models_ = None if "*" in reach else list(reach)
    with platform.db.reading() as conn:
        found = alerts.page(conn, model=model or None, models=models_, state=state or None, limit=limit)
    return tuple(row_of(one) for one in found)


def row_of(alert: Alert) -> AlertRow:
    """An alert in a list, with the figures from which its sentence is made in the reader's language."""
    return AlertRow(
        alert.id, alert.model, alert.kind, alert.severity, alert.title, alert.state, alert.at, alert.turn,
        alert.acknowledged_by, _told(alert.body),
    )  # fmt: skip


def _told(body: Mapping[str, Any]) -> dict[str, Any]:
    """The channel and the largest move: a language first, since it says most; or how far a rate rose."""
    moves = (*groups(body.get("languages"), kind="language"), *groups(body.get("groups")))
    grown = next((one for one in moves if one.after > one.before), None)
    told = {"channel": str(body.get("channel") or ""), "version": str(body.get("version") or "")}
    if grown is not None:
        return {
            **told,
            "label": grown.label,
            "before": grown.before,
            "after": grown.after,
            "language": grown.kind == "language",
        }
    if isinstance(body.get("before"), (int, float)) and isinstance(body.get("now"), (int, float)):
        return {**told, "before": float(body["before"]), "after": float(body["now"])}
    return told


def one(platform: Platform, identifier: str, who: Principal) -> AlertPage:
    """One alert: what changed, since when, on which examples, as the reader may hear them. Raises NotFound."""
    with platform.db.reading() as conn:
        alert = alerts.get(conn, identifier)
        state = turns.get(conn, alert.turn).state if alert.turn else ""
    body = Quotes(platform, alert.model, who).body(alert.body)
    error = body.get("error", {})
    summary = str(body.get("summary") or error.get("message") or alert.title)
    return AlertPage(
        row_of(alert),
        "\n".join(part for part in (summary, str(error.get("remedy", ""))) if part),
        str(body.get("since") or ""),
        {name: body[name] for name in FIGURES if isinstance(body.get(name), (int, float))},
        (*groups(body.get("languages"), kind="language"), *groups(body.get("groups"))),
        _examples(body),
        state,
    )


def groups(given: Any, *, kind: str = "") -> tuple[Group, ...]:
    """The kinds of message that moved, as monitors write them."""
    if not isinstance(given, list):
        return ()
    return tuple(
        Group(str(one["label"]), float(one["before"]), float(one["after"]), _pairs(one.get("examples", ())), kind)
        for one in given
    )


def _pairs(given: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(one[0]), str(one[1])) for one in given if len(one) == 2 and one[1])


def _examples(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Examples of the alert itself, or of the worsened channels that it rests on."""
    own = _pairs(body.get("examples") or ())
    return (
        own or tuple(pair for channel in body.get("channels", ()) for pair in _pairs(channel.get("examples") or ()))[:8]
    )


def watched(platform: Platform, model: str, who: Principal) -> DriftPage:
    """The drift page of a model."""
    with platform.db.reading() as conn:
        spec = models.get(conn, model).spec
    states = drift.Watch(platform.db, platform.interactions).status(model)
    latest = Quotes(platform, model, who).body(_explained(states))
    version = states[0]["version"] if states else ""
    fired = listing(platform, ("*",), "", model=model, limit=50)
    kinds = ("drift", "quality", "feedback", "retrain")
    return DriftPage(
        model, version, tuple(_stream(state) for state in states),
        (*groups(latest.get("languages"), kind="language"), *groups(latest.get("groups"))),
        tuple(row for row in fired if row.kind in kinds)[:20], "retrain" if spec.watch.on_drift == "retrain" else "notify",
    )  # fmt: skip


def _explained(states: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The newest explanation with groups: of the input where there is one, else of another stream."""
    told = [state["latest"] for state in states if (state.get("latest") or {}).get("groups") is not None]
    return told[0] if told else {}


def _stream(state: Mapping[str, Any]) -> Stream:
    """One channel. Certain but small stays `certain`; the monitor itself says drift only of what is large as well."""
    e_value, limit = float(state["e_value"]), float(state["e_limit"])
    name = str(state["state"])
    if name not in ("learning", "drift") and e_value >= limit:
        name = "certain"
    history = tuple((int(seen), max(0.0, float(log))) for seen, log in state.get("history", ()))
    return Stream(
        str(state["name"]), name if name in ("learning", "drift", "certain") else "quiet", int(state["seen"]), e_value, limit,
        state.get("shift"), float(state["shift_limit"]), str(state.get("since") or ""), history,
    )  # fmt: skip
