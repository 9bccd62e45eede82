"""The catalogue: datasets and their versions, what people say of them, the glossary, the causal chain."""

from __future__ import annotations

from typing import Any

from ciranda.data import catalog, contamination, croissant, descriptions, entries, glossary, reading, sizes
from ciranda.data import versions as datasets
from ciranda.data.descriptions import Change
from ciranda.data.entries import Entry, Wanted
from ciranda.data.versions import DatasetVersion
from ciranda.errors import Forbidden
from ciranda.loop.overlaps import trained_on
from ciranda.loop.tuning import dataset_of
from ciranda.registry.lineage import Node
from ciranda.web.api import rows
from ciranda.web.api.asked import Datasets, Described, Lineage, Nothing, Page, Term
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item
from ciranda.web.load.lineage import chain


def reached(call: Call[Any]) -> set[str] | None:
    """The datasets of the models that the key reaches, their fine-tuning files among them; None is all."""
    if call.reach is None:
        return None
    applied = rows.every(call.platform.db, "models", order="model", model=call.reach)
    own = {row["spec"].get("data", {}).get("dataset") or row["model"] for row in applied}
    return own | {dataset_of(row["model"]) for row in applied}


def demand(call: Call[Any], *, right: str = "view") -> str:
    """The dataset in the address, once the key reaches it. Raises Forbidden."""
    name, reach = call.path["dataset"], reached(call)
    if reach is not None and name not in reach:
        call.require(name, right=right)
    return name


def listing(call: Call[Datasets]) -> Item:
    """The catalogue: what is said of each dataset, its newest version, how new it is, who uses it."""
    asked = call.asked
    wanted = Wanted(**asked.model_dump(exclude={"limit", "cursor"}))
    after = rows.place(asked.cursor, 2) if asked.cursor else None
    found, following, total = entries.look(
        call.platform.db, wanted, reach=reached(call), after=(float(after[0]), str(after[1])) if after else None,
        limit=asked.limit,
    )  # fmt: skip
    listed = rows.listed([_shown(call, one) for one in found], rows.cursor(list(following)) if following else None)
    return {**listed, "total": total}


def _shown(call: Call[Any], entry: Entry) -> Item:
    return {**entry.to_dict(), "newest": _told(call, entry.newest) if entry.newest else None}


def _told(call: Call[Any], version: DatasetVersion) -> Item:
    """A version as the key may see it; one of a closed dataset without its report."""
    try:
        return catalog.told(call.platform.db, version, reading.asking(call.principal, "viewing"))
    except Forbidden:
        return {**version.to_dict(), "report": {}}


def one(call: Call[Nothing]) -> Item:
    """One dataset: what is said of it and of its fields, its versions, the newest first."""
    name = demand(call)
    line = datasets.line(call.platform.db, name)
    disk = sizes.along(call.platform.db, call.platform.home, line)
    entry = entries.one(call.platform.db, name)
    return {
        **catalog.said(call.platform.db, name),
        "freshness": entry.freshness.to_dict(),
        "models": list(entry.models),
        "versions": [
            {**_told(call, version), "disk": disk[version.ref].to_dict() if version.ref in disk else None}
            for version in line
        ],
    }


def version(call: Call[Nothing]) -> Item:
    """One dataset version: counts, checks, where its rows came from, who was trained on it, some rows."""
    ref = datasets.get(call.platform.db, f"{call.path['dataset']}@{call.path['number']}").ref
    demand(call)
    reader = reading.asking(call.principal, "viewing")
    return catalog.describe(call.platform.db, call.platform.home, ref, reader)


def contaminated(call: Call[Page]) -> Item:
    """Dataset versions that hold training rows which a registered suite asks, by version and suite."""
    asked, reach = call.asked, reached(call)
    after = rows.place(asked.cursor, 2) if asked.cursor else None
    with call.platform.db.reading() as conn:
        found = contamination.page(
            conn, datasets=reach, after=(str(after[0]), str(after[1])) if after else None, limit=asked.limit + 1
        )
        items = [{**one.to_dict(), "trained": trained_on(conn, one.version)} for one in found[: asked.limit]]
    last = found[asked.limit - 1] if len(found) > asked.limit else None
    return rows.listed(items, rows.cursor([last.version, last.suite]) if last else None)


def card(call: Call[Nothing]) -> Item:
    """The card of a version as Croissant 1.1."""
    version = datasets.get(call.platform.db, f"{demand(call)}@{call.path['number']}")
    reader = reading.asking(call.principal, "export")
    return croissant.card(call.platform.db, call.platform.home, version, reader, origin=call.origin)


def describe(call: Call[Described]) -> Item:
    """Say something new of a dataset or of a field; the answer is all that is said of it then."""
    name, asked = demand(call, right="data"), call.asked
    values = asked.model_dump(exclude={"field", "every"})
    with call.platform.db.writing() as conn:
        descriptions.change(conn, name, asked.field, Change(**values, every_s=asked.every), actor=call.actor)
    return catalog.said(call.platform.db, name)


def glossary_(call: Call[Page]) -> Item:
    """The glossary by name."""
    with call.platform.db.reading() as conn:
        found = glossary.every(conn, after=call.asked.cursor, limit=call.asked.limit + 1)
    shown = found[: call.asked.limit]
    return rows.listed([one.to_dict() for one in shown], shown[-1].term if len(found) > len(shown) else None)


def term(call: Call[Nothing]) -> Item:
    """A term by its name or a synonym, and the data that it stands on."""
    reach = reached(call)
    with call.platform.db.reading() as conn:
        found = glossary.get(conn, call.path["term"])
        held = glossary.uses(conn, found.term)
    shown = [{"dataset": dataset, "field": field} for dataset, field in held if reach is None or dataset in reach]
    return {**found.to_dict(), "on": shown}


def define(call: Call[Term]) -> Item:
    """Define a term, or say it anew."""
    asked = call.asked.model_dump()
    with call.platform.db.writing() as conn:
        return glossary.put(conn, asked.pop("term"), **asked, actor=call.actor).to_dict()


def remove(call: Call[Nothing]) -> Item:
    """Take a term out of the glossary; it must stand on nothing."""
    with call.platform.db.writing() as conn:
        glossary.remove(conn, call.path["term"], actor=call.actor)
    return {"term": call.path["term"], "removed": True}


def lineage(call: Call[Lineage]) -> Item:
    """The causal chain through one thing: what led to it, what came of it; as far as the key reaches."""
    reach, asked = reached(call), call.asked

    def sees(node: Node) -> bool:
        return reach is None or node.of in reach or call.reaches(node.of)

    found = chain(
        call.platform, asked.of, sees, call.principal, direction=asked.direction, generations=asked.generations
    )
    return found.to_dict()
