"""`policy` and `exports`: who may see which rows for what, and which files of rows left the house."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, Noun, verb
from ciranda.errors import Invalid, NotFound

if TYPE_CHECKING:
    from ciranda.govern.policy import Policy

policy = Noun(
    "policy",
    examples=["ciranda policy", "ciranda policy preview smart-home@2 --role labeller --purpose viewing"],
    help="Who may see which rows and fields of datasets, for what.",
)


@verb("list", of=policy, examples=["ciranda policy list"])
def listed(desk: Desk) -> None:
    """The policies in force."""
    told = desk.control.get("/policies")
    rows = [
        (
            one["policy"],
            one["revision"],
            one["effect"],
            _what(one),
            ", ".join(one.get("purposes", ())) or "all",
            _who(one),
        )
        for one in told["items"]
    ]
    titles = ("policy", "revision", "effect", "on", "purposes", "who")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no policy"))


def _what(one: dict[str, Any]) -> str:
    """`subject of every dataset`, `rows of tickets where region`"""
    fields = one.get("fields", {})
    named = [*fields.get("names", ()), *(f"#{tag}" for tag in fields.get("tags", ()))]
    data = one.get("datasets", {})
    sets = [*data.get("names", ()), *(f"#{tag}" for tag in data.get("tags", ())), *data.get("sensitivity", ())]
    where = ", ".join(condition["field"] for condition in one.get("rows", ()))
    return f"{', '.join(named) or 'rows'} of {', '.join(sets) or 'every dataset'}" + (f" by {where}" if where else "")


def _who(one: dict[str, Any]) -> str:
    who = one.get("who", {})
    named = [*who.get("roles", ()), *who.get("keys", ()), *who.get("tenants", ())]
    out = who.get("except", {})
    but = [*out.get("roles", ()), *out.get("keys", ()), *out.get("tenants", ())]
    return (", ".join(named) or "everybody") + (f" but {', '.join(but)}" if but else "")


@verb("show", of=policy, examples=["ciranda policy show people-are-hashed"])
@click.argument("name")
def show(desk: Desk, name: str) -> None:
    """Every revision of a policy, newest first."""
    told = desk.control.get(f"/policies/{part(name)}")
    rows = [
        (
            one["revision"],
            one["created_by"],
            ago(one["created_at"]) if one["created_at"] else "from the start",
            _body(one),
        )
        for one in told["revisions"]
    ]
    desk.show(told, lambda: desk.screen.table(("revision", "by", "age", "policy"), rows))


def _body(one: dict[str, Any]) -> str:
    return json.dumps(one["body"], ensure_ascii=False) if one["body"] else "removed"


@verb("set", of=policy, examples=["ciranda policy set policies/regions.yaml"])
@click.argument("file", type=click.Path(path_type=Path))
def put(desk: Desk, file: Path) -> None:
    """Put the policy of a YAML file in force, in place of the one of its name."""
    told = desk.control.post("/policies", {"policy": _read(file).to_dict()})
    desk.show(told, lambda: desk.screen.line(f"{told['policy']}: revision {told['revision']} is in force"))


def _read(file: Path) -> Policy:
    from ciranda.config import lines
    from ciranda.govern.policy import Policy

    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise NotFound(f"no file {file}", where=str(file), remedy="name a YAML file with a policy in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read the policy: {error}", where=str(file), remedy="save it as UTF-8 text") from None
    return lines.read(text, Policy, file=str(file))


@verb("remove", of=policy, examples=["ciranda policy remove regions-for-europe"])
@click.argument("name")
def remove(desk: Desk, name: str) -> None:
    """Take a policy out of force; its revisions stay on record."""
    told = desk.control.post(f"/policies/{part(name)}/remove")
    desk.show(told, lambda: desk.screen.line(f"{told['policy']} is out of force"))


@verb(
    "preview",
    of=policy,
    examples=[
        "ciranda policy preview smart-home@2 --role labeller --purpose viewing",
        "ciranda policy preview smart-home@2 --role platform --purpose training --json",
    ],
)
@click.argument("version")
@click.option("--role", default="viewer", show_default=True, help="Whose eyes; `platform` is the loop itself.")
@click.option("--purpose", default="viewing", show_default=True,
              help="training, evaluation, labelling, viewing, export or monitoring.")  # fmt: skip
@click.option("--of-key", "key", default="", help="A key's id or name, for policies that name keys.")
@click.option("--tenant", default="", help="A tenant, for policies that name tenants.")
@click.option("--samples", default=5, show_default=True, type=click.IntRange(0, 50), help="How many rows to show.")
def preview(desk: Desk, version: str, **asked: Any) -> None:
    """What somebody would see of a dataset version, and which policies make it so. Nothing is changed."""
    told = desk.control.get(f"/datasets/{part(version)}/preview", **asked)
    desk.show(told, lambda: _draw(desk, told))


def _draw(desk: Desk, told: dict[str, Any]) -> None:
    who = f"{told['reader']['role']}, for {told['reader']['purpose']}"
    if told["closed"]:
        desk.screen.line(f"{told['dataset']} is closed to {who}: policy {told['closed']}")
        return
    desk.screen.line(f"{who}: {told['seen']} of {told['rows']} rows of {told['dataset']}")
    if told["effects"]:
        desk.screen.table(("field", "effect (policy)"), [(field, said) for field, said in told["effects"].items()])
    names = ("prompt", "completion", "language", "split", "subject")
    desk.screen.table(names, [tuple(row[name] for name in names) for row in told["samples"]], empty="no row to see")


exports = Noun(
    "exports",
    examples=["ciranda exports", "ciranda exports take smart-home@2 rows.jsonl"],
    help="Files of rows that left the house, and taking one.",
)


@verb("list", of=exports, examples=["ciranda exports list"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def register(desk: Desk, **asked: Any) -> None:
    """Who took which version when, newest first."""
    told = desk.control.get("/exports", **asked)
    rows = [
        (one["what"], one["actor"], one["role"], one["format"], one["policies"], ago(one["at"]))
        for one in told["items"]
    ]
    titles = ("what", "who", "role", "format", "policies", "age")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="nothing was exported"))


@verb("take", of=exports, examples=["ciranda exports take smart-home@2 rows.jsonl --split train"])
@click.argument("version")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "format_", default="jsonl", type=click.Choice(["jsonl", "parquet"]), help="Of the file.")
@click.option("--split", default="", help="Only this split: train, validation or test.")
@click.option("--language", default="", help="Only this language.")
def take(desk: Desk, version: str, file: Path, format_: str, **asked: Any) -> None:
    """Write a dataset version to a file, as far as the policies leave it to you. The register keeps who took it."""
    pieces = desk.control.download(f"/datasets/{part(version)}/export", format=format_, **asked)
    beside, size = file.with_name(f".{file.name}.{os.getpid()}"), 0
    try:
        with beside.open("wb") as written:
            for piece in pieces:
                size += written.write(piece)
            written.flush()
            os.fsync(written.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    desk.show({"file": str(file), "bytes": size}, lambda: desk.screen.line(f"{file}: {size:,} bytes"))
