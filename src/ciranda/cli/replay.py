"""`replay`: ask a version what users asked the live one, before any user sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.judges import comparisons
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, verb
from ciranda.errors import Failed

Told = Mapping[str, Any]
EVERY_S = 0.3


@verb(
    "replay",
    examples=[
        "ciranda replay smart-home@3",
        "ciranda replay smart-home@3 --since 7d --count 500 --judge helpful",
        "ciranda replay",
        "ciranda replay replay_0199…",
    ],
)
@click.argument("what", default="")
@click.option("--since", default=None, help="From when on, a time or how long ago; a day without it.")
@click.option("--until", default=None, help="Until when; now without it.")
@click.option("--count", default=0, type=click.IntRange(0, 2000), help="At most so many requests.")
@click.option("--judge", default="", help="A judge that says which answers it prefers.")
@click.option("--model", default="", help="List those of this model.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many to list.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
def replay(desk: Desk, what: str, model: str, limit: int, cursor: str, wait: bool, **asked: Any) -> None:
    """Replay real traffic to a version; without one list replays, with the id of one show it."""
    if not what:
        _listed(desk, desk.control.get("/replays", model=model, limit=limit, cursor=cursor))
        return
    name = what
    if "@" in what and not what.startswith("replay"):
        begun = desk.control.post("/replays", {"version": what, **{k: v for k, v in asked.items() if v}})
        desk.tell(f"{begun['cases']} of {begun['seen']} requests that {begun['champion']} answered")
        name = begun["id"]
        if not wait:
            desk.show(begun, lambda: desk.screen.line(name))
            return
    with desk.screen.waiting(f"replaying to {what}"):
        told = _ended(desk, name, wait=wait)
    desk.show(told, lambda: _drawn(desk, told))


def _listed(desk: Desk, told: Told) -> None:
    rows = [(one["id"], one["version"], one["champion"], one["cases"], one["state"], ago(one["created_at"]))
            for one in told["items"]]  # fmt: skip
    columns = ("replay", "version", "against", "requests", "state", "age")
    desk.show(told, lambda: desk.screen.table(columns, rows, empty="no replay yet: `ciranda replay MODEL@NUMBER`"))


def _ended(desk: Desk, name: str, *, wait: bool) -> Told:
    while True:
        told: Told = desk.patiently(lambda: desk.control.get(f"/replays/{part(name)}"))
        if told["state"] == "failed" and wait:
            raise Failed(told["reason"], where=name, remedy="mend what the log says, then replay again")
        if told["state"] not in ("running", "judging") or not wait:
            return told
        time.sleep(EVERY_S)


def _drawn(desk: Desk, told: Told) -> None:
    figures = told["figures"]
    names = ("id", "state", "version", "champion", "since", "until", "seen", "cases", "reason")
    desk.screen.facts([*((name, told[name]) for name in names), ("answers that change", figures.get("changed"))])
    if metrics := figures.get("metrics"):
        comparisons(desk, metrics, "what users would have got, against what they got")
    if found := figures.get("preferred"):
        _preferred(desk, found)
    rows = [
        (one["prompt"][:60], one["before"][:60], one["after"][:60], f"{one['gain']:+.2f}")
        for one in told["examples"][:10]
    ]
    desk.screen.table(
        ("asked", "was answered", "would be answered", "gain"), rows, empty="no answer would have been another"
    )


def _preferred(desk: Desk, found: Told) -> None:
    one = found["people"] or found["raw"]
    said = "as people would say it" if found["people"] else f"as it stands: {found['standing']['refusal']}"
    desk.screen.line(
        f"net preference {one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) on {one['n']} requests, {said}"
    )
