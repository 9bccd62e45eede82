"""All models at once: where each one is, what waits for a person, what was decided last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ciranda.deploy import stages
from ciranda.govern.audit import audit_events
from ciranda.loop import turns as loop_turns
from ciranda.loop.platform import Platform
from ciranda.loop.turns import Turn
from ciranda.monitor import alerts
from ciranda.registry import models, versions
from ciranda.registry.models import Model
from ciranda.web.load import alerts as told
from ciranda.web.load import release, turns
from ciranda.web.load.traffic import Rates, Traffic
from ciranda.web.views.fleet import STAGES, Chip, Column, Decision, Done, ModelRow

DECIDED = (
    "rollout.promoted", "rollout.rolled_back", "rollout.approved", "alert.acknowledged", "verdict.override", "version.live",
)  # fmt: skip
DRIFT_KINDS = ("drift", "quality", "feedback", "retrain")


@dataclass(frozen=True)
class Standing:
    """What is true of one model now."""

    model: Model
    live: str
    rollout: stages.Rollout | None
    turn: Turn | None
    alerts: tuple[alerts.Alert, ...]
    drifting: bool

    @property
    def turning(self) -> bool:
        """Whether the loop is at work on it."""
        return self.turn is not None and self.turn.state in loop_turns.OPEN

    @property
    def stage(self) -> str:
        """Where its newest version is in the loop."""
        if self.rollout is not None:
            return "gate" if self.rollout.state == "awaiting_approval" else "canary"
        if self.turning and self.turn is not None:
            return turns.stage_of(self.turn)
        if self.drifting:
            return "drift"
        return "live" if self.live else "data"

    @property
    def state(self) -> str:
        """In one word, worst first."""
        if any(alert.severity == "critical" for alert in self.alerts):
            return "bad"
        waits = self.rollout is not None and self.rollout.state in ("awaiting_approval", "held")
        if waits or self.alerts or (self.turn is not None and self.turn.state == "failed"):
            return "warn"
        return "now" if self.turning or self.rollout is not None else "ok"

    @property
    def candidate(self) -> str:
        """The version on its way, if there is one."""
        if self.rollout is not None:
            return self.rollout.candidate
        return (self.turn.version or "") if self.turning and self.turn is not None else ""

    @property
    def since(self) -> str:
        if self.rollout is not None:
            return self.rollout.stage_at or self.rollout.started_at
        return (self.turn.started_at or self.turn.asked_at) if self.turn is not None else ""


def standings(platform: Platform, reach: Sequence[str]) -> list[Standing]:
    """Every model that the key reaches, in one consistent view."""
    with platform.db.reading() as conn:
        found = [model for model in models.every(conn) if "*" in reach or model.name in reach]
        fired = alerts.page(conn, state="open", limit=alerts.LARGEST_PAGE)
        return [_standing(conn, model, [one for one in fired if one.model == model.name]) for model in found]


def standing(platform: Platform, name: str) -> Standing:
    """One model. Raises NotFound."""
    with platform.db.reading() as conn:
        model = models.get(conn, name)
        return _standing(conn, model, alerts.page(conn, model=name, state="open", limit=100))


def _standing(conn: sa.Connection, model: Model, fired: Sequence[alerts.Alert]) -> Standing:
    live, table = versions.live(conn, model.name), loop_turns.turns
    query = sa.select(table).where(table.c.model == model.name).order_by(table.c.asked_at.desc()).limit(1)
    row = conn.execute(query).first()
    drifting = any(alert.kind in DRIFT_KINDS for alert in fired)
    return Standing(
        model, live.ref if live else "", stages.open_of(conn, model.name), Turn(**row._mapping) if row else None, tuple(fired),
        drifting,
    )  # fmt: skip


def rows(platform: Platform, traffic: Traffic, reach: Sequence[str], drift: dict[str, float]) -> tuple[ModelRow, ...]:
    """The list of models. `drift` is how much of its limit each has used."""
    found = standings(platform, reach)
    rates = traffic.rates([one.model.name for one in found])
    return tuple(
        row_of(one, rates.get(one.model.name, Rates()), drift.get(one.model.name), traffic.spark(one.model.name))
        for one in found
    )


def row_of(one: Standing, rates: Rates, drift: float | None, spark: tuple[float, ...] = ()) -> ModelRow:
    asked = rates.requests
    return ModelRow(
        one.model.name, one.stage, one.state, one.live, one.candidate, one.model.spec.purpose, len(one.alerts),
        asked / 60 if asked else None, rates.errors / asked if asked else None, rates.p95_ms if asked else None,
        rates.up / rates.votes if rates.votes else None, rates.votes, drift, spark, one.since,
    )  # fmt: skip


def columns(found: Sequence[Standing]) -> tuple[Column, ...]:
    """The loop picture: each model where its newest version is, and, beside it, where the live one is."""
    chips: dict[str, list[Chip]] = {stage: [] for stage in STAGES}
    for one in found:
        state = "alert" if one.alerts else "live" if one.stage == "live" else "now"
        at_rest = one.stage in ("live", "drift")
        chips[one.stage].append(Chip(one.model.name, one.live if at_rest else one.candidate, state))
        if one.live and one.stage != "live":
            chips["live"].append(Chip(one.model.name, one.live, "live"))
    return tuple(Column(stage, tuple(chips[stage])) for stage in STAGES)


def decisions(platform: Platform, found: Sequence[Standing]) -> Iterator[Decision]:
    """What waits for a person, most urgent first: approvals, alerts, releases that are held, turns that ended badly."""
    for one in found:
        yield from _waiting(platform, one)
    fired = [alert for one in found for alert in one.alerts if alert.severity != "info"]
    for alert in sorted(fired, key=lambda one: (one.severity != "critical", one.at)):
        yield Decision(
            "alert", alert.model, alert.at, "alert", "acknowledge", alert.id, "bad" if alert.severity == "critical" else "warn",
            {"row": told.row_of(alert), "id": alert.id},
        )  # fmt: skip
    for one in found:
        yield from _ended(one)


def _waiting(platform: Platform, one: Standing) -> Iterator[Decision]:
    rollout = one.rollout
    if rollout is None:
        return
    if rollout.state == "awaiting_approval":
        with platform.db.reading() as conn:
            ruling = release.newest_judged(conn, rollout.candidate)
        gates = ruling.gates if ruling else []
        values = {"passed": sum(gate["outcome"] == "pass" for gate in gates), "of": len(gates)}
        yield Decision(
            "approval", rollout.model, rollout.started_at, "release", "approve", rollout.candidate, "warn", values
        )
    elif rollout.state == "held":
        values = {"reason": rollout.reason}
        yield Decision("held", rollout.model, rollout.stage_at, "release", "approve", rollout.candidate, "warn", values)


def _ended(one: Standing) -> Iterator[Decision]:
    turn = one.turn
    if turn is None or turn.state not in ("failed", "refused"):
        return
    last = turn.steps[-1] if turn.steps else {}
    values = {"step": turn.step, "reason": last.get("summary") or turn.reason}
    yield Decision(turn.state, turn.model, turn.ended_at or turn.asked_at, "turn", "turn", turn.version or turn.id,
                   "warn", {**values, "turn": turn.id})  # fmt: skip


def last_decision(platform: Platform, reach: Sequence[str]) -> Done | None:
    """The newest event in which somebody, or the loop, decided something."""
    table = audit_events
    query = sa.select(table).where(table.c.action.in_(DECIDED)).order_by(table.c.number.desc()).limit(20)
    with platform.db.reading() as conn:
        for row in conn.execute(query):
            if "*" in reach or row.subject.partition("@")[0] in reach:
                return Done(row.at, row.actor, row.action, row.subject)
    return None
