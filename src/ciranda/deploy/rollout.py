"""Releases: a candidate goes through shadow and canary to live, or back, by its evidence alone.

`tick` is level-triggered: it reads the row of each open rollout, counts the answers that arrived since, asks `evidence.decide`, and
writes position, evidence and reason in one transaction. It keeps nothing in memory and may run anywhere, any number of times, late
or twice: of two that looked at the same state one writes. Where the traffic goes follows from the row (`routing`), and what runs
follows from it too (`apply.settle`), so a verb is one transaction and nothing has to be undone.

People are asked in two places: before any traffic when the model file says `approve` (as many as it says, `registry.admission`),
and when a stage stays undecided beyond `release.patience` (`held`: the split stays, harm still leads back by itself, only a person
goes on). At each step the gates are asked again: a version whose verdict or approvals do not stand any more is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from ciranda.config.model import Release
from ciranda.deploy import answers, apply, evidence, stages
from ciranda.deploy.answers import Reader, Watch
from ciranda.deploy.bets import Rules
from ciranda.deploy.evidence import Evidence, Step
from ciranda.deploy.stages import STARTING, Rollout
from ciranda.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from ciranda.evals import scorers
from ciranda.govern import audit
from ciranda.registry import admission, models, verdicts, versions
from ciranda.registry.models import Model
from ciranda.store import clock, ids
from ciranda.store.database import Database

READY_TIMEOUT_S = 300.0
ACTOR = "rollout"


@dataclass(frozen=True)
class Change:
    """What a verb did: which version answered before, which answers now, and whether it has a replica that is ready.

    Without one the version before goes on answering until it has.
    """

    model: str
    before: str
    after: str
    ready: bool
    at: str


# --- verbs: each one transaction; publish the routing afterwards -----------------------------------------------------


def start(conn: sa.Connection, candidate: str, *, turn: str = "", actor: str) -> Rollout:
    """Begin to release a version. The same candidate of the same turn again: the same rollout.

    Raises:
        Refused: Its gates did not pass and nobody overrode them, or somebody declined it.
        Conflict: Another rollout of the model is open, or there is no live version to compare with, or it is live itself.
    """
    version = versions.get(conn, candidate)
    models.lock(conn, version.model)
    for known in stages.of(conn, version.model):
        if turn and (known.candidate, known.turn) == (candidate, turn):
            return known
    gate = admission.standing(conn, candidate)
    if not gate.judged or gate.quorum.against:
        admission.demand(conn, candidate)
    champion = _champion(conn, version)
    release = models.get(conn, version.model).spec.release
    _demand_judge(release, version.model)
    versions.admit(conn, candidate, actor=actor)
    state: stages.State = "running" if gate.complete else "awaiting_approval"
    reason = "waiting for replicas" if gate.complete else _asked(gate)
    rollout = Rollout(
        id=ids.new("roll"), model=version.model, candidate=candidate, champion=champion, state=state, step=STARTING,
        stage="starting", stages=stages.plan(release), reason=reason, evidence={}, reading={}, e_values={}, revision=1,
        turn=turn, started_by=actor, started_at=clock.iso(), stage_at=clock.iso(), unready_at="", ended_at="",
    )  # fmt: skip
    stages.insert(conn, rollout)
    _audit(conn, rollout, "started", actor=actor)
    settle(conn, version.model, actor=actor)
    return rollout


def _asked(gate: admission.Admission) -> str:
    """Whose word a release waits for."""
    needed = gate.quorum.needed
    return "an approver has to say yes first" if needed == 1 else f"{needed} approvers have to say yes first"


def _demand_judge(release: Release, model: str) -> None:
    """Refuse a rollout that could never be decided."""
    if "quality" in release.judge_on and scorers.scorer(release.quality).needs_reference:
        raise Invalid(
            f"{release.quality} needs a reference answer, and live traffic has none",
            where=f"{model}: release.quality",
            remedy="choose valid_json, refusal, repetition, toxicity or pii_leak",
        )


def _champion(conn: sa.Connection, version: versions.Version) -> str:
    """The live version that the candidate is compared with."""
    live, other = versions.live(conn, version.model), stages.open_of(conn, version.model)
    if other is not None:
        raise Conflict(f"{other.candidate} is being released ({other.stage})", where=f"rollout {other.id}",
                       remedy=f"wait for its end, or `ciranda rollback {version.model}`")  # fmt: skip
    if live is None:
        raise Conflict(f"{version.model} has no live version to compare {version.ref} with", where="versions",
                       remedy=f"`ciranda promote {version.model}@0`, the bare base, first")  # fmt: skip
    if live.ref == version.ref:
        raise Conflict(f"{version.ref} is live already", where="versions", remedy="release another version")
    return live.ref


def approve(conn: sa.Connection, model: str, *, actor: str, note: str = "") -> Rollout:
    """A person says yes: to the begin of a rollout, or to the next stage of one that is held.

    Where the model file asks for several, the rollout goes on with the last of them.

    Raises:
        Conflict: Nothing waits for a person.
        Forbidden: The model file asks for others than the author.
        Refused: The verdict does not stand any more.
    """
    models.lock(conn, model)
    rollout = stages.open_of(conn, model)
    if rollout is None or rollout.state == "running":
        what = "is decided by its evidence" if rollout else "is not being released"
        raise Conflict(
            f"nothing of {model} waits for an approval: it {what}", where="rollouts", remedy="`ciranda approvals`"
        )
    gate = admission.say(conn, rollout.candidate, "approved", actor=actor, note=note)
    said = f"approved by {' and '.join(gate.quorum.by or (actor,))}" + (f": {note}" if note else "")
    if not gate.complete:
        after = stages.save(conn, replace(rollout, reason=gate.quorum.told))
        _audit(conn, replace(after, reason=said), "approved", actor=actor)
        return after
    versions.admit(conn, rollout.candidate, actor=actor)
    if rollout.state == "awaiting_approval" or rollout.step == STARTING:
        after = stages.save(conn, replace(rollout, state="running", reason=said, stage_at=clock.iso()))
        _audit(conn, after, "approved", actor=actor)
        settle(conn, model, actor=actor)
        return after
    _audit(conn, replace(rollout, reason=said), "approved", actor=actor)
    return _advance(conn, replace(rollout, state="running"), said, actor=actor)


def decline(conn: sa.Connection, version: str, *, actor: str, note: str) -> admission.Admission:
    """A person says no to a version: its rollout ends, and it is refused until a new verdict asks people again.

    Raises:
        Conflict: It is live; a way back is a rollback.
        Refused: There is no verdict to say no to.
        Invalid: No note: whoever says no says why.
    """
    found = versions.get(conn, version)
    models.lock(conn, found.model)
    if found.stage in ("live", "retired"):
        raise Conflict(f"{version} is {found.stage}, there is nothing to decline", where="versions",
                       remedy=f"`ciranda rollback {found.model}` takes a live version back")  # fmt: skip
    if not note.strip():
        raise Invalid("a no needs a note", where=version, remedy="say what is wrong with the version")
    gate = admission.say(conn, version, "declined", actor=actor, note=note)
    rollout, reason = stages.open_of(conn, found.model), f"declined by {actor}: {note.strip()}"
    if rollout is not None and rollout.candidate == version:
        _end(conn, rollout, "rolled_back", reason, actor=actor)
    versions.move(conn, version, "refused", actor=actor, reason=reason)
    settle(conn, found.model, actor=actor)
    return gate


def promote(conn: sa.Connection, ref: str, *, actor: str, reason: str = "promoted by hand") -> Change:
    """Make a version live now, without (the rest of) a rollout; verdict and approvals are demanded all the same. Live
    already: no change.

    Raises:
        Refused: Its gates did not pass, or people are still to say yes, and nobody overrode them.
    """
    version = versions.get(conn, ref)
    models.lock(conn, version.model)
    if version.stage != "live":
        admission.demand(conn, ref)
    before = versions.live(conn, version.model)
    rollout = stages.open_of(conn, version.model)
    if rollout is not None:
        won = rollout.candidate == ref
        _end(conn, rollout, "promoted" if won else "rolled_back", reason if won else f"{ref} was promoted", actor=actor)
    _go_live(conn, ref, actor=actor, reason=reason)
    return _change(conn, version.model, before.ref if before else "", actor=actor)


def rollback(
    conn: sa.Connection, model: str, *, to: str | None = None, actor: str, reason: str = "rolled back by hand"
) -> Change:
    """Back to safety: end an open rollout, else make the version live that was so before (or `to`, which was live once).

    Raises:
        NotFound: There is nothing to go back to.
        Refused: `to` was never live, or live traffic has refuted it since.
    """
    models.get(conn, model)
    models.lock(conn, model)
    before, rollout = versions.live(conn, model), stages.open_of(conn, model)
    if rollout is not None:
        _end(conn, rollout, "rolled_back", reason, actor=actor)
    if to is not None or rollout is None:
        target = _demand_target(conn, model, versions.get(conn, to) if to else versions.previous(conn, model))
        _go_live(conn, target.ref, actor=actor, reason=reason)
    return _change(conn, model, before.ref if before else "", actor=actor)


def _demand_target(conn: sa.Connection, model: str, target: versions.Version | None) -> versions.Version:
    if target is None:
        raise NotFound(f"{model} has no earlier live version to go back to", where="version stages",
                       remedy=f"`ciranda promote {model}@<n>` with a version that passed its gates")  # fmt: skip
    if target.model != model:
        raise Refused(f"{target.ref} is no version of {model}", where="rollback", remedy=f"name a version {model}@<n>")
    if not versions.was_live(conn, target.ref):
        raise Refused(f"{target.ref} is {target.stage} and was never live: that would be a release, not a way back",
                      where="rollback", remedy=f"`ciranda promote {target.ref}`")  # fmt: skip
    if not versions.returns(conn, target.ref):
        raise Refused(f"{target.ref} was refuted by live traffic since it was live: that would be a release, not a way back",
                      where="rollback", remedy=f"`ciranda evaluate {target.ref}`, then release it again")  # fmt: skip
    return target


def _go_live(conn: sa.Connection, ref: str, *, actor: str, reason: str) -> None:
    if versions.get(conn, ref).stage in ("candidate", "refused"):
        admission.demand(conn, ref)
        versions.admit(conn, ref, actor=actor)
    versions.move(conn, ref, "live", actor=actor, reason=reason)


def _change(conn: sa.Connection, model: str, before: str, *, actor: str) -> Change:
    settle(conn, model, actor=actor)
    now = versions.live(conn, model)
    after = now.ref if now else ""
    return Change(model, before, after, bool(after) and apply.ready(conn, after) > 0, clock.iso())


def settle(conn: sa.Connection, model: str, *, actor: str = ACTOR) -> None:
    """Bring deployments to what stages and rollouts say; changes nothing when they are there."""
    rollout = stages.open_of(conn, model)
    runs = rollout is not None and rollout.state in stages.WITH_TRAFFIC
    apply.settle(conn, model, candidate=rollout.candidate if rollout and runs else None, actor=actor)


# --- the look that repeats -------------------------------------------------------------------------------------------


def tick(db: Database, reader: Reader, *, now: datetime | None = None) -> list[Rollout]:
    """Look at every open rollout once; the rollouts that changed place or state. Publish the routing when there are any.

    Args:
        reader: The interactions, see `answers.Reader`.
        now: The moment of the look.
    """
    moment = now or clock.now()
    with db.reading() as conn:
        looks = [
            (one, models.get(conn, one.model), apply.ready(conn, one.candidate)) for one in stages.with_traffic(conn)
        ]
    moved = []
    for rollout, model, ready in looks:
        try:
            after = _look(db, reader, rollout, model, ready, moment)
        except (Unavailable, Conflict):
            continue  # the collector is down, or somebody else wrote first: the next look finds out more
        if (after.state, after.step) != (rollout.state, rollout.step):
            moved.append(after)
    return moved


def _look(db: Database, reader: Reader, rollout: Rollout, model: Model, ready: int, now: datetime) -> Rollout:
    if not ready:
        return _without_replicas(db, rollout, now)
    if rollout.step == STARTING:
        return _begin(db, reader, rollout, now)
    place = _ready_again(rollout, now) if rollout.unready_at else rollout
    rules = _rules(model.spec.release)
    known = Evidence.from_dict(place.evidence)
    look = answers.read(reader, _watch(place, model.spec.release), known, rules)
    step = evidence.decide(place.judged(), look.evidence, rules)
    written = place.evidence if look.evidence == known else look.evidence.to_dict()
    seen = replace(place, evidence=written, reading=look.watch.reading(), e_values=dict(step.e_values))
    with db.writing() as conn:
        return _act(conn, rollout, seen, step, late=_late(rollout, model.spec.release, now))


def _watch(rollout: Rollout, release: Release) -> Watch:
    reading = rollout.reading
    return Watch(
        rollout=rollout.id,
        model=rollout.model,
        candidate=rollout.candidate,
        shares=tuple((at, share) for at, share in reading["shares"]),
        latencies=tuple(reading.get("latencies", ())),
        latency_limit_ms=reading.get("latency_limit_ms", 0.0),
        score=answers.quality(release.quality),
    )


def _rules(release: Release) -> Rules:
    margins = {name: margin for name, margin in release.margins.items() if name in release.judge_on}
    return Rules.of(release.judge_on, {str(name): margin for name, margin in margins.items()})


def _begin(db: Database, reader: Reader, rollout: Rollout, now: datetime) -> Rollout:
    """The replicas are ready: enter the first stage, and read from here on. One that is held waits for a person."""
    if rollout.state == "held":
        return rollout
    cursors = answers.begin(reader)
    fresh = replace(rollout, evidence=Evidence(cursors=cursors).to_dict(), unready_at="")
    with db.writing() as conn:
        return _advance(conn, fresh, "its replicas are ready", actor=ACTOR, now=now)


def _act(conn: sa.Connection, before: Rollout, rollout: Rollout, step: Step, *, late: bool) -> Rollout:
    if step.action == "rollback":
        return _harmed(conn, rollout, step.reason)
    if rollout.state == "held":
        return _keep(conn, before, rollout)
    if step.action in ("advance", "promote"):
        return _advance(conn, rollout, step.reason, actor=ACTOR)
    if step.ask or late:
        held = stages.save(conn, replace(rollout, state="held", reason=f"a person has to decide: {step.reason}"))
        _audit(conn, held, "held", actor=ACTOR)
        return held
    return _keep(conn, before, replace(rollout, reason=step.reason))


def _keep(conn: sa.Connection, before: Rollout, after: Rollout) -> Rollout:
    """Write what was counted, if anything was."""
    return after if after == before else stages.save(conn, after)


def _advance(conn: sa.Connection, rollout: Rollout, reason: str, *, actor: str, now: datetime | None = None) -> Rollout:
    """Enter the next stage; when that is all of the traffic, the candidate is live and the rollout has ended.

    The gates are asked again, since a verdict or the model file may have changed meanwhile.
    """
    if barrier := admission.standing(conn, rollout.candidate).barrier:
        held = stages.save(conn, replace(rollout, state="held", reason=f"a person has to decide: {barrier}"))
        _audit(conn, held, "held", actor=ACTOR)
        return held
    if rollout.next() == "full":
        whole = replace(rollout, step=rollout.step + 1, stage=rollout.stages[rollout.step + 1]["name"])
        ended = _end(conn, whole, "promoted", reason, actor=actor)
        _go_live(conn, rollout.candidate, actor=actor, reason=reason)
        settle(conn, rollout.model, actor=actor)
        return ended
    moment = now or clock.now()
    entered = replace(rollout, reason=reason).entered(at=clock.iso(moment), at_ms=round(moment.timestamp() * 1000))
    after = stages.save(conn, entered)
    _audit(conn, after, "advanced", actor=actor)
    return after


def _harmed(conn: sa.Connection, rollout: Rollout, reason: str) -> Rollout:
    """The evidence is against the candidate: it goes back, and its earlier verdict no longer opens the door."""
    ended = _end(conn, rollout, "rolled_back", reason, actor=ACTOR)
    verdicts.refute(conn, rollout.candidate, champion=rollout.champion, note=reason, actor=ACTOR, turn=rollout.turn)
    if versions.get(conn, rollout.candidate).stage == "approved":
        versions.move(conn, rollout.candidate, "refused", actor=ACTOR, reason=reason)
    settle(conn, rollout.model)
    return ended


def _without_replicas(db: Database, rollout: Rollout, now: datetime) -> Rollout:
    """No replica of the candidate answers: its traffic goes to the champion by itself; after a while it is given up."""
    since = (
        clock.parse(rollout.unready_at or rollout.stage_at) if rollout.step == STARTING or rollout.unready_at else now
    )
    if (now - since).total_seconds() > READY_TIMEOUT_S:
        reason = f"no replica of {rollout.candidate} became ready within {READY_TIMEOUT_S:g} s"
        with db.writing() as conn:
            ended = _end(conn, rollout, "rolled_back", reason, actor=ACTOR)
            settle(conn, rollout.model)
            return ended
    if rollout.unready_at or rollout.step == STARTING:
        return rollout
    shares = [*rollout.reading["shares"], [round(now.timestamp() * 1000), 0.0]]
    gone = replace(rollout, unready_at=clock.iso(now), reading={**rollout.reading, "shares": shares})
    with db.writing() as conn:
        return stages.save(conn, replace(gone, reason="waiting for the candidate's replicas; the champion answers all"))


def _ready_again(rollout: Rollout, now: datetime) -> Rollout:
    share = rollout.percent / 100 if rollout.kind == "canary" else 0.0
    shares = [*rollout.reading["shares"], [round(now.timestamp() * 1000), share]]
    return replace(rollout, unready_at="", reading={**rollout.reading, "shares": shares})


def _late(rollout: Rollout, release: Release, now: datetime) -> bool:
    return (now - clock.parse(rollout.stage_at)).total_seconds() > release.patience


def _end(conn: sa.Connection, rollout: Rollout, state: stages.State, reason: str, *, actor: str) -> Rollout:
    ended = stages.save(conn, replace(rollout, state=state, reason=reason, ended_at=clock.iso()))
    _audit(conn, ended, state, actor=actor)
    return ended


def _audit(conn: sa.Connection, rollout: Rollout, what: str, *, actor: str) -> None:
    detail = {
        "rollout": rollout.id, "champion": rollout.champion, "stage": rollout.stage, "reason": rollout.reason,
        "e_values": rollout.e_values, "turn": rollout.turn,
    }  # fmt: skip
    audit.record(conn, actor=actor, action=f"rollout.{what}", subject=rollout.candidate, detail=detail)
