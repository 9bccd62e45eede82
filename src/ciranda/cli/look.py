"""`drift`, `alerts`: what changes, and what somebody must see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import Screen, ago, spark
from ciranda.cli.verb import Desk, Noun, verb

Told = Mapping[str, Any]


@verb("drift", examples=["ciranda drift smart-home", "ciranda drift smart-home --json"])
@click.argument("model")
def drift(desk: Desk, model: str) -> None:
    """How each watched stream of a model compares with its reference."""
    told = desk.control.get(f"/models/{part(model)}/drift")
    desk.show(told, lambda: _streams(desk.screen, told))


def _streams(screen: Screen, told: Told) -> None:
    """Each stream in a line: evidence and size, each beside its limit, and how the evidence grew."""
    columns = (
        "stream",
        "state",
        "seen",
        "evidence",
        "limit",
        "shift",
        "limit",
        "since",
        "false alarms per 100k",
        "history",
    )
    rows = [
        (
            one["name"], one["state"], one["seen"], one["e_value"], one["e_limit"], one["shift"], one["shift_limit"],
            ago(one["since"]), one["false_alarms_per_100k"], spark([max(0.0, look[1]) for look in one["history"]][-30:]),
        )
        for one in told["streams"]
    ]  # fmt: skip
    screen.table(columns, rows, empty="nothing was watched yet: it begins when a version is live")
    for alert in told["alerts"]:
        screen.line(f"{alert['severity']}: {alert['title']} ({ago(alert['at'])} ago, {alert['state']})")


alerts = Noun(
    "alerts", examples=["ciranda alerts", "ciranda alerts acknowledge alert_0199…"], help="What somebody must see."
)


@verb("list", of=alerts, examples=["ciranda alerts list", "ciranda alerts list --state open --model smart-home"])
@click.option("--model", default="", help="Only this model.")
@click.option(
    "--state", default="", type=click.Choice(["", "open", "acknowledged", "closed"]), help="Only in this state."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
def fired(desk: Desk, **asked: Any) -> None:
    """Alerts, newest first."""
    told = desk.control.get("/alerts", **asked)
    rows = [
        (one["id"], ago(one["at"]), one["model"], one["severity"], one["state"], one["title"]) for one in told["items"]
    ]
    desk.show(
        told, lambda: desk.screen.table(("id", "age", "model", "severity", "state", "what"), rows, empty="no alert")
    )


@verb("acknowledge", of=alerts, examples=["ciranda alerts acknowledge alert_0199…"])
@click.argument("alert")
def acknowledge(desk: Desk, alert: str) -> None:
    """Say that you saw an alert; it stays until its cause is gone."""
    told = desk.control.post(f"/alerts/{part(alert)}/acknowledge")
    desk.show(told, lambda: desk.screen.line(f"{told['id']} is {told['state']}"))
