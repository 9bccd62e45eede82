"""What people said of a version at its gate: yes or no, each with a name and a note. Rows are only added.

A word is bound to the verdict that the person saw: a newer verdict asks everybody again. Of one person the newest word counts, and
a person is a name (case and width of letters set aside), so two keys of one name are one person. Whoever asked for the version,
registered it or brought it in is its author; where the model file says `not_author`, an author's yes is refused. One no is enough
to keep a version in.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.config.model import Approvals
from ciranda.govern import audit
from ciranda.store import clock, ids
from ciranda.store.database import metadata

Said = Literal["approved", "declined"]

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.String(80), nullable=False, index=True),
    sa.Column("verdict", sa.String(40), nullable=False),
    sa.Column("said", sa.String(20), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Word:
    """One row: what somebody said of a version, seeing a verdict."""

    sequence: int
    id: str
    model: str
    version: str
    verdict: str
    said: Said
    actor: str
    note: str
    at: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return asdict(self)


@dataclass(frozen=True)
class Quorum:
    """How far a version's approvals are.

    Args:
        needed: How many people have to say yes.
        by: Who did and counts, in the order of time; `against` who said no.
        authors: Who asked for the version; barred from it where `not_author` is set.
    """

    needed: int
    by: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    not_author: bool = False

    @property
    def complete(self) -> bool:
        """Whether people let it pass."""
        return not self.against and len(self.by) >= self.needed

    def bars(self, actor: str) -> bool:
        """Whether this person's yes would not count."""
        return self.not_author and person(actor) in map(person, self.authors)

    @property
    def told(self) -> str:
        """In words: who is for it, who against, how many are missing."""
        if self.against:
            return f"declined by {' and '.join(self.against)}"
        if not self.needed:
            return "needs no approval"
        named = f": {', '.join(self.by)}" if self.by else ""
        return f"{len(self.by)} of {self.needed} approvals{named}"


def quorum(policy: Approvals, authors: Iterable[str], words: Sequence[Word]) -> Quorum:
    """What words come to under a policy. Pure.

    Args:
        policy: `release.approve` of the model file.
        authors: Names of whoever made or asked for the version.
        words: What was said seeing the verdict in force, oldest first.
    """
    barred = {person(one) for one in authors} if policy.not_author else set()
    newest = {person(one.actor): one for one in words}
    said = sorted(newest.values(), key=lambda one: one.sequence)
    yes = tuple(one.actor for one in said if one.said == "approved" and person(one.actor) not in barred)
    no = tuple(one.actor for one in said if one.said == "declined")
    return Quorum(policy.people, yes, no, tuple(authors), policy.not_author)


def person(name: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def add(conn: sa.Connection, version: str, verdict: str, said: Said, *, actor: str, note: str) -> None:
    """Keep what somebody said; the same word of the same person on the same verdict is kept once."""
    newest = next((one for one in reversed(on(conn, verdict)) if person(one.actor) == person(actor)), None)
    if newest is not None and newest.said == said:
        return
    row = {
        "id": ids.new("word"), "model": version.rpartition("@")[0], "version": version, "verdict": verdict, "said": said,
        "actor": actor, "note": note.strip(), "at": clock.iso(),
    }  # fmt: skip
    conn.execute(approvals.insert().values(**row))
    detail = {"verdict": verdict, "note": note.strip()}
    audit.record(conn, actor=actor, action=f"version.{said}_by_person", subject=version, detail=detail)


def on(conn: sa.Connection, verdict: str) -> list[Word]:
    """What was said seeing a verdict, oldest first."""
    query = sa.select(approvals).where(approvals.c.verdict == verdict).order_by(approvals.c.sequence)
    return [Word(**row._mapping) for row in conn.execute(query)]


def of(conn: sa.Connection, version: str) -> list[Word]:
    """All that was ever said of a version, newest first."""
    query = sa.select(approvals).where(approvals.c.version == version).order_by(approvals.c.sequence.desc())
    return [Word(**row._mapping) for row in conn.execute(query)]
