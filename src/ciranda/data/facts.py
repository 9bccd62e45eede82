"""What policies decide by: the names, tags, terms and sensitivity of a dataset, and of every dataset that it was made from.

A dataset inherits. Whoever derives a version from a restricted one, by a recipe, a branch or a gathering, gets the restrictions
along with the rows; what people say of the new dataset comes on top. A glossary term counts as the tag `term:<term>`, a field's
sensitivity as the tag `sensitivity:<word>`, so that a policy names all of them in one way.
"""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from ciranda.data import descriptions, glossary, tags
from ciranda.data.sources.runs import ingestions
from ciranda.data.versions import dataset_parents, dataset_versions, datasets
from ciranda.govern import policies
from ciranda.govern.policy import Facts

RECORD = "interactions"


def of(conn: sa.Connection, dataset: str) -> Facts:
    """The facts of one dataset, with all that it inherits."""
    names = sorted(lineage(conn, dataset))
    fields: dict[str, set[str]] = defaultdict(set)
    for by_field in tags.of_all(conn, names).values():
        for field, words in by_field.items():
            fields[field] |= set(words)
    for by_field in glossary.of_all(conn, names).values():
        for field, terms in by_field.items():
            fields[field] |= {f"term:{term}" for term in terms}
    levels: set[str] = set()
    for said in descriptions.of_all(conn, names).values():
        for field, one in said.items():
            if one.sensitivity and not field:
                levels.add(one.sensitivity)
            elif one.sensitivity:
                fields[field].add(f"sensitivity:{one.sensitivity}")
    own = fields.pop("", set())
    return Facts(
        frozenset(names) | _recorded(conn, names),
        frozenset(own),
        frozenset(levels),
        {k: frozenset(v) for k, v in fields.items()},
    )


def _recorded(conn: sa.Connection, names: list[str]) -> set[str]:
    """`interactions`, when rows of one of these came from the record: by a source, gathered, or from a queue of review.

    Which models' it were is not asked: what is said of any model's interactions (`interactions:<model>`) binds such a dataset.
    """
    fed = sa.select(ingestions.c.dataset).where(ingestions.c.dataset.in_(names), ingestions.c.kind == RECORD)
    text = sa.cast(dataset_versions.c.counts, sa.String)
    held = sa.or_(*(text.contains(f'"{source}') for source in (RECORD, "review")))
    made = sa.select(dataset_versions.c.dataset).where(dataset_versions.c.dataset.in_(names), held)
    if not any(conn.execute(query.limit(1)).first() for query in (fed, made)):
        return set()
    named = (name for one in policies.current(conn) for name in one.datasets.names)
    return {RECORD, *(name for name in named if name.startswith(f"{RECORD}:"))}


def lineage(conn: sa.Connection, dataset: str) -> set[str]:
    """The dataset and every one that a version of it was made from, however far back."""
    found, ahead = {dataset}, {dataset}
    while ahead:
        mine = sorted(ahead)
        parents = sa.select(dataset_parents.c.parent).where(dataset_parents.c.dataset.in_(mine)).distinct()
        origins = sa.select(datasets.c.branched_from).where(datasets.c.name.in_(mine))
        refs = [*conn.execute(parents).scalars(), *conn.execute(origins).scalars()]
        ahead = {str(ref).partition("@")[0] for ref in refs if ref} - found
        found |= ahead
    return found
