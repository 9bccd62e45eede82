"""`reproduce`: a version trained again, and how near it came."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import lasting
from ciranda.cli.verb import Desk, verb
from ciranda.errors import Failed, Invalid, Refused

EVERY_S = 0.5
OPEN = ("waiting", "running")
Told = Mapping[str, Any]


@verb(
    "reproduce",
    examples=["ciranda reproduce smart-home@2", "ciranda reproduce smart-home@2 --exact"],
)
@click.argument("version")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it was trained and compared.")
@click.option("--exact", is_flag=True, help="Fail unless the weights are bit by bit the same.")
def reproduce(desk: Desk, version: str, wait: bool, exact: bool) -> None:
    """Train a version again from its record, and say how near its weights and scores come. Nothing is registered."""
    if "@" not in version:
        raise Invalid(
            f"{version!r} is no version", where="reproduce VERSION", remedy="write it as model@number, as smart-home@2"
        )
    told = desk.control.post(f"/versions/{part(version)}/reproduce")
    if wait or exact:
        with desk.screen.waiting(f"training {version} again") as sign:
            told = _ended(desk, told["id"], sign)
    desk.show(told, lambda: _draw(desk, told))
    if told["state"] in ("failed", "cancelled"):
        raise Failed(told["reason"], where=told["job"], remedy="read its log.txt below home/jobs, then reproduce again")
    if exact and told["state"] == "complete" and not told["verdict"]["equal"]:
        raise Refused(
            f"{version} came out otherwise: {told['verdict']['summary']}", where=told["id"],
            remedy=f"what was not as then: {', '.join(told['verdict']['differences']) or 'nothing that is noted'}",
        )  # fmt: skip


def _ended(desk: Desk, identifier: str, sign: Any) -> Told:
    ask = partial(desk.control.get, f"/reproductions/{part(identifier)}")
    while True:
        told: Told = desk.patiently(ask)
        if told["state"] not in OPEN:
            return told
        if sign is not None and told["steps"]:
            left = f", {lasting(told['left_s'])} left" if told["left_s"] else ""
            sign.update(f"step {told['step']} of {told['steps']}{left}")
        time.sleep(EVERY_S)


def _draw(desk: Desk, told: Told) -> None:
    found = told["verdict"]
    scores = found.get("scores") or {}
    desk.screen.facts(
        [
            ("version", told["version"]), ("state", told["state"]), ("verdict", found.get("summary")),
            ("weights then", found.get("before")), ("weights now", found.get("after")),
            ("largest difference", found.get("largest")),
            *((name, f"{_text(was)} then, {_text(now)} now") for name, (was, now) in scores.items()),
            ("not as then", found.get("differences") or None), ("files that differ", found.get("files") or None),
        ]
    )  # fmt: skip


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
