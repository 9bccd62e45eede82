"""`audit` and `keys`: what was done, who may."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ciranda.cli.verb import Desk, Noun, verb
from ciranda.cli.versions import written
from ciranda.errors import NotFound, Refused

if TYPE_CHECKING:
    from ciranda.govern.audit import Verification

audit = Noun(
    "audit",
    examples=["ciranda audit", "ciranda audit verify"],
    help="Who did what, when: a chain that shows tampering.",
)


@verb("list", of=audit, examples=["ciranda audit list", "ciranda audit list --subject smart-home --action version."])
@click.option("--subject", default="", help="What it was done to, from the beginning.")
@click.option("--action", default="", help="What was done, from the beginning, such as `version.`.")
@click.option("--actor", default="", help="Who did it.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="How many.")
def events(desk: Desk, **asked: Any) -> None:
    """Events, newest first."""
    told = desk.control.get("/audit", **asked)
    rows = [
        (one["number"], one["at"], one["actor"], one["action"], one["subject"], _short(one["detail"]))
        for one in told["items"]
    ]
    desk.show(
        told,
        lambda: desk.screen.table(("number", "at", "actor", "action", "subject", "detail"), rows, empty="no event"),
    )


def _short(detail: str) -> str:
    found = {name: value for name, value in json.loads(detail).items() if not isinstance(value, dict | list)}
    shown = ", ".join(f"{name} {value}" for name, value in found.items() if value != "")
    return shown if len(shown) <= 80 else shown[:79] + "…"


@verb("export", of=audit, examples=["ciranda audit export audit.jsonl", "ciranda audit export more.jsonl --since 4711"])
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--since", default=0, type=click.IntRange(0), help="Only events after this number, as the file before ended."
)
def export(desk: Desk, file: str, since: int) -> None:
    """Write the log into a file that this installation signs; - is the terminal. Whoever has it can check it alone."""
    written(desk, desk.control.download("/audit/export", since=since), file)


@verb(
    "verify",
    of=audit,
    examples=[
        "ciranda audit verify",
        "ciranda audit verify --head 3b1f…",
        "ciranda audit verify --file audit.jsonl --signer ed25519:9c1f…",
        "ciranda audit verify --url https://ciranda.example.com",
    ],
)
@click.option("--head", default="", help="A hash noted earlier that must still be in the chain: shows a cut end.")
@click.option(
    "--file", default="", type=click.Path(dir_okay=False), help="A file of `ciranda audit export`, in place of the log."
)
@click.option("--signer", default="", help="The fingerprint that the file must be signed by, known by another way.")
def verify(desk: Desk, head: str, file: str, signer: str) -> None:
    """Check every link of the chain. Reads the database of the home itself, so that control need not be trusted, or up."""
    if file:
        _verify_file(desk, Path(file), signer)
        return
    elsewhere = desk.given.get("url") or desk.settings.url
    told = desk.control.get("/audit/verify", head=head) if elsewhere else _offline(desk, head).__dict__
    said = f"the chain holds: {told['events']} events, head {told['head']}" if told["ok"] else ""
    if told["ok"]:
        desk.show(told, lambda: desk.screen.line(said, "green"))
        return
    if desk.json:
        desk.show(told, lambda: None)
    raise Refused(
        f"the audit chain is broken: {told['problem']}",
        where=f"after event {told['events']}",
        remedy="keep the home as it is, and compare with a backup: somebody with access to the file changed it",
    )


def _verify_file(desk: Desk, file: Path, signer: str) -> None:
    """Check a file that was exported: nothing of an installation is needed for it."""
    from ciranda.govern import extracts

    try:
        with file.open("rb") as lines:
            told = extracts.check(lines, signer=signer)
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {file}", where="--file", remedy="name one of `ciranda audit export`"
        ) from None
    who = "the expected signer" if told.expected else f"{told.signer}; compare it with what they told you: --signer"
    if told.ok or desk.json:
        said = f"chain, seal and signature hold: {told.events} events, head {told.head}, signed by {who}"
        desk.show(asdict(told), lambda: desk.screen.line(said, "green"))
    if not told.ok:
        raise Refused(f"the file does not hold: {told.problem}", where=str(file),
                      remedy="ask for the file again, and keep this one: somebody changed it")  # fmt: skip


def _offline(desk: Desk, head: str) -> Verification:
    from ciranda import config
    from ciranda.govern import audit as chain
    from ciranda.store.database import Database

    url = config.database_url(desk.home, desk.settings)
    if url.startswith("sqlite") and not desk.home.database.exists():
        raise NotFound("there is no installation here", where=str(desk.home.path), remedy="name its folder with --home")
    database = Database(url)
    try:
        return chain.verify(database, head=head)
    finally:
        database.close()
