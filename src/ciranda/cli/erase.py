"""`erase`: a person is forgotten, and what is known of people who were."""

from __future__ import annotations

import time
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Invalid

POLL_S = 0.5


class Erase(Noun):
    """`ciranda erase --subject …` forgets; without it, erasures are listed."""

    def _list(self, context: click.Context, **asked: Any) -> None:
        if context.invoked_subcommand is None:
            given = asked.pop("subject")
            if given:
                context.invoke(self.commands["person"], subject=given, **asked)
            else:
                context.invoke(self.commands["list"])


erase = Erase(
    "erase",
    examples=[
        "ciranda erase --subject maria@example.com",
        "ciranda erase --subject user-1234 --dry-run",
        "ciranda erase list",
    ],
    help="Forget a person: interactions, feedback, datasets, files; with a receipt.",
)
erase.params[:0] = [
    click.Option(["--subject"], default="", help="The person as stored: a user's id, e-mail address or name."),
    click.Option(["--mentions"], is_flag=True, help="Also what others wrote that names them."),
    click.Option(["--dry-run"], is_flag=True, help="Only say what is theirs."),
    click.Option(["--yes"], is_flag=True, help="Do not ask. Without a terminal it never asks."),
    click.Option(["--wait/--no-wait"], default=True, help="Stay until the receipt is there."),
]


@verb("person", of=erase, examples=["ciranda erase person maria@example.com --yes"])
@click.argument("subject")
@click.option("--mentions", is_flag=True, help="Also what others wrote that names them.")
@click.option("--dry-run", is_flag=True, help="Only say what is theirs.")
@click.option("--yes", is_flag=True, help="Do not ask. Without a terminal it never asks.")
@click.option("--wait/--no-wait", default=True, help="Stay until the receipt is there.")
def person(desk: Desk, subject: str, mentions: bool, dry_run: bool, yes: bool, wait: bool) -> None:
    """Forget one person, for good: says first what is theirs."""
    asked = {"subject": subject, "mentions": mentions}
    if dry_run or (desk.screen.rich and not yes):
        found = desk.control.post("/erasures", {**asked, "dry_run": True})
        desk.show(found, lambda: _found(desk, found)) if dry_run else _found(desk, found)
        if dry_run or not click.confirm("Forget this person, for good?", default=False):
            return
    told = desk.control.post("/erasures", asked)
    while wait and told["step"] != "done":
        time.sleep(POLL_S)
        told = desk.control.get(f"/erasures/{part(told['id'])}")
    desk.show(told, lambda: _receipt(desk, told))


def _found(desk: Desk, found: dict[str, Any]) -> None:
    rows = [("record", table, count) for table, count in found["record"].items() if count]
    rows += [("dataset", ref, count) for ref, count in found["datasets"].items()]
    rows += [("model that learnt from it", ref, "") for ref in found["models"]]
    rows += [("exported", one["what"], f"by {one['actor']}, {ago(one['at'])}") for one in found["exports"]]
    desk.screen.table(("where", "what", "rows"), rows, empty="nothing is stored of this person")


@verb("list", of=erase, examples=["ciranda erase list", "ciranda erase list --of maria@example.com"])
@click.option("--of", "subject", default="", help="Only erasures of this person.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, **asked: Any) -> None:
    """Every erasure, newest first: the person is shown as a keyed hash."""
    told = desk.control.get("/erasures", **asked)
    rows = [
        (one["id"], one["mark"], one["step"], one["waits"], one["asked_by"], ago(one["asked_at"]))
        for one in told["items"]
    ]
    titles = ("id", "person", "step", "waits for", "asked by", "age")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="nobody was erased"))


@verb("show", of=erase, examples=["ciranda erase show erasure_0199…"])
@click.argument("erasure")
def show(desk: Desk, erasure: str) -> None:
    """One erasure: how far it is, or its receipt."""
    told = desk.control.get(f"/erasures/{part(erasure)}")
    desk.show(told, lambda: _receipt(desk, told))


def _receipt(desk: Desk, told: dict[str, Any]) -> None:
    receipt = told["receipt"]
    if not receipt:
        desk.screen.facts([("id", told["id"]), ("step", told["step"]), ("waits for", told["waits"])])
        return
    desk.screen.facts([
        ("receipt", told["id"]), ("person", receipt["subject"]), ("asked", f"{receipt['asked_at']} by {receipt['asked_by']}"),
        ("ended", receipt["ended_at"]), ("digest", told["digest"]),
        ("traces left", receipt["traces"] or "none"), ("elsewhere", receipt["elsewhere"]),
    ])  # fmt: skip
    rows = [(step, name, count) for step, held in receipt["counts"].items() for name, count in held.items() if count]
    desk.screen.table(("store", "what", "removed"), rows, empty="nothing was stored of this person")
    for title, held in (
        ("models that learnt from them", receipt["models"]),
        ("files that went out", receipt["exports"]),
    ):
        lines = [" ".join(str(value) for value in one.values()) for one in held]
        if lines:
            desk.screen.table((title,), [(line,) for line in lines])


@verb("flags", of=erase, examples=["ciranda erase flags"])
def flags(desk: Desk) -> None:
    """Versions that learnt from somebody erased since, until newer ones have taken their place."""
    told = desk.control.get("/flags")
    rows = [(one["ref"], one["dataset"], one["erasure"], ago(one["at"])) for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("version", "learnt from", "erasure", "age"), rows, empty="no version"))


@verb("keep", of=erase, examples=['ciranda erase keep smart-home@3 --reason "retired, weights deleted"'])
@click.argument("version")
@click.option("--reason", required=True, help="Why it may stay; kept in the audit log.")
def keep(desk: Desk, version: str, reason: str) -> None:
    """Say why a flagged version may stay."""
    if "@" not in version:
        raise Invalid(f"{version!r} is no version", where="version", remedy="write it as model@number")
    told = desk.control.post(f"/versions/{part(version)}/keep", {"reason": reason})
    desk.show(told, lambda: desk.screen.line(f"{told['version']} stays"))
