"""Verdicts: what gates said of a version, and the only ways past them.

    judged      the gates looked at the evaluations: pass, fail or cannot tell, with their evidence
    baseline    version 0, the bare base: there was nothing to compare it with
    override    an admin let it pass all the same, in an emergency, with a note
    refuted     live evidence spoke against it in a rollout, or a person did

Rows are only added. The newest one of a version counts, so a later failure closes the door again. There is no flag, setting or
parameter that leaves the check out; whoever must pass without a verdict leaves an override with a name on it. `evidence` names what
a verdict stands on: the evaluations by version and suite, and the generation of the model file whose gates were held.
"""

from __future__ import annotations

import json
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
MAY_OVERRIDE = frozenset({"admin"})

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
    sa.Column("evidence", sa.JSON, nullable=False),
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
    evidence: dict[str, Any]
    champion: str
    note: str
    turn: str
    actor: str
    at: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return dict(self.__dict__)


def record(
    conn: sa.Connection,
    version: str,
    verdict: Verdict,
    *,
    champion: str,
    actor: str,
    turn: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> Ruling:
    """Keep what the gates said of a version. The same words on the same evidence for the same turn are kept once."""
    gates: list[dict[str, Any]] = json.loads(json.dumps([gate.to_dict() for gate in verdict.gates]))
    stands_on = dict(evidence or {})
    last = newest(conn, version)
    known = (last.turn, last.outcome, last.gates, last.evidence, last.kind) if last else ()
    if last and (turn or stands_on) and known == (turn, verdict.outcome, gates, stands_on, "judged"):
        return last
    return _add(
        conn, version, "judged", verdict.outcome, gates=gates, champion=champion, note=verdict.reason, turn=turn,
        actor=actor, evidence=stands_on,
    )  # fmt: skip


def admit_base(conn: sa.Connection, version: str, *, actor: str) -> Ruling:
    """Let the bare base (number 0) pass; any other version is refused."""
    if not version.endswith("@0"):
        raise Refused(f"{version} is not the bare base", where="gates", remedy="have its gates judged")
    return _add(
        conn, version, "baseline", "pass", note="the bare base, with nothing before it to compare with", actor=actor
    )


def override(conn: sa.Connection, version: str, *, actor: str, role: str, note: str) -> Ruling:
    """Let a version pass by the word of an admin, on record: it stands for the gates and for the approvals.

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


def newest(conn: sa.Connection, version: str) -> Ruling | None:
    """The ruling that counts, if any."""
    row = conn.execute(_of(version).limit(1)).first()
    return Ruling(**row._mapping) if row else None


def of(conn: sa.Connection, version: str) -> list[Ruling]:
    """All rulings on a version, newest first."""
    return [Ruling(**row._mapping) for row in conn.execute(_of(version))]


def _of(version: str) -> sa.Select[Any]:
    return sa.select(verdicts).where(verdicts.c.version == version).order_by(verdicts.c.sequence.desc())


def _add(
    conn: sa.Connection,
    version: str,
    kind: Kind,
    outcome: Outcome,
    *,
    actor: str,
    note: str,
    gates: list[dict[str, Any]] | None = None,
    evidence: Mapping[str, Any] | None = None,
    champion: str = "",
    turn: str = "",
) -> Ruling:
    row: Mapping[str, Any] = {
        "id": ids.new("verdict"), "model": version.rpartition("@")[0], "version": version, "kind": kind, "outcome": outcome,
        "gates": gates or [], "evidence": dict(evidence or {}), "champion": champion, "note": note, "turn": turn,
        "actor": actor, "at": clock.iso(),
    }  # fmt: skip
    conn.execute(verdicts.insert().values(**row))
    detail = {"outcome": outcome, "champion": champion, "note": note, "turn": turn}
    audit.record(conn, actor=actor, action=f"verdict.{kind}", subject=version, detail=detail)
    ruling = newest(conn, version)
    assert ruling is not None
    return ruling
