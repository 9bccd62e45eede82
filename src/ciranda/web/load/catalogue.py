"""The catalogue: what there is, one dataset with its versions, the glossary."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from ciranda.data import catalog, descriptions, entries, glossary, sizes, sources, tags, versions
from ciranda.data.descriptions import Description
from ciranda.data.entries import Wanted
from ciranda.data.versions import DatasetVersion, dataset_aliases
from ciranda.errors import NotFound
from ciranda.loop.platform import Platform
from ciranda.registry import models
from ciranda.web.views.catalogue import PAGE, Catalogue, FieldRow, Glossary, LinePage, TermRow
from ciranda.web.views.datasets import DatasetVersionRow

VERSIONS = 30
TERMS = 200


def learners(platform: Platform) -> dict[str, list[str]]:
    """The models whose files name each dataset."""
    found: dict[str, list[str]] = {}
    with platform.db.reading() as conn:
        for model in models.every(conn):
            found.setdefault(model.spec.dataset, []).append(model.name)
    return found


def reached(platform: Platform, reach: Sequence[str]) -> frozenset[str] | None:
    """The datasets that the models of a key learn from; None is all."""
    if "*" in reach:
        return None
    return frozenset(name for name, mine in learners(platform).items() if set(mine) & set(reach))


def listing(platform: Platform, reach: Collection[str] | None, wanted: Wanted, after: str) -> Catalogue:
    """One page of the catalogue."""
    place = _place(after)
    found, following, total = entries.look(platform.db, wanted, reach=reach, after=place, limit=PAGE)
    with platform.db.reading() as conn:
        owners = sa.select(descriptions.data_descriptions.c.owner).distinct().order_by("owner")
        named = [str(row[0]) for row in conn.execute(owners) if row[0]] if reach is None else []
        words = [word for word, _ in tags.used(conn)] if reach is None else _tags(found)
        terms = [term.term for term in glossary.every(conn, limit=TERMS)]
    return Catalogue(
        tuple(found), total, wanted, _cursor(following) if following else "", place is not None, tuple(words), tuple(named),
        tuple(terms),
    )  # fmt: skip


def _tags(found: Sequence[entries.Entry]) -> list[str]:
    """For a key that does not see everything, the tags of what it sees."""
    return sorted({word for one in found for given in one.tags.values() for word in given})


def _cursor(place: tuple[float, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(text: str) -> tuple[float, str] | None:
    """Where the page before ended; what we did not write begins anew."""
    try:
        score, name = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return float(score), str(name)
    except (ValueError, TypeError):
        return None


def line(platform: Platform, name: str, before: int) -> LinePage:
    """One dataset. Raises NotFound when nobody committed or described it."""
    entry = entries.one(platform.db, name)
    if entry.newest is None and not entry.said.changed_at and not entry.tags:
        raise NotFound(f"no dataset {name!r}", where="datasets", remedy="the catalogue lists them")
    found = versions.line(platform.db, name, before=before or None, limit=VERSIONS + 1) if entry.newest else []
    with platform.db.reading() as conn:
        said = descriptions.of(conn, name)
    fields = sorted((said.keys() | entry.tags.keys() | entry.terms.keys()) - {""})
    rows = tuple(
        FieldRow(one, said.get(one, Description()), entry.tags.get(one, ()), entry.terms.get(one, ())) for one in fields
    )
    runs = sources.history(platform.db, name, limit=20)
    return LinePage(
        entry, rows, history(platform, name, found[:VERSIONS]), tuple(learners(platform).get(name, ())),
        found[VERSIONS - 1].number if len(found) > VERSIONS else 0, tuple(dict.fromkeys(str(run["source"]) for run in runs)),
    )  # fmt: skip


def history(platform: Platform, name: str, line: Sequence[DatasetVersion]) -> tuple[DatasetVersionRow, ...]:
    """Versions in the order given, with what made them, what their checks found, and who uses them."""
    rows = {version.ref: version.rows for version in versions.line(platform.db, name, limit=VERSIONS * 2)}
    named, disk = _names(platform, name), sizes.along(platform.db, platform.home, line)
    return tuple(
        DatasetVersionRow(
            name, version.number, version.rows, version.rows - rows[version.parent] if version.parent in rows else None,
            version.created_at, version.created_by, tuple(use.name for use in catalog.used_by(platform.db, version.ref)),
            str(version.transformation.get("kind", "")), version.parents, len(version.report.get("checks", {})),
            sum(int(one.get("found", 0)) for one in version.report.get("checks", {}).values()),
            tuple(named.get(version.number, ())), disk.get(version.ref),
        )
        for version in line
    )  # fmt: skip


def _names(platform: Platform, name: str) -> dict[int, list[str]]:
    """Tags and aliases of each version."""
    query = sa.select(dataset_aliases.c.number, dataset_aliases.c.name).where(dataset_aliases.c.dataset == name)
    found: dict[int, list[str]] = {}
    with platform.db.reading() as conn:
        for row in conn.execute(query.order_by(dataset_aliases.c.name)):
            found.setdefault(row.number, []).append(row.name)
    return found


def words(platform: Platform, reach: Collection[str] | None, after: str) -> Glossary:
    """One page of the glossary."""
    with platform.db.reading() as conn:
        found = glossary.every(conn, after=after, limit=PAGE + 1)
        on = {term.term: glossary.uses(conn, term.term) for term in found[:PAGE]}
    rows = tuple(
        TermRow(term, tuple(one for one in on[term.term] if reach is None or one[0] in reach)) for term in found[:PAGE]
    )
    return Glossary(rows, found[PAGE - 1].term if len(found) > PAGE else "")


def word(platform: Platform, reach: Collection[str] | None, term: str) -> TermRow:
    """One term by its name or a synonym. Raises NotFound."""
    with platform.db.reading() as conn:
        found = glossary.get(conn, term)
        on = glossary.uses(conn, found.term)
    return TermRow(found, tuple(one for one in on if reach is None or one[0] in reach))
