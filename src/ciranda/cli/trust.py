"""`audit` and `keys`: what was done, who may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import NotFound, Refused, Unavailable

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


@verb(
    "verify",
    of=audit,
    examples=[
        "ciranda audit verify",
        "ciranda audit verify --head 3b1f…",
        "ciranda audit verify --url https://ciranda.example.com",
    ],
)
@click.option("--head", default="", help="A hash noted earlier that must still be in the chain: shows a cut end.")
def verify(desk: Desk, head: str) -> None:
    """Check every link of the chain. Reads the database of the home itself, so that control need not be trusted, or up."""
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


keys = Noun(
    "keys",
    examples=["ciranda keys", "ciranda keys create app --role client --model smart-home"],
    help="Who may do what.",
)


@verb("list", of=keys, examples=["ciranda keys list"])
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 200), help="How many.")
def issued(desk: Desk, limit: int) -> None:
    """All keys, without their secrets."""
    told = desk.control.get("/keys", limit=limit)
    rows = [
        (
            one["id"],
            one["name"],
            one["role"],
            ", ".join(one["models"]),
            ago(one["created_at"]),
            "revoked" if one["revoked_at"] else "open",
        )
        for one in told["items"]
    ]
    desk.show(told, lambda: desk.screen.table(("id", "name", "role", "models", "age", "state"), rows, empty="no key"))


@verb(
    "create",
    of=keys,
    examples=[
        "ciranda keys create app --role client --model smart-home",
        "ciranda keys create ana --role approver",
        "ciranda keys create site --role feedback --model smart-home --origin https://app.example.com",
    ],
)
@click.argument("name")
@click.option(
    "--role",
    default="client",
    show_default=True,
    help="feedback (a public key), client, viewer, labeller, engineer, approver or admin.",
)
@click.option("--model", "models", multiple=True, help="A model that it reaches; may be repeated. Without it: all.")
@click.option("--origin", "origins", multiple=True, help="A page that may use a public key: https://app.example.com.")
@click.option("--per-minute", default=30, show_default=True, help="Requests of a public key from one address.")
@click.option("--total-per-minute", default=600, show_default=True, help="Requests of a public key from all addresses.")
@click.option("--corrections/--no-corrections", default=True, help="Whether a public key may correct answers.")
def create(desk: Desk, name: str, role: str, models: tuple[str, ...], **bounds: Any) -> None:
    """Issue a key. Its secret is printed once and stored nowhere. One of the role feedback may stand in a web page."""
    public = (
        {"public": {**bounds, "origins": list(bounds["origins"])}} if role == "feedback" or bounds["origins"] else {}
    )
    told = desk.control.post("/keys", {"name": name, "role": role, "models": list(models) or ["*"], **public})
    desk.show(told, lambda: desk.screen.line(told["secret"]))
    said = f"{told['id']}, role {told['role']}, models {', '.join(told['models'])}"
    desk.tell(f"{said}. {_page(desk, told) if public else 'Keep the secret: nobody can show it again.'}")


def _page(desk: Desk, told: dict[str, Any]) -> str:
    """What to put into the pages that a public key is for."""
    from ciranda.gateway import widget

    try:
        gateway = desk.gateway().url
    except Unavailable:
        gateway = "https://<gateway>"
    tag = widget.tag(gateway, told["secret"])
    return f"For pages of {', '.join(told['public']['origins'])}, with the answer's x-ciranda-interaction:\n{tag}"


@verb("revoke", of=keys, examples=["ciranda keys revoke key_0199…"])
@click.argument("key")
def revoke(desk: Desk, key: str) -> None:
    """Close a key for good; whoever uses it is turned away at once."""
    told = desk.control.post(f"/keys/{part(key)}/revoke")
    desk.show(told, lambda: desk.screen.line(f"{told['id']} is revoked"))
