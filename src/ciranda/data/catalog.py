"""The catalogue: which datasets there are, what their versions hold, where those came from and who uses them.

Everything is a question to the control database; rows are read through `versions`. Tables of later parts of the loop (model
versions, evaluations) are asked by name and only when they exist, since data does not know who comes after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.data import contamination, descriptions, glossary, reading, sizes, sources, statistics, tags, versions
from ciranda.data.contamination import Overlap
from ciranda.data.rows import Row
from ciranda.data.statistics import Field
from ciranda.data.versions import DatasetVersion
from ciranda.govern.policy import Reader
from ciranda.store.database import Database

AT_ONCE = 50_000  # rows that are counted while somebody waits: a fraction of a second


@dataclass(frozen=True)
class Use:
    """Something that was made from a dataset version."""

    kind: str
    name: str
    detail: str


def said(db: Database, dataset: str) -> dict[str, Any]:
    """What people say of a dataset and of its fields: description, tags and terms; nothing when nobody said anything."""
    with db.reading() as conn:
        told, words = descriptions.of(conn, dataset), tags.of(conn, dataset)
        terms = glossary.of_all(conn, [dataset]).get(dataset, {})

    def of(field: str) -> dict[str, Any]:
        mine = told.get(field, descriptions.Description()).to_dict()
        kept = {name: mine[name] for name in ("description", "sensitivity")} if field else mine
        return {**kept, "tags": list(words.get(field, ())), "terms": list(terms.get(field, ()))}

    named = sorted((told.keys() | words.keys() | terms.keys()) - {""})
    return {"name": dataset, **of(""), "fields": {field: of(field) for field in named}}


def ancestors(db: Database, ref: str) -> list[DatasetVersion]:
    """A version and those it was made from, nearest first."""
    chain = [versions.get(db, ref)]
    while chain[-1].parent:
        chain.append(versions.get(db, chain[-1].parent))
    return chain


def used_by(db: Database, ref: str) -> list[Use]:
    """Model versions that were trained on a dataset version."""
    table = sa.table("versions", sa.column("model"), sa.column("number"), sa.column("stage"), sa.column("dataset"))
    with db.reading() as conn:
        if not sa.inspect(conn).has_table("versions"):
            return []
        found = conn.execute(
            sa.select(table).where(table.c.dataset == ref).order_by(table.c.model, table.c.number)
        ).all()
    return [Use("model version", f"{row.model}@{row.number}", row.stage) for row in found]


def figures(db: Database, home: Home, ref: str, reader: Reader) -> tuple[Field, ...] | None:
    """What the fields of a version hold, as the reader may see it. Small versions are counted when they are asked for; larger
    ones by control, until when there is None. Raises Forbidden."""
    bound, found = reading.decision(db, ref, reader), statistics.of(db, ref)
    if found is None and versions.get(db, ref).rows <= AT_ONCE:
        found = statistics.tell(db, home, ref)
    if found is None or not (bound.fields or bound.rows):
        return found
    return statistics.hidden(found, {one.name for one in found} if bound.rows else bound.fields)


def describe(db: Database, home: Home, ref: str, reader: Reader, *, samples: int = 10) -> dict[str, Any]:
    """Everything that the page of a version shows: the version, its runs, ancestors, users and some rows of each split."""
    version, fields = versions.get(db, ref), figures(db, home, ref, reader)
    runs = [run for run in sources.history(db, version.name) if run["version"] == version.ref]
    return {
        "version": told(db, version, reader),
        "disk": disk.to_dict() if (disk := sizes.of(db, home, version)) else None,
        "ancestors": [one.ref for one in ancestors(db, version.ref)[1:]],
        "used_by": [one.__dict__ for one in used_by(db, version.ref)],
        "contamination": [one.to_dict() for one in contaminated(db, version.ref)],
        "ingestions": reading.quoted(runs, reading.decision(db, version.ref, reader)),
        "fields": [one.to_dict() for one in fields] if fields is not None else None,
        "samples": {
            split: _samples(reading.read(db, home, version.ref, reader, split=split), samples)
            for split in version.counts.get("split", {})
        },
    }


def contaminated(db: Database, ref: str) -> list[Overlap]:
    """The suites that ask what training rows of a version say."""
    with db.reading() as conn:
        return contamination.of(conn, ref)


def told(db: Database, version: DatasetVersion, reader: Reader) -> dict[str, Any]:
    """A version as this reader may see it: its report quotes no text that is hidden from them."""
    return {**version.to_dict(), "report": reading.report(db, version, reader)}


def _samples(found: Iterator[Row], count: int) -> Sequence[dict[str, Any]]:
    names = ("prompt", "completion", "language", "group", "source", "origin", "thumb", "key")
    return [{name: getattr(row, name) for name in names} for row in islice(found, count)]
