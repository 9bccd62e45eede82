"""`keys` and `tenants`: who may do what, and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.config.bounds import Bounds
from ciranda.errors import Unavailable


def bounded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all limits."""
    for name, field in reversed(Bounds.model_fields.items()):
        kind = float if name.startswith("cost") else int
        command = click.option(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=field.description)(command)
    return command


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _use(row: dict[str, Any]) -> str:
    """`3 of 60 requests per minute, …`"""
    return ", ".join(
        f"{one['used']:g} of {one['limit']:g} {name.replace('_', ' ')}" for name, one in row["use"].items()
    )


keys = Noun(
    "keys",
    examples=["ciranda keys", "ciranda keys create app --role client --model smart-home"],
    help="Who may do what, and how much of it.",
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
            one["tenant"],
            ago(one["created_at"]),
            "revoked" if one["revoked_at"] else "open",
            _use(one),
        )
        for one in told["items"]
    ]
    titles = ("id", "name", "role", "models", "tenant", "age", "state", "used")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no key"))


@verb(
    "create",
    of=keys,
    examples=[
        "ciranda keys create app --role client --model smart-home",
        "ciranda keys create app --tenant acme --requests-per-minute 60 --cost-per-month 50",
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
@click.option("--tenant", default="default", show_default=True, help="Who pays; its keys share its limits.")
@bounded
def create(desk: Desk, name: str, role: str, models: tuple[str, ...], tenant: str, **asked: Any) -> None:
    """Issue a key. Its secret is printed once and stored nowhere. One of the role feedback may stand in a web page."""
    page = {option: asked.pop(option) for option in ("origins", "per_minute", "total_per_minute", "corrections")}
    public = {"public": {**page, "origins": list(page["origins"])}} if role == "feedback" or page["origins"] else {}
    wanted = {"name": name, "role": role, "models": list(models) or ["*"], "tenant": tenant, "limits": _given(asked)}
    told = desk.control.post("/keys", {**wanted, **public})
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


@verb("limit", of=keys, examples=["ciranda keys limit key_0199… --requests-per-minute 60 --tokens-per-day 1000000"])
@click.argument("key")
@bounded
def limit(desk: Desk, key: str, **limits: Any) -> None:
    """Say what a key may use: these limits take the place of those it had, so none at all frees it."""
    told = desk.control.post(f"/keys/{part(key)}/limits", {"limits": _given(limits)})
    desk.show(told, lambda: desk.screen.line(_bound(told["id"], told["limits"])))


def _bound(name: str, limits: dict[str, Any]) -> str:
    told = ", ".join(f"{value:g} {kind.replace('_', ' ')}" for kind, value in limits.items())
    return f"{name}: {told or 'no limits'}"


tenants = Noun(
    "tenants",
    examples=["ciranda tenants", "ciranda tenants limit acme --cost-per-month 500"],
    help="What the keys of one customer, team or app may use together.",
)


@verb("list", of=tenants, examples=["ciranda tenants list"])
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, **asked: Any) -> None:
    """Every tenant that has a key or limits."""
    told = desk.control.get("/tenants", **asked)
    rows = [(one["name"], _use(one) or "no limits") for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("tenant", "used"), rows, empty="no tenant"))


@verb("limit", of=tenants, examples=["ciranda tenants limit acme --tokens-per-minute 100000 --cost-per-month 500"])
@click.argument("tenant")
@bounded
def share(desk: Desk, tenant: str, **limits: Any) -> None:
    """Say what a tenant's keys may use together: these limits take the place of those it had."""
    told = desk.control.post(f"/tenants/{part(tenant)}/limits", {"limits": _given(limits)})
    desk.show(told, lambda: desk.screen.line(_bound(told["name"], told["limits"])))
