"""The policies of this installation: stored by name, each change a new revision, each revision in the audit log.

A few are there from the start (`DEFAULTS`); setting one of the same name replaces it, removing it takes it away for good.
Nothing is edited: what was in force at a moment can be read from the revisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from ciranda.errors import Invalid, NotFound
from ciranda.govern import audit
from ciranda.govern.policy import Policy
from ciranda.store import clock
from ciranda.store.database import Database, metadata

BUILT_IN = "ciranda"  # who wrote the defaults

policies = sa.Table(
    "policies",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("body", sa.JSON(none_as_null=True)),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)

DEFAULTS = tuple(
    Policy.model_validate(one)
    for one in (
        {
            "policy": "people-are-hashed",
            "effect": "hash",
            "why": "Who wrote a row is needed to tell people apart and to erase them, not to know them.",
            "who": {"except": {"roles": ["admin"]}},
            "purposes": ["training", "evaluation", "viewing", "export", "monitoring"],
            "fields": {"names": ["subject"]},
        },
        {
            "policy": "personal-fields-are-masked",
            "effect": "mask",
            "why": "A field that the catalogue calls personal is seen by those who work on it.",
            "who": {"except": {"roles": ["admin"]}},
            "purposes": ["viewing", "export"],
            "fields": {"tags": ["pii", "sensitivity:personal"]},
        },
        {
            "policy": "personal-data-stays-inside",
            "effect": "deny",
            "why": "A dataset that the catalogue calls personal leaves the house by an admin's hand alone.",
            "who": {"except": {"roles": ["admin"]}},
            "purposes": ["export"],
            "datasets": {"sensitivity": ["personal"]},
        },
    )
)


def read(value: Mapping[str, Any], *, where: str = "policy") -> Policy:
    """A policy from what somebody wrote. Raises Invalid with the place and what would be right."""
    try:
        return Policy.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise Invalid(
            f"{place + ': ' if place else ''}{said} (got {str(first['input'])[:100]!r})",
            where=where,
            remedy="docs/governance.md shows a policy of each kind",
        ) from None


def put(conn: sa.Connection, policy: Policy, *, actor: str) -> int:
    """Put a policy in force in place of the one of its name; returns its revision. The same again changes nothing."""
    newest = _newest(conn, policy.policy)
    if newest is not None and newest.body == policy.to_dict():
        return int(newest.revision)
    return _add(conn, policy.policy, policy.to_dict(), newest.revision + 1 if newest else 1, actor)


def remove(conn: sa.Connection, name: str, *, actor: str) -> int:
    """Take a policy out of force. Raises NotFound when none of that name is in force."""
    if not any(one.policy == name for one in current(conn)):
        raise NotFound(f"no policy {name!r} is in force", where="policies", remedy="`ciranda policy` lists them")
    newest = _newest(conn, name)
    return _add(conn, name, None, newest.revision + 1 if newest else 1, actor)


def current(conn: sa.Connection) -> tuple[Policy, ...]:
    """The policies in force, by name: what was set, and the defaults that nobody replaced or removed."""
    held = {policy.policy: policy for policy in DEFAULTS}
    for row in conn.execute(sa.select(policies).order_by(policies.c.name, policies.c.revision)):
        held.pop(row.name, None)
        if row.body is not None:
            held[row.name] = Policy.model_validate(row.body)
    return tuple(held[name] for name in sorted(held))


def listing(database: Database) -> list[dict[str, Any]]:
    """The policies in force with their revision, since when, and by whom."""
    with database.reading() as conn:
        rows = conn.execute(sa.select(policies).order_by(policies.c.name, policies.c.revision)).all()
        stored = {row.name: row for row in rows}
        return [
            {
                **one.to_dict(),
                "revision": stored[one.policy].revision if one.policy in stored else 0,
                "created_at": stored[one.policy].created_at if one.policy in stored else "",
                "created_by": stored[one.policy].created_by if one.policy in stored else BUILT_IN,
            }
            for one in current(conn)
        ]


def history(database: Database, name: str) -> list[dict[str, Any]]:
    """Every revision of a policy, newest first; a removed one has no body. Raises NotFound."""
    query = sa.select(policies).where(policies.c.name == name).order_by(policies.c.revision.desc())
    with database.reading() as conn:
        found = [dict(row._mapping) for row in conn.execute(query)]
    default = next((one for one in DEFAULTS if one.policy == name), None)
    if default is not None:
        body = default.to_dict()
        found.append({"name": name, "revision": 0, "body": body, "created_at": "", "created_by": BUILT_IN})
    if not found:
        raise NotFound(f"no policy {name!r}", where="policies", remedy="`ciranda policy` lists them")
    return found


def _newest(conn: sa.Connection, name: str) -> Any:
    query = sa.select(policies).where(policies.c.name == name).order_by(policies.c.revision.desc())
    return conn.execute(query.limit(1)).first()


def _add(conn: sa.Connection, name: str, body: dict[str, Any] | None, revision: int, actor: str) -> int:
    conn.execute(
        policies.insert().values(name=name, revision=revision, body=body, created_at=clock.iso(), created_by=actor)
    )
    action = "policy.set" if body else "policy.removed"
    audit.record(conn, actor=actor, action=action, subject=name, detail={"revision": revision, "policy": body or {}})
    return revision
