"""`status`: everything at one glance, or one model in detail; with `--watch` again every second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ciranda.cli.screen import Screen, ago, lasting, spark
from ciranda.cli.verb import Desk, verb
from ciranda.store import clock

EVERY_S = 1.0
Told = Mapping[str, Any]


@verb(
    "status",
    examples=[
        "ciranda status",
        "ciranda status --watch",
        "ciranda status smart-home",
        "ciranda status --json | jq .models",
    ],
)
@click.argument("model", default="")
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C.")
def status(desk: Desk, model: str, watch: bool) -> None:
    """What every model is doing, who acts next, and how traffic is."""
    if not watch:
        told = _ask(desk, model)
        desk.show(told, lambda: (_model if model else _fleet)(desk.screen, told))
    elif desk.json:
        _lines(desk, model)
    elif desk.screen.rich:
        _live(desk, model)
    else:
        _again(desk, model)


def _ask(desk: Desk, model: str) -> Told:
    from ciranda.cli.client import part

    told: Told = desk.control.get(f"/models/{part(model)}" if model else "/status")
    return told


def _lines(desk: Desk, model: str) -> None:
    """One JSON object per line."""
    while True:
        click.echo(json.dumps(desk.patiently(lambda: _ask(desk, model)), ensure_ascii=False))
        time.sleep(EVERY_S)


def _again(desk: Desk, model: str) -> None:
    """No terminal: print it whenever something but the clock changed."""
    before = None
    while True:
        told = desk.patiently(lambda: _ask(desk, model))
        now = [(one["model"], one["live"], one["turn_state"], one["turn_step"]) for one in told.get("models", [told])]
        if now != before:
            desk.screen.line(clock.iso())
            (_model if model else _fleet)(desk.screen, told)
            before = now
        time.sleep(EVERY_S)


def _live(desk: Desk, model: str) -> None:
    from rich.live import Live

    screen = desk.screen
    with Live(console=screen.console, auto_refresh=False, screen=True) as live:
        while True:
            told = desk.patiently(lambda: _ask(desk, model))
            with screen.console.capture() as drawn:
                (_model if model else _fleet)(screen, told)
            from rich.text import Text

            live.update(Text.from_ansi(drawn.get()), refresh=True)
            time.sleep(EVERY_S)


def _fleet(screen: Screen, told: Told) -> None:
    """Models in one table, then what runs."""
    screen.table(
        ("model", "live", "on its way", "turn", "next", "last hour", "errors", "p95", "thumbs up", "alerts"),
        [_row(model) for model in told["models"]],
        empty="no model yet: write models/<name>.yaml (`ciranda init` makes examples), then `ciranda apply models/`",
    )
    gateway = told["gateway"]
    screen.facts(
        [
            ("gateway", f"{gateway['url']}/v1" if gateway else "not running"),
            ("interactions", told["interactions"]),
            ("processes", ", ".join(f"{one['name']} {one['state']}" for one in told["processes"])),
            (
                "loop",
                "; ".join(
                    f"{one['name']} waits: {first_line(one['error'])}" for one in told["loop"] if one["failures"]
                ),
            ),
            ("open alerts", f"{told['alerts_open']}: `ciranda alerts`" if told["alerts_open"] else ""),
        ]
    )


def first_line(words: str) -> str:
    return words.partition("\n")[0]


def _row(model: Told) -> list[Any]:
    rollout, traffic = model["rollout"], model["traffic"]
    way = (
        f"{rollout['candidate']} {rollout['state'] if rollout['state'] != 'running' else rollout['stage']}"
        if rollout
        else None
    )
    turn = " ".join(filter(None, (model["turn_state"], model["turn_step"]))) or None
    return [model["model"], model["live"], way, turn, model["next_actor"], *_figures(traffic), model["alerts"] or None]


def _figures(traffic: Told | None) -> list[Any]:
    if not traffic:
        return [None, None, None, None]
    votes = traffic["thumbs_up"] + traffic["thumbs_down"]
    asked = f"{spark(traffic.get('series', ()))} {traffic['requests']}".strip()
    errors = f"{traffic['errors'] / traffic['requests']:.1%}" if traffic["requests"] else None
    up = f"{traffic['thumbs_up'] / votes:.0%} of {votes}" if votes else None
    return [asked, errors, f"{traffic['latency_p95_ms']:.0f} ms", up]


def _model(screen: Screen, told: Told) -> None:
    """One model: its state, its turn, its versions."""
    rollout = told["rollout"]
    screen.facts(
        [
            ("model", told["model"]),
            ("purpose", told["spec"].get("purpose", "")),
            ("live", told["live"]),
            ("on its way", f"{rollout['candidate']}, {rollout['stage']}: {rollout['reason']}" if rollout else ""),
            ("next", told["next_actor"]),
            ("open alerts", told["alerts"] or ""),
        ]
    )
    if told["turn"]:
        screen.line("")
        turn(screen, told["turn"])
    screen.line("")
    rows = [
        (one["ref"], one["stage"], one["dataset"], ago(one["created_at"]), one["created_by"])
        for one in told["versions"]
    ]
    screen.table(("version", "stage", "dataset", "age", "by"), rows, empty="no version yet: `ciranda train` makes one")
    served = [
        (
            one["version"],
            one["role"],
            one["engine"],
            one["status"],
            ", ".join(process["state"] for process in one["processes"]),
        )
        for one in told["deployments"]
    ]
    if served:
        screen.line("")
        screen.table(("deployment", "role", "engine", "status", "replicas"), served)


def turn(screen: Screen, told: Told) -> None:
    """A turn and its steps."""
    reason = f": {told['reason']}" if told["reason"] else ""
    screen.line(f"turn {told['id']}, {told['state']} ({told['cause']}{reason})")
    screen.table(("step", "state", "took", "what"), list(steps(told)), empty="no step has begun")


def steps(told: Told) -> Iterator[tuple[str, str, str, str]]:
    """The steps of a turn as rows."""
    for step in told["steps"]:
        until = clock.parse(step["ended_at"]) if step["ended_at"] else clock.now()
        took = lasting((until - clock.parse(step["started_at"])).total_seconds()) if step["started_at"] else "-"
        yield step["name"], step["state"], took, step["summary"]
