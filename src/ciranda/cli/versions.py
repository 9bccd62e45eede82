"""`versions`: model versions, their names, what was live when."""

from __future__ import annotations

from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.release import model_of
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb

Told = dict[str, Any]
versions = Noun(
    "versions",
    examples=["ciranda versions list smart-home", "ciranda versions show smart-home@live"],
    help="Model versions: what they are made of, what they are called, what was live when.",
)


@verb("list", of=versions, examples=["ciranda versions list smart-home"])
@click.argument("model", default="")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
def listing(desk: Desk, model: str, **asked: Any) -> None:
    """The versions of a model, newest first; without a model, what is live of each."""
    if not model:
        _lives(desk, desk.control.get("/live"))
        return
    told = desk.control.get(f"/models/{part(model)}/versions", **asked)
    names: dict[int, list[str]] = {}
    for one in desk.control.get(f"/models/{part(model)}/aliases")["items"]:
        names.setdefault(one["number"], []).append(one["name"])
    rows = [
        (one["ref"], one["stage"], ", ".join(names.get(one["number"], ())), one["dataset"], one["base"], one["digest"][:19],
         one["created_by"], ago(one["created_at"]))
        for one in told["items"]
    ]  # fmt: skip
    titles = ("version", "stage", "names", "data", "base", "digest", "by", "age")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no version yet"))


@verb("show", of=versions, examples=["ciranda versions show smart-home@2", "ciranda versions show smart-home@champion"])
@click.argument("version")
def show(desk: Desk, version: str) -> None:
    """One version: what it is made of, its verdicts, what people said, where it has been."""
    told = desk.control.get(f"/versions/{exact(desk, version)}")
    desk.show(told, lambda: _draw(desk, told))


def exact(desk: Desk, version: str) -> str:
    """A version by its number, whatever it was called."""
    model, name = model_of(version), version.rpartition("@")[2]
    if name.isdecimal():
        return f"{part(model)}@{name}"
    return str(desk.control.get(f"/models/{part(model)}/versions/{part(name)}")["ref"])


def _draw(desk: Desk, told: Told) -> None:
    shown = ("ref", "stage", "digest", "base", "dataset", "adapter_digest", "trial", "turn", "created_at", "created_by")
    desk.screen.facts((name, told[name]) for name in shown if told[name])
    desk.screen.facts([("names", ", ".join(told["names"])), ("gate", told["admission"]["barrier"] or "open")])
    said = [(one["kind"], one["outcome"], one["actor"], ago(one["at"]), one["note"]) for one in told["verdicts"]]
    desk.screen.table(("verdict", "outcome", "by", "age", "why"), said, empty="never judged")
    words = [(one["said"], one["actor"], ago(one["at"]), one["note"]) for one in told["words"]]
    if words:
        desk.screen.table(("said", "by", "age", "note"), words)
    been = [(one["stage"], one["at"], one["actor"], one["reason"]) for one in told["history"]]
    desk.screen.table(("stage", "at", "by", "why"), been, empty="no history")


@verb("name", of=versions, examples=["ciranda versions name smart-home@2 champion"])
@click.argument("version")
@click.argument("name")
def name(desk: Desk, version: str, name: str) -> None:
    """Let a name stand for a version; it leaves the version it stood for. It sends no traffic."""
    told = desk.control.post(f"/models/{part(model_of(version))}/name", {"version": version, "name": name})
    desk.show(told, lambda: desk.screen.line(f"{told['model']}@{told['name']} is {told['ref']}", "green"))


@verb("unname", of=versions, examples=["ciranda versions unname smart-home champion"])
@click.argument("model")
@click.argument("name")
def unname(desk: Desk, model: str, name: str) -> None:
    """Take a name away."""
    told = desk.control.post(f"/models/{part(model)}/unname", {"name": name})
    desk.show(told, lambda: desk.screen.line(f"{told['ref']} is not called {told['name']} any more"))


@verb(
    "live",
    of=versions,
    examples=[
        "ciranda versions live",
        "ciranda versions live smart-home --at 2026-11-23T14:18:00Z",
        "ciranda versions live --at 7d",
    ],
)
@click.argument("model", default="")
@click.option("--at", default="", help="A time, or how long ago (15m, 24h, 7d); without it, now.")
def live(desk: Desk, model: str, at: str) -> None:
    """What was live at a moment: from the append-only history of stages."""
    asked = {"at": at} if at else {}
    if not model:
        _lives(desk, desk.control.get("/live", **asked))
        return
    told = desk.control.get(f"/models/{part(model)}/live", **asked)
    desk.show(told, lambda: desk.screen.facts((name, value or "nothing") for name, value in told.items()))


def _lives(desk: Desk, told: Told) -> None:
    rows = [(model, ref or "nothing") for model, ref in told["models"].items()]
    desk.show(told, lambda: desk.screen.table(("model", f"live at {told['at']}"), rows, empty="no model yet"))


@verb("history", of=versions, examples=["ciranda versions history smart-home"])
@click.argument("model")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
def history(desk: Desk, model: str, **asked: Any) -> None:
    """Every change of stage of a model's versions, newest first."""
    told = desk.control.get(f"/models/{part(model)}/history", **asked)
    rows = [(one["at"], f"{model}@{one['number']}", one["stage"], one["actor"], one["reason"]) for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("at", "version", "stage", "by", "why"), rows, empty="no change yet"))
