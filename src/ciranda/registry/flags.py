"""Model versions that learnt from somebody who has been erased since: flagged until a newer version without them is live.

What a model took from a row cannot be taken out of its weights. So every version that was trained on a dataset version which an
erasure wrote anew is flagged, and every version that went on from such a one's adapter. The flag of a version ends when it answers
nobody any more and a version that is not flagged does, or when somebody says why it may stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.govern import audit
from ciranda.registry import versions
from ciranda.registry.versions import Version
from ciranda.store import clock
from ciranda.store.database import metadata

retraining_flags = sa.Table(
    "retraining_flags",
    metadata,
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("erasure", sa.String(60), primary_key=True),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32)),
    sa.Column("ended_by", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


def touched(conn: sa.Connection, datasets: Iterable[str]) -> list[Version]:
    """Every version that was trained on one of these dataset versions, or goes on from one that was."""
    asked = set(datasets)
    every = [Version(**row._mapping) for row in conn.execute(sa.select(versions.versions))]
    every.sort(key=lambda one: (one.model, one.number))
    found: dict[str, Version] = {}
    for one in every:
        if one.dataset in asked or str(one.recipe.get("started_from", "")) in found:
            found[one.ref] = one
    return list(found.values())


def flag(conn: sa.Connection, erasure: str, touched_: Iterable[Version]) -> list[str]:
    """Flag versions for one erasure; doing it again changes nothing. Returns their names."""
    named = []
    for one in touched_:
        named.append(one.ref)
        mine = retraining_flags.c
        known = conn.execute(
            sa.select(mine.erasure).where(mine.model == one.model, mine.number == one.number, mine.erasure == erasure)
        ).first()
        if known is None:
            conn.execute(
                retraining_flags.insert().values(
                    model=one.model, number=one.number, erasure=erasure, dataset=one.dataset, at=clock.iso(),
                    ended_at=None, ended_by="", reason="",
                )
            )  # fmt: skip
            audit.record(conn, actor="loop", action="version.flagged", subject=one.ref, detail={"erasure": erasure})
    return named


def of(conn: sa.Connection, model: str = "", *, open_: bool = True) -> list[dict[str, Any]]:
    """Flags of a model (or of all), the oldest first."""
    query = sa.select(retraining_flags).order_by(
        retraining_flags.c.at, retraining_flags.c.model, retraining_flags.c.number
    )
    if model:
        query = query.where(retraining_flags.c.model == model)
    if open_:
        query = query.where(retraining_flags.c.ended_at.is_(None))
    return [dict(row._mapping) | {"ref": f"{row.model}@{row.number}"} for row in conn.execute(query)]


def keep(conn: sa.Connection, ref: str, *, reason: str, actor: str) -> None:
    """Say why a flagged version may stay. Raises NotFound when it is not flagged."""
    model, number = versions.split(ref)
    if not _end(conn, model, [number], actor=actor, reason=reason):
        raise NotFound(f"{ref} is not flagged", where="retraining flags", remedy="`ciranda erase flags` lists them")
    audit.record(conn, actor=actor, action="version.kept", subject=ref, detail={"reason": reason[:500]})


def gone(conn: sa.Connection, ref: str, *, actor: str) -> None:
    """End the flags of a version whose weights were removed: nobody can be answered from what it learnt."""
    model, number = versions.split(ref)
    _end(conn, model, [number], actor=actor, reason="its weights were removed")


def settle(conn: sa.Connection, model: str) -> list[str]:
    """End the flags of versions that a live one without a flag has taken the place of; returns their names."""
    live = versions.live(conn, model)
    open_ = {int(one["number"]) for one in of(conn, model)}
    if live is None or live.number in open_ or not open_:
        return []
    older = [number for number in open_ if number < live.number]
    if not older:
        return []
    _end(conn, model, older, actor="loop", reason=f"{live.ref} is live, which did not learn from them")
    for number in older:
        audit.record(
            conn, actor="loop", action="version.replaced", subject=f"{model}@{number}", detail={"by": live.ref}
        )
    return [f"{model}@{number}" for number in sorted(older)]


def _end(conn: sa.Connection, model: str, numbers: list[int], *, actor: str, reason: str) -> int:
    mine = (retraining_flags.c.model == model) & retraining_flags.c.number.in_(numbers)
    done = conn.execute(
        retraining_flags.update()
        .where(mine, retraining_flags.c.ended_at.is_(None))
        .values(ended_at=clock.iso(), ended_by=actor, reason=reason)
    )
    return int(done.rowcount)
