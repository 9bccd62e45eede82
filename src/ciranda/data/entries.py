"""The catalogue as one looks through it: each dataset with what is said of it, narrowed by filters, found by words, in pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from ciranda.data import descriptions, freshness, glossary, search, tags, versions
from ciranda.data.descriptions import Description
from ciranda.data.freshness import Freshness
from ciranda.data.ledger import version_of
from ciranda.data.search import Index, Text
from ciranda.data.statistics import dataset_statistics
from ciranda.data.versions import DatasetVersion, dataset_versions
from ciranda.govern.audit import audit_events
from ciranda.store.database import Database

CHANGES = ("dataset.committed", "dataset.described", "dataset.collected", "term.defined", "term.removed")
KEPT = 4  # homes in one process
_kept: dict[str, tuple[tuple[int | None, int | None], _Known]] = {}

Words = Mapping[str, tuple[str, ...]]  # by field; the dataset itself is the empty name


@dataclass(frozen=True)
class Wanted:
    """What to look for; an empty value narrows nothing. `state` is fresh or stale; `tag` and `term` may stand on a field."""

    q: str = ""
    tag: str = ""
    term: str = ""
    owner: str = ""
    sensitivity: str = ""
    licence: str = ""
    state: str = ""


@dataclass(frozen=True)
class Entry:
    """One dataset as the catalogue shows it. `why` says by which texts it was found."""

    name: str
    newest: DatasetVersion | None
    versions: int
    said: Description
    tags: Words
    terms: Words
    freshness: Freshness
    models: tuple[str, ...] = ()
    why: tuple[Text, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {
            "name": self.name,
            "newest": self.newest.to_dict() if self.newest else None,
            "versions": self.versions,
            **self.said.to_dict(),
            "tags": list(self.tags.get("", ())),
            "terms": list(self.terms.get("", ())),
            "fields": {
                name: {"tags": list(self.tags.get(name, ())), "terms": list(self.terms.get(name, ()))}
                for name in sorted((self.tags.keys() | self.terms.keys()) - {""})
            },
            "freshness": self.freshness.to_dict(),
            "models": list(self.models),
            "why": [{"kind": one.kind, "field": one.field, "text": one.text[:200]} for one in self.why],
        }


def look(
    db: Database,
    wanted: Wanted,
    *,
    reach: Collection[str] | None = None,
    after: tuple[float, str] | None = None,
    limit: int = 50,
) -> tuple[list[Entry], tuple[float, str] | None, int]:
    """A page of the catalogue, the best first (by name when no words were given), where the next begins, and how many there are.

    Args:
        reach: The only datasets to show; None is all.
        after: Where the page before ended.
    """
    with db.reading() as conn:
        known = _known(db, conn)
        scores, why = known.found(wanted.q)
        names = [name for name in scores if (reach is None or name in reach) and known.fits(name, wanted)]
        fresh = freshness.of_all(conn, known.said, names) if wanted.state else {}
        names = [name for name in names if not wanted.state or fresh[name].state == wanted.state]
        ranked = sorted((-scores[name], name) for name in names)
        rest = [one for one in ranked if after is None or one > (-after[0], after[1])]
        shown = [name for _, name in rest[:limit]]
        models, fresh, newest = _models(conn, shown), freshness.of_all(conn, known.said, shown), _newest(conn, shown)
    entries = [
        known.entry(name, newest.get(name), fresh[name], models.get(name, ()), why.get(name, ())) for name in shown
    ]
    following = (scores[shown[-1]], shown[-1]) if len(rest) > limit else None
    return entries, following, len(names)


def one(db: Database, name: str) -> Entry:
    """One dataset as the catalogue shows it; it need not have a version yet."""
    with db.reading() as conn:
        known, models = _known(db, conn), _models(conn, [name])
        fresh = freshness.of_all(conn, known.said, [name])
    return known.entry(name, versions.newest_of(db, name), fresh[name], models.get(name, ()), ())


def _known(db: Database, conn: sa.Connection) -> _Known:
    """What is said, kept until the audit log has a newer word on it or another version was counted."""
    told = sa.select(sa.func.max(audit_events.c.number)).where(audit_events.c.action.in_(CHANGES))
    counted = sa.select(sa.func.count()).select_from(dataset_statistics)
    mark = (conn.execute(told).scalar(), conn.execute(counted).scalar())
    held = _kept.get(db.url)
    if held is None or held[0] != mark:
        held = (mark, _Known(conn))
        while len(_kept) >= KEPT:
            _kept.pop(next(iter(_kept)), None)
        _kept[db.url] = held
    return held[1]


class _Known:
    """Everything that is said of all datasets, read at once."""

    def __init__(self, conn: sa.Connection) -> None:
        query = sa.select(dataset_versions.c.dataset, sa.func.count()).group_by(dataset_versions.c.dataset)
        self.counts = {row[0]: int(row[1]) for row in conn.execute(query)}
        self.said = descriptions.of_all(conn)
        self.tags, self.terms = tags.of_all(conn), glossary.of_all(conn)
        self.names = sorted(self.counts.keys() | self.said.keys() | self.tags.keys() | self.terms.keys())
        self.glossary = {term.term: term for term in glossary.every(conn)}
        self.fields = _fields(conn)

    @cached_property
    def index(self) -> Index:
        """The words of all of it."""
        return Index({name: self._texts(name) for name in self.names})

    def found(self, q: str) -> tuple[dict[str, float], dict[str, tuple[Text, ...]]]:
        """The rank of each dataset that the words lead to; without words, all are alike."""
        if not search.words(q):
            return dict.fromkeys(self.names, 0.0), {}
        hits = self.index.find(q)
        return {hit.name: hit.score for hit in hits}, {hit.name: hit.why for hit in hits}

    def fits(self, name: str, wanted: Wanted) -> bool:
        """Whether no filter leaves it out."""
        told, said = self.said.get(name, {}), self.said.get(name, {}).get("", Description())
        on = glossary.key_of(wanted.term)
        return (
            (not wanted.tag or wanted.tag in _flat(self.tags.get(name, {})))
            and (not on or on in map(glossary.key_of, _flat(self.terms.get(name, {}))))
            and (not wanted.owner or wanted.owner == said.owner)
            and (not wanted.licence or wanted.licence == said.licence)
            and (not wanted.sensitivity or any(one.sensitivity == wanted.sensitivity for one in told.values()))
        )

    def entry(
        self,
        name: str,
        newest: DatasetVersion | None,
        fresh: Freshness,
        models: tuple[str, ...],
        why: tuple[Text, ...],
    ) -> Entry:
        """One dataset of these."""
        said = self.said.get(name, {}).get("", Description())
        mine, terms = self.tags.get(name, {}), self.terms.get(name, {})
        return Entry(name, newest, self.counts.get(name, 0), said, mine, terms, fresh, models, why)

    def _texts(self, name: str) -> list[Text]:
        """What is said of a dataset and of its fields, as search reads it."""
        found = [Text("name", name)]
        for field, said in self.said.get(name, {}).items():
            kinds = ("owner", "purpose", "description")
            found += [Text(kind, text, field) for kind in kinds if (text := getattr(said, kind))]
        for field, given in self.tags.get(name, {}).items():
            found += [Text("tag", tag, field) for tag in given]
        for field, given in self.terms.get(name, {}).items():
            known = [self.glossary[term] for term in given if term in self.glossary]
            found += [Text("term", " ".join((term.term, *term.synonyms)), field) for term in known]
        named = self.fields.get(name, set()) | set(self.said.get(name, {})) | set(self.tags.get(name, {}))
        return [*found, *(Text("field", field, field) for field in sorted(named - {""}))]


def _newest(conn: sa.Connection, names: Sequence[str]) -> dict[str, DatasetVersion]:
    """The newest version of each of these datasets."""
    mine = dataset_versions.c.dataset.in_(names)
    number = sa.func.max(dataset_versions.c.number).label("number")
    last = sa.select(dataset_versions.c.dataset, number).where(mine).group_by(dataset_versions.c.dataset).subquery()
    same = (dataset_versions.c.dataset == last.c.dataset) & (dataset_versions.c.number == last.c.number)
    found = (version_of(row) for row in conn.execute(sa.select(dataset_versions).join(last, same)))
    return {version.name: version for version in found}


def _flat(by_field: Words) -> set[str]:
    return {word for given in by_field.values() for word in given}


def _fields(conn: sa.Connection) -> dict[str, set[str]]:
    """The fields that hold something in the newest counted version of each dataset."""
    newest = (
        sa.select(dataset_statistics.c.dataset, sa.func.max(dataset_statistics.c.number).label("number"))
        .group_by(dataset_statistics.c.dataset)
        .subquery()
    )
    same = (dataset_statistics.c.dataset == newest.c.dataset) & (dataset_statistics.c.number == newest.c.number)
    query = sa.select(dataset_statistics.c.dataset, dataset_statistics.c.fields).join(newest, same)
    return {
        row.dataset: {one["name"] for one in row.fields if one["rows"] > one["empty"]} for row in conn.execute(query)
    }


def _models(conn: sa.Connection, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The models with a version that learned from a dataset. The table belongs to a module to the right; it is only read."""
    table = sa.table("versions", sa.column("model"), sa.column("dataset"))
    if not names or not sa.inspect(conn).has_table("versions"):
        return {}
    wanted = sa.or_(*(table.c.dataset.startswith(f"{name}@", autoescape=True) for name in names))
    found: dict[str, tuple[str, ...]] = {}
    for row in conn.execute(sa.select(table).where(wanted).distinct().order_by(table.c.model)):
        name = row.dataset.rpartition("@")[0]
        if row.model not in found.get(name, ()):
            found[name] = (*found.get(name, ()), row.model)
    return found
