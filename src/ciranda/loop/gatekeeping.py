"""What people decide at a version's gate, and what waits for them.

    approve, decline   a person's yes or no to the verdict in force (`registry.admission`)
    release            begin a rollout by hand: for a version that was brought in, or whose turn was refused and is judged anew
    override           an admin lets a version pass in an emergency: a note, an audit event and a critical alert

Each is one short transaction, then routing. None of them puts a version in front of users by itself that its gates keep in, but an
override, which says so loudly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.deploy import rollout, routing, stages
from ciranda.errors import Conflict
from ciranda.loop.platform import Platform
from ciranda.monitor import alerts
from ciranda.registry import admission, aliases, models, verdicts, versions
from ciranda.registry.admission import Admission


@dataclass(frozen=True)
class Waiting:
    """One thing that waits for people.

    Args:
        kind: `approval` (nothing was released yet), `release` (a rollout waits for its begin) or `held` (one is undecided).
        passed: Gates that passed, `of` how many.
        needed: How many people have to say yes; `by` who did.
        authors: Whose yes does not count; empty where everybody's does.
    """

    kind: str
    model: str
    version: str
    since: str
    reason: str
    passed: int
    of: int
    needed: int
    by: tuple[str, ...]
    authors: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As the REST API sends it."""
        return asdict(self)


def approve(platform: Platform, model: str, actor: str, note: str = "", version: str = "") -> dict[str, Any]:
    """A person says yes to what waits for one: the model's release, or a version that is named.

    Raises:
        Conflict: Nothing waits for a person.
        Forbidden: The model file asks for others than the author.
        Refused: Its gates did not pass.
    """
    with platform.db.writing() as conn:
        ref = aliases.resolve(conn, version) if version else ""
        open_ = stages.open_of(conn, model)
        if ref and (open_ is None or open_.candidate != ref):
            models.lock(conn, model)
            gate = admission.say(conn, ref, "approved", actor=actor, note=note)
            found = versions.admit(conn, ref, actor=actor)
            told = {"rollout": "", "candidate": ref, "state": found.stage, "stage": ""}
        else:
            after = rollout.approve(conn, model, actor=actor, note=note)
            gate = admission.standing(conn, after.candidate)
            told = {"rollout": after.id, "candidate": after.candidate, "state": after.state, "stage": after.stage}
    routing.taken(platform.home, routing.refresh(platform.db, platform.home))
    return {**told, "approvals": gate.quorum.told}


def decline(platform: Platform, model: str, actor: str, note: str, version: str = "") -> dict[str, Any]:
    """A person says no: the release ends, and the version is refused until a new verdict asks people again.

    Raises:
        Conflict: Nothing waits for a person, or the version is live.
        Invalid: No note.
    """
    with platform.db.writing() as conn:
        open_ = stages.open_of(conn, model)
        if not version and open_ is None:
            raise Conflict(f"nothing of {model} waits for a person", where="rollouts", remedy="`ciranda approvals`")
        ref = aliases.resolve(conn, version) if version or open_ is None else open_.candidate
        gate = rollout.decline(conn, ref, actor=actor, note=note)
    routing.taken(platform.home, routing.refresh(platform.db, platform.home))
    return {"candidate": ref, "state": "refused", "approvals": gate.quorum.told}


def release(platform: Platform, version: str, actor: str) -> dict[str, Any]:
    """Begin to release a version by hand: shadow, canary, all, by its evidence.

    Raises:
        Refused: Its gates did not pass and nobody overrode them.
        Conflict: Another rollout is open, or it is live.
    """
    with platform.db.writing() as conn:
        begun = rollout.start(conn, aliases.resolve(conn, version), actor=actor)
    routing.taken(platform.home, routing.refresh(platform.db, platform.home))
    return begun.to_dict()


def override(platform: Platform, version: str, *, actor: str, role: str, note: str) -> dict[str, Any]:
    """An admin lets a version pass its gates and approvals, in an emergency. It is not live by that: promote or release it.

    Raises:
        Forbidden: The role may not.
        Invalid: No note.
    """
    with platform.db.writing() as conn:
        ref = aliases.resolve(conn, version)
        found = versions.get(conn, ref)
        before = admission.standing(conn, ref)
        ruling = verdicts.override(conn, ref, actor=actor, role=role, note=note)
        alerts.raise_(
            conn, f"override:{ref}:{ruling.id}", model=found.model, kind="override", severity="critical",
            title=f"{actor} let {ref} past its gates: {note.strip()[:300]}",
            body={"version": ref, "actor": actor, "note": note.strip(), "barrier": before.barrier},
            targets=models.get(conn, found.model).spec.alerts, actor=actor,
        )  # fmt: skip
        after = versions.admit(conn, ref, actor=actor)
    return {"version": ref, "stage": after.stage, "verdict": ruling.id, "overrode": before.barrier}


def waiting(platform: Platform, reaches: Callable[[str], bool]) -> list[Waiting]:
    """What waits for people, the oldest first: releases at their begin or held, and versions that lack approvals."""
    with platform.db.reading() as conn:
        names = [model.name for model in models.every(conn) if reaches(model.name)]
        found = [one for name in names for one in _waiting(conn, name)]
    return sorted(found, key=lambda one: (one.since, one.version))


def _waiting(conn: sa.Connection, model: str) -> list[Waiting]:
    open_ = stages.open_of(conn, model)
    found = []
    if open_ is not None and open_.state != "running":
        kind = "held" if open_.state == "held" else "release"
        gate = admission.standing(conn, open_.candidate)
        found.append(_told(kind, gate, open_.stage_at or open_.started_at, open_.reason))
    for version in versions.of(conn, model):
        if version.stage == "candidate" and (open_ is None or open_.candidate != version.ref):
            gate = admission.standing(conn, version.ref)
            if gate.judged and not gate.complete and not gate.quorum.against and gate.ruling:
                found.append(_told("approval", gate, gate.ruling.at, gate.quorum.told))
    return found


def _told(kind: str, gate: Admission, since: str, reason: str) -> Waiting:
    gates = gate.ruling.gates if gate.ruling else []
    passed = sum(one["outcome"] == "pass" for one in gates)
    barred = gate.quorum.authors if gate.quorum.not_author else ()
    return Waiting(
        kind, gate.version.rpartition("@")[0], gate.version, since, reason, passed, len(gates), gate.quorum.needed,
        gate.quorum.by, barred,
    )  # fmt: skip
