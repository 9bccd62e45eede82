"""`executors`: where training can run, and whether it is there."""

from __future__ import annotations

from ciranda.cli.verb import Desk, verb
from ciranda.errors import Unavailable


@verb("executors", examples=["ciranda executors", "ciranda executors --json"])
def executors(desk: Desk) -> None:
    """Where `train.executor` can send runs: this machine, and the clusters that the settings name, each asked just now."""
    told = desk.control.get("/executors")
    found = [(one["name"], one["state"], one["told"]) for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("executor", "state", "what it says"), found))
    if troubled := [name for name, state, _ in found if state == "trouble"]:
        raise Unavailable(
            f"{' and '.join(troubled)} cannot be used now", where="executors", remedy="do what the last column says"
        )
