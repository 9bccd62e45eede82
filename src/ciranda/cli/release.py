"""`promote`, `rollback`, `approve`: what people decide about traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.verb import Desk, verb
from ciranda.errors import Invalid


@verb("promote", examples=["ciranda promote smart-home@2"])
@click.argument("version")
def promote(desk: Desk, version: str) -> None:
    """Make a version live now, without (the rest of) a rollout. Its gates are demanded all the same."""
    model = version.rpartition("@")[0]
    if not model:
        raise Invalid(
            f"{version!r} is no version",
            where="promote VERSION",
            remedy="write it as model@number, such as smart-home@2",
        )
    told = desk.control.post(f"/models/{part(model)}/promote", {"version": version})
    desk.show(told, lambda: _changed(desk, told))


@verb("rollback", examples=["ciranda rollback smart-home", "ciranda rollback smart-home --to smart-home@1"])
@click.argument("model")
@click.option("--to", default="", metavar="VERSION", help="A version that was live once; without it, the one before.")
def rollback(desk: Desk, model: str, to: str) -> None:
    """Back to safety: end the rollout that is under way, else return to the version that was live before."""
    told = desk.control.post(f"/models/{part(model)}/rollback", {"to": to} if to else {})
    desk.show(told, lambda: _changed(desk, told))


@verb("approve", examples=["ciranda approve smart-home", 'ciranda approve smart-home --note "checked with support"'])
@click.argument("model")
@click.option("--note", default="", help="Kept with the decision in the audit log.")
def approve(desk: Desk, model: str, note: str) -> None:
    """Say yes to the release of this model that waits for a person."""
    told = desk.control.post(f"/models/{part(model)}/approve", {"note": note})
    desk.show(told, lambda: desk.screen.facts(told.items()))


def _changed(desk: Desk, told: Mapping[str, Any]) -> None:
    moved = f"{told['model']}: {told['before'] or 'nothing'} -> {told['after']}"
    desk.screen.line(
        moved if told["before"] != told["after"] else f"{told['model']}: {told['after']} answers all requests", "green"
    )
    if not told["ready"]:
        desk.screen.line(f"{told['after']} has no ready replica yet; the version before answers until it has", "yellow")
