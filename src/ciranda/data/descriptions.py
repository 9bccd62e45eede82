"""What people say of a dataset and of its fields: owner, description, purpose, licence, sensitivity, how fresh it should be.

All of it may change at any time and describes every version; what belongs to one version (digest, counts, checks) is the
version's own. A dataset may be described before its first commit. A change sets what it names and leaves the rest; it is one
transaction with the tags and terms that come along and with its audit event. Licences are SPDX expressions (`CC-BY-4.0`,
`MIT OR Apache-2.0`, `LicenseRef-Contract-12`), checked against the list of `packaging`, so that a card says something that a
machine can read. A field may say its own description and sensitivity; the rest is the dataset's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from ciranda.data import fields as names
from ciranda.data import glossary, tags
from ciranda.errors import Invalid
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

SENSITIVITIES = ("", "public", "internal", "confidential", "personal")
"""From the least to the most careful; nothing said is the first."""
MOST = {"owner": 200, "description": 4000, "purpose": 2000, "licence": 200}
OF_FIELDS = frozenset({"description", "sensitivity", "tags", "terms"})

data_descriptions = sa.Table(
    "data_descriptions",
    metadata,
    sa.Column("dataset", sa.String(63), primary_key=True),
    sa.Column("field", sa.String(120), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("licence", sa.String(200), nullable=False),
    sa.Column("sensitivity", sa.String(16), nullable=False),
    sa.Column("every_s", sa.Float, nullable=False),
    sa.Column("changed_at", sa.String(32), nullable=False),
    sa.Column("changed_by", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class Description:
    """What is said of a dataset or a field. `every_s` is how old its newest rows may be, in seconds; 0 is any age."""

    owner: str = ""
    description: str = ""
    purpose: str = ""
    licence: str = ""
    sensitivity: str = ""
    every_s: float = 0.0
    changed_at: str = ""
    changed_by: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """What to say from now on; None leaves what was said."""

    owner: str | None = None
    description: str | None = None
    purpose: str | None = None
    licence: str | None = None
    sensitivity: str | None = None
    every_s: float | None = None
    tags: Sequence[str] | None = None
    terms: Sequence[str] | None = None

    def given(self) -> dict[str, Any]:
        """Only what it sets."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}


def change(conn: sa.Connection, dataset: str, field: str, wanted: Change, *, actor: str) -> Description:
    """Say something new of a dataset (or of one of its fields); returns what holds now.

    Raises:
        Invalid: A value that cannot be, or one that only a dataset has.
        NotFound: A term that the glossary has not.
    """
    names.dataset(dataset), names.field(field)
    given = wanted.given()
    if field and (wrong := sorted(given.keys() - OF_FIELDS)):
        raise Invalid(f"a field has no {wrong[0]}", where=f"{dataset}:{field}", remedy="say it of the dataset")
    detail: dict[str, Any] = {"field": field} if field else {}
    if wanted.tags is not None:
        detail["tags"] = list(tags.put(conn, dataset, field, wanted.tags))
    if wanted.terms is not None:
        detail["terms"] = list(glossary.link(conn, dataset, field, wanted.terms))
    said = {name: _checked(name, value) for name, value in given.items() if name not in ("tags", "terms")}
    now = _put(conn, dataset, field, said, actor)
    if detail.keys() - {"field"} or said:
        audit.record(conn, actor=actor, action="dataset.described", subject=dataset, detail={**detail, **said})
    return now


def of(conn: sa.Connection, dataset: str) -> dict[str, Description]:
    """What is said of a dataset (under the empty name) and of its fields."""
    return of_all(conn, [dataset]).get(dataset, {})


def of_all(conn: sa.Connection, datasets: Sequence[str] | None = None) -> dict[str, dict[str, Description]]:
    """What is said of these datasets (of all, without any), by dataset and field."""
    query = sa.select(data_descriptions).order_by(data_descriptions.c.dataset, data_descriptions.c.field)
    if datasets is not None:
        query = query.where(data_descriptions.c.dataset.in_(datasets))
    found: dict[str, dict[str, Description]] = {}
    for row in conn.execute(query).mappings():
        said = Description(**{one.name: row[one.name] for one in fields(Description)})
        found.setdefault(row["dataset"], {})[row["field"]] = said
    return found


def licence(text: str) -> str:
    """An SPDX expression as SPDX writes it, empty for none. Raises Invalid."""
    if not text.strip():
        return ""
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        raise Invalid(
            f"{text[:80]!r} is no SPDX licence expression", where="licence",
            remedy="name one of spdx.org/licenses, such as CC-BY-4.0, or your own as LicenseRef-<name>",
        ) from None  # fmt: skip


def _put(conn: sa.Connection, dataset: str, field: str, said: dict[str, Any], actor: str) -> Description:
    before = of(conn, dataset).get(field)
    if not said:
        return before or Description()
    now = Description(**{**asdict(before or Description()), **said, "changed_at": clock.iso(), "changed_by": actor})
    mine = (data_descriptions.c.dataset == dataset) & (data_descriptions.c.field == field)
    if before is not None:
        conn.execute(data_descriptions.update().where(mine).values(**asdict(now)))
    else:
        conn.execute(data_descriptions.insert().values(dataset=dataset, field=field, **asdict(now)))
    return now


def _checked(name: str, value: Any) -> Any:
    if name == "every_s":
        return _age(value)
    text = str(value).strip()
    if name == "licence":
        text = licence(text)
    if name == "sensitivity" and text not in SENSITIVITIES:
        raise Invalid(
            f"{text[:40]!r} is no sensitivity",
            where="sensitivity",
            remedy=f"it is one of {', '.join(SENSITIVITIES[1:])}",
        )
    if len(text) > MOST.get(name, 16):
        raise Invalid(f"{name} has {len(text)} characters", where=name, remedy=f"use at most {MOST[name]}")
    return text


def _age(value: float) -> float:
    if not 0 <= value <= 10 * 366 * 86400:
        raise Invalid(
            f"every is {value:g} seconds", where="every", remedy="between a second and ten years, or 0 for any age"
        )
    return float(value)
