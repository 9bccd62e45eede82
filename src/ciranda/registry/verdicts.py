"""Verdicts, and who may pass a gate: the only door to `approved` and `live`.

    judged      the gates looked at the evaluations: pass, fail or cannot tell, with their evidence
    baseline    version 0, the bare base: there was nothing to compare it with
    override    an approver let it pass all the same, with a note
    refuted     live evidence spoke against it in a rollout

Rows are only added. The newest one of a version counts, so a later failure closes the door again. There is no flag, setting or
parameter that leaves the check out; whoever must pass without a verdict leaves an override with a name on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.errors import Forbidden, Invalid, Refused
from ciranda.govern import audit
from ciranda.registry.gates import Outcome, Verdict
from ciranda.store import clock, ids
from ciranda.store.database import metadata

Kind = Literal["judged", "baseline", "override", "refuted"]
MAY_OVERRIDE = frozenset({"approver", "admin"})

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.String(80), nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("outcome", sa.String(20), nullable=False),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("champion", sa.String(80), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("turn", sa.String(200), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
)


@dataclass(frozen=True)
class Ruling:
    """One verdict as recorded. `gates` holds each gate with both values, interval and n."""

    sequence: int
    id: str
    model: str
    version: str
    kind: Kind
    outcome: Outcome
    gates: list[dict[str, Any]]
    champion: str
    note: str
    turn: str
    actor: str
    at: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return dict(self.__dict__)


def record(conn: sa.Connection, version: str, verdict: Verdict, *, champion: str, actor: str, turn: str = "") -> Ruling:
    """Keep what the gates said of a version. The same words for the same turn are kept once."""
    gates = [gate.to_dict() for gate in verdict.gates]
    last = newest(conn, version)
    if turn and last and (last.turn, last.outcome, last.gates) == (turn, verdict.outcome, gates):
        return last
    note = verdict.reason
    return _add(
        conn, version, "judged", verdict.outcome, gates=gates, champion=champion, note=note, turn=turn, actor=actor
    )


def admit_base(conn: sa.Connection, version: str, *, actor: str) -> Ruling:
    """Let the bare base (number 0) pass; any other version is refused."""
    if not version.endswith("@0"):
        raise Refused(f"{version} is not the bare base", where="gates", remedy="have its gates judged")
    return _add(
        conn, version, "baseline", "pass", note="the bare base, with nothing before it to compare with", actor=actor
    )


def override(conn: sa.Connection, version: str, *, actor: str, role: str, note: str) -> Ruling:
    """Let a version pass by the word of an approver, on record.

    Raises:
        Forbidden: The role may not.
        Invalid: No note: whoever overrides says why.
    """
    if role not in MAY_OVERRIDE:
        raise Forbidden(f"{actor} ({role}) may not override a gate", where=version,
                        remedy=f"ask somebody with the role {' or '.join(sorted(MAY_OVERRIDE))}")  # fmt: skip
    if not note.strip():
        raise Invalid("an override needs a note", where=version, remedy="say why the version may pass all the same")
    return _add(conn, version, "override", "pass", note=note.strip(), actor=actor)


def refute(conn: sa.Connection, version: str, *, champion: str, note: str, actor: str, turn: str = "") -> Ruling:
    """Live evidence spoke against the version: its earlier verdict no longer opens the door."""
    return _add(conn, version, "refuted", "fail", champion=champion, note=note, actor=actor, turn=turn)


def demand(conn: sa.Connection, version: str) -> Ruling:
    """The ruling that lets the version pass.

    Raises:
        Refused: There is none, or the newest one is not a pass; says what the gates said.
    """
    last = newest(conn, version)
    if last is not None and last.outcome == "pass":
        return last
    said = f"its gates said: {last.outcome}. {last.note}" if last else "its gates were never judged"
    raise Refused(f"{version} may not be released: {said}", where="gates",
                  remedy=f"`ciranda evaluate {version}`; or an approver overrides, with a note")  # fmt: skip


def newest(conn: sa.Connection, version: str) -> Ruling | None:
    """The ruling that counts, if any."""
    found = of(conn, version)
    return found[0] if found else None


def of(conn: sa.Connection, version: str) -> list[Ruling]:
    """All rulings on a version, newest first."""
    query = sa.select(verdicts).where(verdicts.c.version == version).order_by(verdicts.c.sequence.desc())
    return [Ruling(**row._mapping) for row in conn.execute(query)]


def _add(
    conn: sa.Connection,
    version: str,
    kind: Kind,
    outcome: Outcome,
    *,
    actor: str,
    note: str,
    gates: list[dict[str, Any]] | None = None,
    champion: str = "",
    turn: str = "",
) -> Ruling:
    row: Mapping[str, Any] = {
        "id": ids.new("verdict"), "model": version.rpartition("@")[0], "version": version, "kind": kind, "outcome": outcome,
        "gates": gates or [], "champion": champion, "note": note, "turn": turn, "actor": actor, "at": clock.iso(),
    }  # fmt: skip
    conn.execute(verdicts.insert().values(**row))
    detail = {"outcome": outcome, "champion": champion, "note": note, "turn": turn}
    audit.record(conn, actor=actor, action=f"verdict.{kind}", subject=version, detail=detail)
    ruling = newest(conn, version)
    assert ruling is not None
    return ruling
