"""What the loop may act upon, written with the state that it follows from and kept until it is taken.

    drift       a stream has changed, certainly and by much          somebody is told
    quality     the share of bad answers has risen                   somebody is told
    feedback    the share of thumbs down has risen                   somebody is told
    retrain     drift while quality or feedback has worsened         the loop decides on a turn: budget, cool-down

Event ids are deterministic: the version, the number of its reference, the channel and the number of the alarm. A signal
seen twice is therefore one alert and one turn. Only `retrain` waits to be taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.errors import NotFound
from ciranda.monitor import alerts
from ciranda.monitor.look import Alarm, Watched
from ciranda.monitor.rates import Level
from ciranda.monitor.streams import DriftAlarm, Stream, described
from ciranda.store import clock
from ciranda.store.database import metadata

signals = sa.Table(
    "signals",
    metadata,
    sa.Column("event_id", sa.String(300), primary_key=True),
    sa.Column("model", sa.String(120), nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("alert", sa.String(48), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("taken_at", sa.String(32), nullable=False, index=True),
)


@dataclass(frozen=True)
class Signal:
    """Something that the loop may act upon: its kind, the reason in words with figures, and the evidence as JSON values."""

    kind: str
    model: str
    reason: str
    evidence: Mapping[str, Any]
    event_id: str
    alert: str = ""


def follow(
    model: str, version: str, generation: int, *, after: Mapping[str, Watched], alarms: Sequence[Alarm], retrain: bool
) -> list[Signal]:
    """What follows from the alarms of one look: pure, and the same however often it is asked."""
    told = [_told(model, version, generation, alarm) for alarm in alarms if alarm.notify]
    drifted = [name for name, one in after.items() if isinstance(one, Stream) and one.state == "drift"]
    worse = [name for name, one in after.items() if isinstance(one, Level) and one.rate.worsened]
    if not (retrain and told and drifted and worse):
        return told
    latest = [_latest(after[name]) for name in (*drifted, *worse)]
    number = sum(one.alarms if isinstance(one, Stream) else one.rate.hits for one in after.values())
    reason = f"{version} drifts and does worse: " + "; ".join(str(one["summary"]) for one in latest)
    return [*told, Signal("retrain", model, reason, _evidence(version, generation, latest),
                          f"retrain:{version}:{generation}:{number}")]  # fmt: skip


def _told(model: str, version: str, generation: int, alarm: Alarm) -> Signal:
    plain = described(alarm) if isinstance(alarm, DriftAlarm) else alarm.to_dict()
    kind = "drift" if isinstance(alarm, DriftAlarm) else alarm.channel
    event = f"{kind}:{version}:{generation}:{alarm.channel}:{alarm.number}"
    return Signal(kind, model, f"{version}: {alarm.summary}", {**plain, "version": version}, event)


def _latest(watched: Watched) -> Mapping[str, Any]:
    return watched.latest or {"summary": f"the {watched.channel} has changed"}


def _evidence(version: str, generation: int, latest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The alarms it rests on, with the groups and examples of the first that has some, as pages show them."""
    shown = next((one for one in latest if one.get("groups") or one.get("languages")), latest[0])
    return {"version": version, "generation": generation, "channels": [dict(one) for one in latest],
            **{name: shown[name] for name in ("since", "messages", "groups", "languages") if name in shown},
            "summary": "; ".join(str(one["summary"]) for one in latest)}  # fmt: skip


def tell(conn: sa.Connection, signal: Signal, *, targets: Sequence[str], actor: str = "monitor") -> Signal:
    """Raise the alert of a signal and keep the signal; once, however often it is told."""
    severity: alerts.Severity = "critical" if signal.kind == "retrain" else "warning"
    alert = alerts.raise_(conn, signal.event_id, model=signal.model, kind=signal.kind, severity=severity,
                          title=signal.reason, body=signal.evidence, targets=targets, actor=actor,
                          matter=signal.event_id.rpartition(":")[0] + ":")  # fmt: skip
    at = clock.iso()
    if not conn.execute(sa.select(signals.c.event_id).where(signals.c.event_id == signal.event_id)).first():
        conn.execute(signals.insert().values(
            event_id=signal.event_id, model=signal.model, kind=signal.kind, reason=signal.reason,
            evidence=dict(signal.evidence), alert=alert.id, at=at, taken_at="" if signal.kind == "retrain" else at,
        ))  # fmt: skip
    return Signal(signal.kind, signal.model, signal.reason, signal.evidence, signal.event_id, alert.id)


def pending(conn: sa.Connection, *, model: str | None = None) -> list[Signal]:
    """Signals that nobody has taken yet, oldest first."""
    query = sa.select(signals).where(signals.c.taken_at == "").order_by(signals.c.at, signals.c.event_id)
    rows = conn.execute(query.where(signals.c.model == model) if model else query).mappings()
    return [
        Signal(row["kind"], row["model"], row["reason"], row["evidence"], row["event_id"], row["alert"]) for row in rows
    ]


def take(conn: sa.Connection, event_id: str, *, turn: str = "") -> None:
    """A signal has been acted upon, or found not to be worth a turn; with `turn`, its alert says which one it became.

    Raises NotFound when there is no such signal. Taking it again changes nothing.
    """
    row = conn.execute(sa.select(signals).where(signals.c.event_id == event_id)).mappings().first()
    if row is None:
        raise NotFound(f"no signal {event_id!r}", where="signals", remedy="look at `signals.pending`")
    if not row["taken_at"]:
        conn.execute(signals.update().where(signals.c.event_id == event_id).values(taken_at=clock.iso()))
    if turn:
        alerts.assign(conn, row["alert"], turn)


def forget(conn: sa.Connection, interactions: set[str]) -> None:
    """Take the words of these interactions out of every signal."""
    for row in conn.execute(sa.select(signals.c.event_id, signals.c.evidence)).all():
        evidence = alerts.scrub(row.evidence, interactions)
        if evidence != row.evidence:
            conn.execute(signals.update().where(signals.c.event_id == row.event_id).values(evidence=evidence))
