"""`datasets versions`, `diff`, `findings`, `tag`, `untag`, `branch`, `revert`, `gc`: lines of dataset versions."""

from __future__ import annotations

from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.datasets import datasets
from ciranda.cli.screen import ago
from ciranda.cli.verb import Desk, verb
from ciranda.errors import Invalid


def halves(ref: str) -> tuple[str, str]:
    """`tickets@2` (or a name or moment behind the @) as the dataset and the version. Raises Invalid."""
    name, _, version = ref.partition("@")
    if not name or not version:
        raise Invalid(f"{ref!r} names no version", where="arguments", remedy="write it as tickets@2 or tickets@golden")
    return name, version


@verb(
    "versions",
    of=datasets,
    examples=["ciranda datasets versions tickets", "ciranda datasets versions tickets --at 2026-11-01"],
)
@click.argument("dataset")
@click.option("--at", default="", help="Only the one that was the newest at this moment, ISO 8601.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def versions(desk: Desk, dataset: str, **asked: Any) -> None:
    """The versions of a dataset, newest first, with their tags and aliases."""
    told = desk.control.get(f"/datasets/{part(dataset)}/versions", **asked)
    rows = [
        (one["ref"], one["names"], one["rows"], one["digest"][:19], one["transformation"].get("kind"),
         one["created_by"], ago(one["created_at"]), "collected" if one["collected_at"] else None)
        for one in told["items"]
    ]  # fmt: skip
    titles = ("version", "names", "rows", "digest", "made by", "committed by", "age", "state")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no version yet"))


@verb(
    "diff",
    of=datasets,
    examples=["ciranda datasets diff tickets@1 tickets@2", "ciranda datasets diff tickets@golden tickets@7"],
)
@click.argument("before")
@click.argument("after")
@click.option(
    "--rows", "limit", default=5, show_default=True, type=click.IntRange(0, 200), help="Rows shown of each kind."
)
def diff(desk: Desk, before: str, after: str, limit: int) -> None:
    """What changed between two versions: rows by key, and how the whole moved."""
    (name, old), (other, new) = halves(before), halves(after)
    if name != other:
        raise Invalid("versions of two datasets", where="arguments", remedy="compare versions of one dataset")
    told = desk.control.get(f"/datasets/{part(name)}/diff", before=old, after=new, limit=limit)
    desk.show(told, lambda: _draw(desk, told))


def _draw(desk: Desk, told: dict[str, Any]) -> None:
    desk.screen.facts((name, told[name]) for name in ("before", "after", "added", "removed", "changed"))
    moved = [
        (one["field"], f"{one['distance']:.1%}", " ".join(f"{value}: {was:.1%}→{now:.1%}" for value, was, now in one["values"][:3]))
        for one in told["movement"]["shifts"]
        if one["distance"] > 0
    ]  # fmt: skip
    desk.screen.table(("field", "moved", "most"), moved, empty="no share of any field moved")
    for kind in ("added", "removed"):
        rows = [
            (one["split"], one["language"], one["prompt"][:60], one["completion"][:60]) for one in told["rows"][kind]
        ]
        if rows:
            desk.screen.table((kind, "language", "prompt", "answer"), rows)


@verb("findings", of=datasets, examples=["ciranda datasets findings tickets@2 --check pii"])
@click.argument("version")
@click.option("--check", default="", help="Only of this check.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def findings(desk: Desk, version: str, **asked: Any) -> None:
    """What the checks found when a version was committed, row by row."""
    name, number = halves(version)
    told = desk.control.get(f"/datasets/{part(name)}@{part(number)}/findings", **asked)
    rows = [(one["check"], one["action"], one["origin"], one["reason"]) for one in told["items"]]
    desk.show(told, lambda: desk.screen.table(("check", "action", "row", "reason"), rows, empty="nothing was found"))


@verb(
    "tag",
    of=datasets,
    examples=["ciranda datasets tag tickets@2 golden", "ciranda datasets tag tickets@3 current --moving"],
)
@click.argument("version")
@click.argument("name")
@click.option("--moving", is_flag=True, help="An alias, which may move to other versions; else a tag, which stays.")
def tag(desk: Desk, version: str, name: str, moving: bool) -> None:
    """Give a version a name. A version with a name is never collected."""
    dataset, number = halves(version)
    body = {"version": number, "name": name, "moving": moving}
    told = desk.control.post(f"/datasets/{part(dataset)}/name", body)
    desk.show(told, lambda: desk.screen.line(f"{told['dataset']}@{told['name']} is {told['ref']}"))


@verb("untag", of=datasets, examples=["ciranda datasets untag tickets@golden"])
@click.argument("name")
def untag(desk: Desk, name: str) -> None:
    """Take a tag or an alias away; the version stays."""
    dataset, called = halves(name)
    told = desk.control.post(f"/datasets/{part(dataset)}/unname", {"name": called})
    desk.show(told, lambda: desk.screen.line(f"{told['ref']} is not called {told['name']} any more"))


@verb("branch", of=datasets, examples=["ciranda datasets branch tickets@2 tickets-short"])
@click.argument("version")
@click.argument("name")
def branch(desk: Desk, version: str, name: str) -> None:
    """Begin another dataset with the rows of a version; they are shared, not copied."""
    dataset, number = halves(version)
    told = desk.control.post(f"/datasets/{part(dataset)}/branch", {"version": number, "name": name})
    desk.show(told, lambda: desk.screen.line(f"{told['ref']}: {told['rows']} rows of {told['parent']}"))


@verb("revert", of=datasets, examples=["ciranda datasets revert tickets@2"])
@click.argument("version")
@click.option("--parent", default="", help="Refuse when the newest version is another one by now.")
def revert(desk: Desk, version: str, parent: str) -> None:
    """Make the rows of an older version the newest again, as a new version."""
    dataset, number = halves(version)
    told = desk.control.post(f"/datasets/{part(dataset)}/revert", {"to": number, "parent": parent})
    desk.show(told, lambda: desk.screen.line(f"{told['ref']}: {told['rows']} rows, as in {dataset}@{number}"))


@verb("gc", of=datasets, examples=["ciranda datasets gc", "ciranda datasets gc tickets --keep 5 --age 7d --yes"])
@click.argument("dataset", default="")
@click.option("--keep", type=click.IntRange(1, 1000), help="Newest versions of each dataset that stay.")
@click.option("--age", default="", help="Versions younger than this stay, such as 30d.")
@click.option("--yes", is_flag=True, help="Do it; without it, only what would go is told.")
def gc(desk: Desk, dataset: str, keep: int | None, age: str, yes: bool) -> None:
    """Collect old versions that nothing uses and nobody named, and files that no version refers to."""
    body = {"dataset": dataset, "keep": keep, "age": age or None, "dry": not yes}
    told = desk.control.post("/datasets/collect", {name: value for name, value in body.items() if value is not None})
    desk.show(told, lambda: _swept(desk, told))


def _swept(desk: Desk, told: dict[str, Any]) -> None:
    rows = [(ref, "would go" if told["dry"] else "gone") for ref in told["collected"]]
    desk.screen.table(("version", "rows"), [*rows, *((ref, f"stay: {why}") for ref, why in told["kept"].items())])
    if not told["dry"]:
        desk.screen.line(f"{told['bytes'] / 1e6:,.1f} MB freed")
    elif told["collected"]:
        desk.screen.line("nothing was changed; do it with --yes")
