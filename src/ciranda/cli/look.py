"""`interactions`, `drift`, `alerts`: what really happens."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import Screen, ago, spark, text
from ciranda.cli.verb import Desk, Noun, verb

EVERY_S = 1.0
BATCH = 50
SHOWN = 60
Told = Mapping[str, Any]

interactions = Noun(
    "interactions", examples=["ciranda interactions", "ciranda interactions tail"],
    help="What was asked and answered.",
)  # fmt: skip


@verb(
    "list",
    of=interactions,
    examples=["ciranda interactions list", "ciranda interactions list --model smart-home --status error --since 1h"],
)
@click.option("--model", default="", help="Only this model.")
@click.option("--version", default="", help="Only answers of this version, such as smart-home@2.")
@click.option(
    "--arm", default="", type=click.Choice(["", "live", "canary", "shadow"]), help="Only this arm of a rollout."
)
@click.option("--status", default="", help="`ok`, `error`, a class (4) or a status (429).")
@click.option("--thumb", default="", type=click.Choice(["", "up", "down"]), help="Only with this newest vote.")
@click.option("--search", default="", help="Text in the question or the answer.")
@click.option("--since", default="", help="A time, or how long ago: 15m, 24h, 7d.")
@click.option("--until", default="", help="A time, or how long ago.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
def listing(desk: Desk, **asked: Any) -> None:
    """Interactions, newest first."""
    told = desk.control.get("/interactions", **asked)
    rows = [_row(one) for one in told["items"]]
    columns = ("id", "age", "version", "arm", "status", "ms", "vote", "question", "answer")
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="no interaction that fits"))


def _row(one: Told) -> list[Any]:
    vote = {1: "up", -1: "down"}.get(one["thumb"])
    return [
        one["id"], ago(one["at"]), one["version"] or one["model"], one["arm"], one["status"], round(one["latency_ms"]), vote,
        _cut(one["input_text"]), _cut(one["output_text"] or one["error"]),
    ]  # fmt: skip


def _cut(words: str) -> str:
    return words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"


@verb(
    "show",
    of=interactions,
    examples=["ciranda interactions show 0199b2c4-…", "ciranda interactions show 0199b2c4-… --json"],
)
@click.argument("interaction")
def show(desk: Desk, interaction: str) -> None:
    """One interaction with everything that is known of it."""
    told = desk.control.get(f"/interactions/{part(interaction)}")
    desk.show(told, lambda: _whole(desk.screen, told))


def _whole(screen: Screen, told: Told) -> None:
    names = (
        "id", "at", "model", "version", "arm", "rollout", "user", "conversation", "status", "error", "finish_reason", "latency_ms",
        "first_byte_ms", "overhead_ms", "prompt_tokens", "completion_tokens", "engine", "language",
    )  # fmt: skip
    screen.facts((name.replace("_", " "), told[name]) for name in names)
    for name, words in (("question", told["input_text"]), ("answer", told["output_text"])):
        screen.line("")
        screen.line(f"{name}:", "dim")
        for line in words.splitlines():
            screen.line(f"  {line}")
    for said in told["feedback"]:
        vote = {1: "up", -1: "down"}.get(said["thumb"], "")
        screen.line(
            " ".join(
                filter(
                    None, ("feedback:", vote, said["comment"], said["correction"] and f"should be {said['correction']}")
                )
            )
        )
    for score in told["scores"]:
        screen.line(f"score: {score['scorer']} {text(score['value'])}")


@verb(
    "tail",
    of=interactions,
    examples=["ciranda interactions tail", "ciranda interactions tail --model smart-home --json"],
)
@click.option("--model", default="", help="Only this model.")
def tail(desk: Desk, model: str) -> None:
    """Print interactions as they come, until Ctrl-C. With --json one object per line."""
    seen: set[str] = set()
    first = True
    while True:
        told = desk.patiently(lambda: desk.control.get("/interactions", model=model, limit=BATCH))
        fresh = [one for one in told["items"] if one["id"] not in seen]
        seen |= {one["id"] for one in fresh}
        for one in reversed(fresh[:10] if first else fresh):
            click.echo(json.dumps(one, ensure_ascii=False)) if desk.json else desk.screen.line(_line(one))
        first = False
        time.sleep(EVERY_S)


def _line(one: Told) -> str:
    head = f"{one['at'][11:23]} {one['version'] or one['model']} {one['status']} {one['latency_ms']:.0f} ms"
    return f"{head}  {_cut(one['input_text'])}  ->  {_cut(one['output_text'] or one['error'])}"


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
