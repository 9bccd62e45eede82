"""`release`, `promote`, `rollback`, `approvals`, `approve`, `decline`, `override`: what people decide about traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, verb
from ciranda.errors import Invalid


@verb("release", examples=["ciranda release smart-home@3"])
@click.argument("version")
def release(desk: Desk, version: str) -> None:
    """Begin to release a version by hand: shadow, canary, all. Its gates are asked first, its own evidence moves it then."""
    told = desk.control.post(f"/models/{part(model_of(version))}/release", {"version": version})
    desk.show(told, lambda: desk.screen.facts((name, told[name]) for name in ("candidate", "state", "stage", "reason")))


@verb("promote", examples=["ciranda promote smart-home@2", "ciranda promote smart-home@champion"])
@click.argument("version")
def promote(desk: Desk, version: str) -> None:
    """Make a version live now, without (the rest of) a rollout. Its gates and approvals are demanded all the same."""
    told = desk.control.post(f"/models/{part(model_of(version))}/promote", {"version": version})
    desk.show(told, lambda: _changed(desk, told))


def model_of(version: str) -> str:
    """The model of `smart-home@2`, or of one of its names. Raises Invalid."""
    model = version.rpartition("@")[0]
    if not model:
        raise Invalid(
            f"{version!r} is no version", where="VERSION", remedy="write it as model@number, such as smart-home@2"
        )
    return model


@verb("rollback", examples=["ciranda rollback smart-home", "ciranda rollback smart-home --to smart-home@1"])
@click.argument("model")
@click.option("--to", default="", metavar="VERSION", help="A version that was live once; without it, the one before.")
def rollback(desk: Desk, model: str, to: str) -> None:
    """Back to safety: end the rollout that is under way, else return to the version that was live before."""
    told = desk.control.post(f"/models/{part(model)}/rollback", {"to": to} if to else {})
    desk.show(told, lambda: _changed(desk, told))


@verb("approvals", examples=["ciranda approvals"])
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
def approvals(desk: Desk, **asked: Any) -> None:
    """What waits for people: releases before their begin, releases that are held, versions that lack approvals."""
    told = desk.control.get("/approvals", **asked)
    rows = [
        (one["version"], one["kind"], f"{one['passed']} of {one['of']}", f"{len(one['by'])} of {one['needed']}",
         ", ".join(one["by"]), ", ".join(one["authors"]), ago(one["since"]), one["reason"])
        for one in told["items"]
    ]  # fmt: skip
    titles = ("version", "waits as", "gates passed", "approvals", "by", "not by", "for", "why")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="nothing waits for anybody"))


@verb(
    "approve",
    examples=[
        "ciranda approve smart-home",
        'ciranda approve smart-home --note "checked with support"',
        "ciranda approve smart-home@3",
    ],
)
@click.argument("what", metavar="MODEL|VERSION")
@click.option("--note", default="", help="Kept with the decision in the audit log.")
def approve(desk: Desk, what: str, note: str) -> None:
    """Say yes to the release of a model that waits for people, or to a version."""
    _said(desk, "approve", what, note)


@verb("decline", examples=['ciranda decline smart-home@3 --note "answers in the wrong language"'])
@click.argument("what", metavar="MODEL|VERSION")
@click.option("--note", required=True, help="Why; kept with the decision in the audit log.")
def decline(desk: Desk, what: str, note: str) -> None:
    """Say no to the release of a model that waits for people, or to a version: it ends, and the version is refused."""
    _said(desk, "decline", what, note)


def _said(desk: Desk, verb_: str, what: str, note: str) -> None:
    model, at, _ = what.rpartition("@")
    body = {"note": note, "version": what} if at else {"note": note}
    told = desk.control.post(f"/models/{part(model or what)}/{verb_}", body)
    desk.show(told, lambda: desk.screen.facts((name, value) for name, value in told.items() if value))


@verb(
    "override",
    examples=['ciranda override smart-home@3 --note "the live one leaks data; its fix was judged too few cases"'],
)
@click.argument("version")
@click.option("--note", required=True, help="Why; in the audit log and in a critical alert.")
def override(desk: Desk, version: str, note: str) -> None:
    """An emergency: let a version pass its gates and approvals all the same (admins). Promote or release it then."""
    told = desk.control.post(f"/models/{part(model_of(version))}/override", {"version": version, "note": note})
    desk.show(told, lambda: desk.screen.facts(told.items()))


def _changed(desk: Desk, told: Mapping[str, Any]) -> None:
    moved = f"{told['model']}: {told['before'] or 'nothing'} -> {told['after']}"
    desk.screen.line(
        moved if told["before"] != told["after"] else f"{told['model']}: {told['after']} answers all requests", "green"
    )
    if not told["ready"]:
        desk.screen.line(f"{told['after']} has no ready replica yet; the version before answers until it has", "yellow")
