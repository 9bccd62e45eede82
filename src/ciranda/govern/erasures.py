"""Erasures: a person is forgotten, step by step, and a receipt says what went where.

    asked -> collect -> interactions -> datasets -> files -> records -> models -> proof -> done

The row shows at every moment which step it is in. `target` names the person and what was found of theirs for as long as the work
goes on, since a killed process has to go on with it; the last step takes it away. From then on the person is only a keyed hash,
`mark`: whoever asks again for the same person finds the receipt, whoever reads it learns nobody's name.
The receipt's digest is in the audit log, whose events name the mark and never the person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config import Home
from ciranda.errors import Invalid, NotFound
from ciranda.govern import audit, pseudonyms
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

STEPS = ("asked", "collect", "interactions", "datasets", "files", "records", "models", "proof", "done")
OPEN = STEPS[:-1]

erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("mark", sa.String(60), nullable=False, index=True),
    sa.Column("step", sa.String(20), nullable=False, index=True),
    sa.Column("target", sa.JSON(none_as_null=True)),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("receipt", sa.JSON(none_as_null=True)),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("waits", sa.String(300), nullable=False),
    sa.Column("asked_at", sa.String(32), nullable=False),
    sa.Column("asked_by", sa.String(200), nullable=False),
    sa.Column("ended_at", sa.String(32)),
)


@dataclass(frozen=True)
class Erasure:
    """One row. `counts` say what went, by step and store."""

    id: str
    mark: str
    step: str
    target: dict[str, Any] | None
    counts: dict[str, Any]
    receipt: dict[str, Any] | None
    digest: str
    waits: str
    asked_at: str
    asked_by: str
    ended_at: str | None

    @property
    def open(self) -> bool:
        return self.step in OPEN

    def to_dict(self) -> dict[str, Any]:
        """As it is shown: never with the person."""
        return {name: value for name, value in asdict(self).items() if name != "target"}


def mark_of(home: Home, subject: str) -> str:
    """The person as receipts know them."""
    return pseudonyms.hashed(pseudonyms.key_of(home), "erasure", subject)


def checked(subject: str) -> str:
    """The person's name as it is stored. Raises Invalid for one that says nothing."""
    name = subject.strip()
    if len(name) < 2 or len(name) > 256:
        raise Invalid(
            f"{len(name)} characters name nobody", where="subject",
            remedy="give the user's id, e-mail address or name as it stands in their interactions or rows",
        )  # fmt: skip
    return name


def ask(conn: sa.Connection, home: Home, subject: str, *, mentions: bool, actor: str) -> str:
    """Write the row that begins an erasure; one of this person that is under way is that one. Returns its id."""
    name = checked(subject)
    mark = mark_of(home, name)
    open_ = sa.select(erasures.c.id).where(erasures.c.mark == mark, erasures.c.step != "done")
    if found := conn.execute(open_).scalar():
        return str(found)
    identifier = ids.new("erasure")
    conn.execute(
        erasures.insert().values(
            id=identifier, mark=mark, step="asked", target={"subject": name, "mentions": mentions}, counts={}, receipt=None,
            digest="", waits="the leader", asked_at=clock.iso(), asked_by=actor, ended_at=None,
        )
    )  # fmt: skip
    audit.record(conn, actor=actor, action="erasure.asked", subject=identifier, detail={"mark": mark})
    return identifier


def get(conn: sa.Connection, identifier: str) -> Erasure:
    """One erasure. Raises NotFound."""
    row = conn.execute(sa.select(erasures).where(erasures.c.id == identifier)).first()
    if row is None:
        raise NotFound(f"no erasure {identifier!r}", where="erasures", remedy="`ciranda erase list` shows them")
    return Erasure(**row._mapping)


def at(conn: sa.Connection, *steps: str) -> list[Erasure]:
    """Those that are in one of these steps, the oldest first."""
    query = sa.select(erasures).where(erasures.c.step.in_(steps)).order_by(erasures.c.id)
    return [Erasure(**row._mapping) for row in conn.execute(query)]


def page(db: Database, *, before: str = "", mark: str = "", limit: int = 50) -> list[Erasure]:
    """Erasures, newest first; `before` is the id of the last one seen, `mark` a person's."""
    query = sa.select(erasures).order_by(erasures.c.id.desc()).limit(limit)
    if before:
        query = query.where(erasures.c.id < before)
    if mark:
        query = query.where(erasures.c.mark == mark)
    with db.reading() as conn:
        return [Erasure(**row._mapping) for row in conn.execute(query)]


def begun(conn: sa.Connection) -> int:
    """How many erasures ever were: gateways drop what they keep when it rises."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(erasures)).scalar() or 0)


def go_on(
    conn: sa.Connection, identifier: str, step: str, *, found: Mapping[str, Any] | None = None,
    counts: Mapping[str, Any] | None = None, waits: str = "Ciranda",
) -> None:  # fmt: skip
    """Move to a step. `counts` are what the step before took away, `found` what later steps need to know."""
    now = get(conn, identifier)
    values: dict[str, Any] = {"step": step, "waits": waits}
    if counts is not None:
        values["counts"] = {**now.counts, **counts}
    if found is not None:
        values["target"] = {**(now.target or {}), **found}
    conn.execute(erasures.update().where(erasures.c.id == identifier).values(values))


def finish(conn: sa.Connection, identifier: str, receipt: Mapping[str, Any]) -> str:
    """Issue the receipt and forget the person; returns the receipt's digest, which the audit log keeps."""
    now = get(conn, identifier)
    if not now.open:
        return now.digest
    whole = dict(receipt)
    digest = digest_of(whole)
    conn.execute(
        erasures.update()
        .where(erasures.c.id == identifier)
        .values(step="done", target=None, receipt=whole, digest=digest, waits="nobody", ended_at=clock.iso())
    )
    audit.record(conn, actor="loop", action="erasure.done", subject=identifier,
                 detail={"mark": now.mark, "receipt": digest, "counts": now.counts})  # fmt: skip
    return digest


def digest_of(receipt: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical receipt: whoever holds a copy can compare it with the audit log."""
    text = json.dumps(dict(receipt), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
