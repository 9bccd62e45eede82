"""Whether a version may go live: its newest verdict passed, and as many people said yes as its model file asks for.

    verdict   pass, by its gates                                        (`verdicts`)
    people    `release.approve: {people: n, not_author: true}`          (`approvals`)

This is the one question that every way to `approved` and `live` asks (`versions.move`), under the model file in force at that
moment. The bare base needs nobody's word, since there is nothing before it. An admin's override stands for both, with a name, a
note and an alert on it. There is no parameter that leaves the question out.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ciranda.errors import Forbidden, Refused
from ciranda.registry import approvals, models, verdicts
from ciranda.registry.approvals import Quorum, Said
from ciranda.registry.verdicts import Ruling

VERSIONS = sa.table("versions", *map(sa.column, ("model", "number", "created_by", "turn")))
TURNS = sa.table("turns", *map(sa.column, ("id", "asked_by")))


@dataclass(frozen=True)
class Admission:
    """How a version stands at its gate: the verdict in force, and what people said."""

    version: str
    ruling: Ruling | None
    quorum: Quorum

    @property
    def judged(self) -> bool:
        """Whether the verdict in force is a pass."""
        return self.ruling is not None and self.ruling.outcome == "pass"

    @property
    def complete(self) -> bool:
        """Whether it may go live."""
        return self.judged and self.quorum.complete

    @property
    def barrier(self) -> str:
        """What keeps it in, in one sentence; empty when nothing does."""
        if self.ruling is None:
            return "its gates were never judged"
        if not self.judged:
            return f"its gates said: {self.ruling.outcome}. {self.ruling.note}"
        return "" if self.quorum.complete else f"it has {self.quorum.told}"


def standing(conn: sa.Connection, version: str) -> Admission:
    """How a version stands, by the verdict and the model file in force now."""
    ruling = verdicts.newest(conn, version)
    if ruling is None or ruling.kind in ("baseline", "override"):
        return Admission(version, ruling, Quorum(0))
    policy = models.get(conn, ruling.model).spec.release.approve
    said = approvals.on(conn, ruling.id)
    return Admission(version, ruling, approvals.quorum(policy, authors(conn, version), said))


def demand(conn: sa.Connection, version: str) -> Admission:
    """The admission that lets the version pass.

    Raises:
        Refused: Its gates did not pass, or people are still to say yes; says what is missing.
    """
    now = standing(conn, version)
    if now.complete:
        return now
    remedy = f"`ciranda evaluate {version}` has its gates judged; in an emergency an admin overrides, with a note"
    if now.judged:
        remedy = f"`ciranda approve {version}`, by somebody who may and is not its author"
    raise Refused(f"{version} may not be released: {now.barrier}", where="gates", remedy=remedy)


def say(conn: sa.Connection, version: str, said: Said, *, actor: str, note: str = "") -> Admission:
    """Keep a person's yes or no to the verdict in force; how the version stands afterwards.

    Raises:
        Refused: There is no verdict that passed, so there is nothing to say yes to.
        Forbidden: The model file asks for others than the author.
    """
    now = standing(conn, version)
    if now.ruling is None or (said == "approved" and not now.judged):
        raise Refused(f"{version} cannot be {said}: {now.barrier}", where="gates",
                      remedy=f"`ciranda evaluate {version}` first")  # fmt: skip
    if said == "approved" and now.quorum.bars(actor):
        raise Forbidden(
            f"{actor} asked for {version}, and its author's yes does not count", where="release.approve: not_author",
            remedy="ask another approver",
        )  # fmt: skip
    approvals.add(conn, version, now.ruling.id, said, actor=actor, note=note)
    return standing(conn, version)


def authors(conn: sa.Connection, version: str) -> tuple[str, ...]:
    """Whoever registered a version or brought it in, and whoever asked for the turn that made it."""
    model, _, number = version.rpartition("@")
    mine = (VERSIONS.c.model == model) & (VERSIONS.c.number == int(number))
    row = conn.execute(sa.select(VERSIONS.c.created_by, VERSIONS.c.turn).where(mine)).first()
    if row is None:
        return ()
    found = [str(row.created_by)]
    if row.turn and sa.inspect(conn).has_table("turns"):
        found += conn.execute(sa.select(TURNS.c.asked_by).where(TURNS.c.id == row.turn)).scalars().all()
    return tuple(dict.fromkeys(found))
