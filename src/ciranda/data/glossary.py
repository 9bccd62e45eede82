"""The glossary: what a word of the business means, who answers for it, what else it is called, and which data it describes.

Terms are in the words of whoever writes them; a term is found by its name or a synonym, whatever the case. A term stands on
datasets and fields as tags do, but it explains where a tag decides. A term that stands on something is not removed before it is
taken off there, so that no link leads nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.data import fields
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

NAME = re.compile(r"[^\s/\\\x00-\x1f](?:[^/\\\x00-\x1f]{0,78}[^\s/\\\x00-\x1f])?")
MOST_TEXT = 4000
MOST_SYNONYMS = 30
MOST_TERMS = 50  # on one dataset or field

glossary_terms = sa.Table(
    "glossary_terms",
    metadata,
    sa.Column("key", sa.String(160), primary_key=True),
    sa.Column("term", sa.String(80), nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("synonyms", sa.JSON, nullable=False),
    sa.Column("changed_at", sa.String(32), nullable=False),
    sa.Column("changed_by", sa.String(200), nullable=False),
)
data_terms = sa.Table(
    "data_terms",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("field", sa.String(120), primary_key=True),
    sa.Column("term", sa.String(160), sa.ForeignKey("glossary_terms.key"), primary_key=True, index=True),
)


@dataclass(frozen=True)
class Term:
    """One word of the glossary."""

    term: str
    definition: str
    owner: str = ""
    synonyms: tuple[str, ...] = ()
    changed_at: str = ""
    changed_by: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {**asdict(self), "synonyms": list(self.synonyms)}


def key_of(name: str) -> str:
    """How a term is told from another: case and runs of spaces do not count."""
    return " ".join(name.casefold().split())


def put(
    conn: sa.Connection, term: str, *, definition: str, owner: str = "", synonyms: Iterable[str] = (), actor: str
) -> Term:
    """Add a term, or say it anew. Raises Invalid, and Conflict when a name of it is already another term's."""
    names = [_name(one) for one in synonyms if one.strip()]
    made = Term(_name(term), definition.strip(), owner.strip()[:200], tuple(dict.fromkeys(names)), clock.iso(), actor)
    if not made.definition or len(made.definition) > MOST_TEXT:
        raise Invalid(
            f"the definition of {made.term!r} has {len(made.definition)} characters", where="definition",
            remedy=f"say in 1 to {MOST_TEXT} characters what the term means",
        )  # fmt: skip
    if len(made.synonyms) > MOST_SYNONYMS:
        raise Invalid(f"{len(made.synonyms)} synonyms", where="synonyms", remedy=f"give at most {MOST_SYNONYMS}")
    _refuse_taken(conn, made)
    values = {**made.to_dict(), "key": key_of(made.term)}
    changed = conn.execute(glossary_terms.update().where(glossary_terms.c.key == values["key"]).values(values))
    if not changed.rowcount:
        conn.execute(glossary_terms.insert().values(values))
    audit.record(
        conn, actor=actor, action="term.defined", subject=made.term, detail={"owner": made.owner, "synonyms": list(made.synonyms)}
    )  # fmt: skip
    return made


def remove(conn: sa.Connection, term: str, *, actor: str) -> None:
    """Take a term out of the glossary. Raises NotFound, and Conflict while it stands on data."""
    found = get(conn, term)
    held = uses(conn, found.term)
    if held:
        places = ", ".join(f"{dataset}{f':{field}' if field else ''}" for dataset, field in held[:5])
        raise Conflict(f"{found.term!r} stands on {places}", where="glossary", remedy="take it off there first")
    conn.execute(glossary_terms.delete().where(glossary_terms.c.key == key_of(found.term)))
    audit.record(conn, actor=actor, action="term.removed", subject=found.term)


def get(conn: sa.Connection, name: str) -> Term:
    """A term by its name or one of its synonyms. Raises NotFound."""
    key = key_of(name)
    row = conn.execute(sa.select(glossary_terms).where(glossary_terms.c.key == key)).mappings().first()
    if row is not None:
        return _term(row)
    for one in every(conn):
        if key in map(key_of, one.synonyms):
            return one
    raise NotFound(f"no term {name[:80]!r}", where="glossary", remedy="`ciranda glossary` lists them")


def every(conn: sa.Connection, *, after: str = "", limit: int | None = None) -> list[Term]:
    """The glossary by name, from the term after `after` on."""
    query = sa.select(glossary_terms).where(glossary_terms.c.key > key_of(after)).order_by(glossary_terms.c.key)
    return [_term(row) for row in conn.execute(query.limit(limit)).mappings()]


def link(conn: sa.Connection, dataset: str, field: str, terms: Iterable[str]) -> tuple[str, ...]:
    """Put these terms in place of those of a dataset or field; returns their names. Raises NotFound, Invalid."""
    fields.dataset(dataset), fields.field(field)
    found = {key_of(one.term): one.term for one in (get(conn, name) for name in terms)}
    if len(found) > MOST_TERMS:
        raise Invalid(
            f"{len(found)} terms", where="terms", remedy=f"at most {MOST_TERMS} stand on one dataset or field"
        )
    conn.execute(data_terms.delete().where(data_terms.c.dataset == dataset, data_terms.c.field == field))
    if found:
        conn.execute(data_terms.insert(), [{"dataset": dataset, "field": field, "term": key} for key in sorted(found)])
    return tuple(found[key] for key in sorted(found))


def of_all(conn: sa.Connection, datasets: Sequence[str] | None = None) -> dict[str, dict[str, tuple[str, ...]]]:
    """The terms on these datasets (on all, without any), by dataset and field."""
    joined = data_terms.join(glossary_terms, glossary_terms.c.key == data_terms.c.term)
    query = sa.select(data_terms.c.dataset, data_terms.c.field, glossary_terms.c.term).select_from(joined)
    if datasets is not None:
        query = query.where(data_terms.c.dataset.in_(datasets))
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for row in conn.execute(query.order_by(data_terms.c.dataset, data_terms.c.field, data_terms.c.term)):
        by_field = found.setdefault(row.dataset, {})
        by_field[row.field] = (*by_field.get(row.field, ()), row.term)
    return found


def uses(conn: sa.Connection, term: str) -> list[tuple[str, str]]:
    """The datasets and fields that a term stands on."""
    query = sa.select(data_terms.c.dataset, data_terms.c.field).where(data_terms.c.term == key_of(term))
    return [(row.dataset, row.field) for row in conn.execute(query.order_by(data_terms.c.dataset, data_terms.c.field))]


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{text[:100]!r} is no name for a term", where="glossary", remedy="1 to 80 characters, without / or \\"
        )
    return name


def _refuse_taken(conn: sa.Connection, made: Term) -> None:
    """No name leads to two terms."""
    mine, own = {key_of(made.term), *map(key_of, made.synonyms)}, key_of(made.term)
    for other in every(conn):
        if key_of(other.term) == own:
            continue
        if taken := mine & {key_of(other.term), *map(key_of, other.synonyms)}:
            raise Conflict(
                f"{min(taken)!r} already means {other.term!r}", where="glossary",
                remedy=f"choose another name, or change the term {other.term!r}",
            )  # fmt: skip


def _term(row: sa.RowMapping) -> Term:
    values = {name: row[name] for name in Term.__dataclass_fields__}
    return Term(**{**values, "synonyms": tuple(row["synonyms"])})
