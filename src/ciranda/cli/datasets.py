"""`datasets` and `glossary`: what data there is, what is said of it, what the words mean."""

from __future__ import annotations

import json
from typing import Any

import click

from ciranda.cli.client import part
from ciranda.cli.screen import ago, lasting
from ciranda.cli.verb import Desk, Noun, verb

datasets = Noun(
    "datasets",
    examples=["ciranda datasets", "ciranda datasets show smart-home"],
    help="What data there is, and what is said of it.",
)


@verb("list", of=datasets, examples=["ciranda datasets list", "ciranda datasets list cliente --tag pii --state stale"])
@click.argument("words", nargs=-1)
@click.option("--tag", default="", help="Only with this tag, on the dataset or on a field.")
@click.option("--term", default="", help="Only with this glossary term, on the dataset or on a field.")
@click.option("--owner", default="", help="Only of this owner.")
@click.option("--sensitivity", default="", help="Only public, internal, confidential or personal ones.")
@click.option("--licence", default="", help="Only under this licence.")
@click.option("--state", default="", help="fresh or stale ones only.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def listed(desk: Desk, words: tuple[str, ...], **asked: Any) -> None:
    """The catalogue by name, or what the words lead to, the best first."""
    told = desk.control.get("/datasets", q=" ".join(words), **asked)
    rows = [
        (
            one["name"], one["newest"]["number"] if one["newest"] else None, one["newest"]["rows"] if one["newest"] else None,
            one["owner"] or None, one["sensitivity"] or None, one["tags"] or None, one["freshness"]["state"] or None,
            ago(one["freshness"]["rows_at"]), one["models"] or None,
        )
        for one in told["items"]
    ]  # fmt: skip
    titles = ("dataset", "version", "rows", "owner", "sensitivity", "tags", "state", "age", "models")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no dataset like that"))


@verb("show", of=datasets, examples=["ciranda datasets show smart-home"])
@click.argument("dataset")
def show(desk: Desk, dataset: str) -> None:
    """One dataset: what is said of it and of its fields, and its versions."""
    told = desk.control.get(f"/datasets/{part(dataset)}")
    desk.show(told, lambda: _draw(desk, told))


@verb("contaminated", of=datasets, examples=["ciranda datasets contaminated"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def contaminated(desk: Desk, limit: int, cursor: str) -> None:
    """Versions with training rows that a registered suite asks, and the model versions that learned them."""
    told = desk.control.get("/contaminations", limit=limit, cursor=cursor)
    rows = [
        (one["version"], one["suite"], one["found"], one["looked"], one["trained"] or None, ago(one["at"]))
        for one in told["items"]
    ]
    titles = ("dataset version", "suite", "rows", "of", "learned by", "since")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no version holds what a suite asks"))


def _draw(desk: Desk, told: dict[str, Any]) -> None:
    names = ("owner", "description", "purpose", "licence", "sensitivity", "tags", "terms")
    desk.screen.facts((name, told[name] or None) for name in names)
    if told["every_s"]:
        desk.screen.facts([("every", lasting(told["every_s"]))])
    kinds = ("description", "sensitivity", "tags", "terms")
    if told["fields"]:
        rows = [(name, *(one[kind] for kind in kinds)) for name, one in told["fields"].items()]
        desk.screen.table(("field", *kinds), rows)
    lines = [
        (one["ref"], one["rows"], *_disk(one), one["created_by"], ago(one["created_at"])) for one in told["versions"]
    ]
    desk.screen.table(("version", "rows", "MB", "new MB", "committed by", "age"), lines)


def _disk(version: dict[str, Any]) -> tuple[float | None, float | None]:
    """What a version holds on the disk and what it added there, in MB."""
    sizes = ((version["disk"] or {}).get(name) for name in ("held", "added"))
    held, added = (None if size is None else round(size / 1e6, 2) for size in sizes)
    return held, added


@verb(
    "describe",
    of=datasets,
    examples=[
        "ciranda datasets describe tickets --owner ana --licence CC-BY-4.0 --sensitivity personal --every 24h",
        "ciranda datasets describe tickets --field subject --tag pii --term customer",
    ],
)
@click.argument("dataset")
@click.option("--field", default="", help="Speak of this field of its rows, not of the dataset.")
@click.option("--owner", help="Who answers for it.")
@click.option("--description", help="What is in it.")
@click.option("--purpose", help="What it was gathered for.")
@click.option("--licence", help="An SPDX expression, such as CC-BY-4.0 or LicenseRef-Contract-12.")
@click.option("--sensitivity", help="public, internal, confidential or personal.")
@click.option("--every", help="How old its newest rows may become before it counts as stale: 24h, 7d; 0 is any age.")
@click.option("--tag", "tags", multiple=True, help="All of its tags; may be repeated. One that is empty: none.")
@click.option("--term", "terms", multiple=True, help="All of its glossary terms; may be repeated. Empty: none.")
def describe(desk: Desk, dataset: str, **asked: Any) -> None:
    """Say what a dataset (or a field) is. What is not given stays as it was."""
    given: dict[str, Any] = {name: value for name, value in asked.items() if value not in (None, ())}
    words: dict[str, Any] = {name: [one for one in given[name] if one] for name in ("tags", "terms") if name in given}
    told = desk.control.post(f"/datasets/{part(dataset)}/describe", {**given, **words})
    desk.show(told, lambda: _draw(desk, {**told, "versions": []}))


@verb("card", of=datasets, examples=["ciranda datasets card tickets@2 > tickets.croissant.json"])
@click.argument("version")
def card(desk: Desk, version: str) -> None:
    """A version's card as Croissant 1.1 (JSON-LD), for other catalogues and loaders."""
    told = desk.control.get(f"/datasets/{part(version)}/croissant")
    click.echo(json.dumps(told, ensure_ascii=False, indent=1))


glossary = Noun(
    "glossary",
    examples=["ciranda glossary", 'ciranda glossary define customer "Who pays us" --synonym cliente'],
    help="What the words of the business mean.",
)


@verb("list", of=glossary, examples=["ciranda glossary list"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 200), help="How many.")
@click.option("--cursor", default="", help="Go on where the page before ended (`next` of its JSON).")
def terms(desk: Desk, **asked: Any) -> None:
    """Every term by name."""
    told = desk.control.get("/glossary", **asked)
    rows = [(one["term"], one["definition"], one["synonyms"], one["owner"]) for one in told["items"]]
    titles = ("term", "definition", "synonyms", "owner")
    desk.show(told, lambda: desk.screen.table(titles, rows, empty="no term yet: `ciranda glossary define`"))


@verb("show", of=glossary, examples=["ciranda glossary show customer"])
@click.argument("term")
def meaning(desk: Desk, term: str) -> None:
    """A term by its name or a synonym, and the data that it stands on."""
    told = desk.control.get(f"/glossary/{part(term)}")
    held = [f"{one['dataset']}:{one['field']}" if one["field"] else one["dataset"] for one in told["on"]]
    shown = [(name, told[name] or None) for name in ("term", "definition", "synonyms", "owner")]
    desk.show(told, lambda: desk.screen.facts([*shown, ("on", held or None)]))


@verb("define", of=glossary, examples=['ciranda glossary define customer "Who pays us" --owner ana --synonym cliente'])
@click.argument("term")
@click.argument("definition")
@click.option("--owner", default="", help="Who answers for the meaning.")
@click.option("--synonym", "synonyms", multiple=True, help="What else it is called; may be repeated.")
def define(desk: Desk, term: str, definition: str, owner: str, synonyms: tuple[str, ...]) -> None:
    """Define a term, or say it anew."""
    body = {"term": term, "definition": definition, "owner": owner, "synonyms": list(synonyms)}
    told = desk.control.post("/glossary", body)
    desk.show(told, lambda: desk.screen.line(f"{told['term']}: {told['definition']}"))


@verb("remove", of=glossary, examples=["ciranda glossary remove customer"])
@click.argument("term")
def remove(desk: Desk, term: str) -> None:
    """Take a term out of the glossary; it must stand on nothing."""
    told = desk.control.post(f"/glossary/{part(term)}/remove")
    desk.show(told, lambda: desk.screen.line(f"{told['term']} is removed"))
