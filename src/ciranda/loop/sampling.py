"""Judges on live traffic: a share of the answers, drawn by their ids, within bounds by the hour and the day.

A model's file names the judges (`watch: judges`). What one says becomes a score of the interaction, `judge:NAME`, beside those of
the cheap scorers, and is read as they are: in figures by version, in filters of sources, on pages. A judge that is not believed for
the model (`evals.calibration`) is not asked, so it costs nothing. Which answers are asked about follows from their ids, so that
looking twice asks once. Answers that failed, that came of a judge's own questions, or whose words were not recorded are left out.

    judge_samples   how many answers a judge was asked about, and when: what the bounds go by

One job (`loop.opinions`) of a judge and model at a time. Its key follows from the place that was read up to, and that place moves
in one transaction with the row that counts it, after the job was begun: a kill between the two finds the same job again. What comes
when the bound is reached is not made up for: a sample of yesterday is worth less than one of now. Once its scores are kept, a job
holds no words of anybody.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ciranda.config.model import ModelSpec, Sampled
from ciranda.errors import CirandaError
from ciranda.evals import calibration, judge, live
from ciranda.evals.judge import Ask, Judge
from ciranda.govern.access import keys
from ciranda.interactions.table import Interaction
from ciranda.loop import opinions
from ciranda.loop.platform import Platform
from ciranda.monitor import quality
from ciranda.store import clock
from ciranda.store.database import metadata

log = logging.getLogger("ciranda.loop")

BATCH = 200  # answers that one look reads
MOST = 50  # questions of one job
KEPT = timedelta(days=2)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

judge_samples = sa.Table(
    "judge_samples",
    metadata,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("judge", sa.String(63), nullable=False),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("asked", sa.Integer, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Index("ix_judge_samples_place", "judge", "model", "at"),
)


def look(platform: Platform, specs: Sequence[ModelSpec]) -> None:
    """Ask each model's judges about what arrived, as far as they may. One that cannot be asked holds up no other."""
    for spec in specs:
        for sampled in spec.watch.judges:
            try:
                _look(platform, spec, sampled)
            except CirandaError as error:
                log.warning("%s: the judge %s waits: %s", spec.model, sampled.judge, error)


def _look(platform: Platform, spec: ModelSpec, sampled: Sampled) -> None:
    with platform.db.reading() as conn:
        by = judge.get(conn, sampled.judge)
        if _busy(platform, conn, by.name, spec.model) or _refusal(conn, by, spec.model):
            return
        room = min(MOST, _room(conn, sampled, spec.model))
        own = set(conn.execute(sa.select(keys.c.id).where(keys.c.name == opinions.KEY)).scalars())
    place = f"{spec.model}+judge:{by.name}"
    cursor = quality.place(platform.db, place)
    answers = platform.interactions.since(cursor, model=spec.model, limit=BATCH)
    if not answers:
        return
    chosen = [one for one in answers if one.key not in own and drawn(one, sampled.share) and _said(one)][:room]
    key = _key(by, spec.model, cursor)
    state = platform.jobs.status(key).state
    if chosen and state == "unknown":
        _begin(platform, key, by, spec.model, chosen, answers[-1].cursor)
    to = answers[-1].cursor if state == "unknown" else str(_about(platform, key)["to"])
    _move(
        platform, place, cursor, to, len(answers), (key, by.name, spec.model) if chosen or state != "unknown" else None
    )


def told(conn: sa.Connection, name: str) -> list[dict[str, Any]]:
    """What a judge was asked about live answers, by model: in the last hour and in the last day."""
    table = judge_samples
    models = conn.execute(
        sa.select(table.c.model).where(table.c.judge == name).distinct().order_by(table.c.model)
    ).scalars()
    return [
        {"model": model, "hour": _asked(conn, name, model, HOUR), "day": _asked(conn, name, model, DAY)}
        for model in models
    ]


def drawn(one: Interaction, share: float) -> bool:
    """Whether an answer is in the sample: its id decides, so that everybody who asks says the same."""
    return int.from_bytes(hashlib.sha256(f"judged {one.id}".encode()).digest()[:8]) < share * 2**64


def _said(one: Interaction) -> bool:
    return not one.failed and one.status < 400 and bool(one.output_text.strip())


def _busy(platform: Platform, conn: sa.Connection, name: str, model: str) -> bool:
    """Whether the newest job is not over yet, with what came of it kept."""
    table = judge_samples
    mine = sa.select(table.c.job).where(table.c.judge == name, table.c.model == model)
    job = conn.execute(mine.order_by(table.c.at.desc()).limit(1)).scalar()
    if job is None or (platform.home.jobs / job / "recorded").exists():
        return False
    return platform.jobs.status(job).state in ("running", "lost", "succeeded")


def _refusal(conn: sa.Connection, by: Judge, model: str) -> str:
    """Why the judge is not believed for this model; empty when it is."""
    found = calibration.newest(conn, by.name, "judge", model)
    return calibration.standing(f"judge:{by.name}", by.name, by.digest, found, now=clock.now()).refusal


def _room(conn: sa.Connection, sampled: Sampled, model: str) -> int:
    """How many answers it may still be asked about now."""
    hour, day = (_asked(conn, sampled.judge, model, since) for since in (HOUR, DAY))
    return max(0, min(sampled.per_hour - hour, sampled.per_day - day))


def _asked(conn: sa.Connection, name: str, model: str, since: timedelta) -> int:
    table = judge_samples
    mine = (table.c.judge == name) & (table.c.model == model) & (table.c.at > clock.iso(clock.now() - since))
    return int(conn.execute(sa.select(sa.func.coalesce(sa.func.sum(table.c.asked), 0)).where(mine)).scalar() or 0)


def _key(by: Judge, model: str, cursor: str | None) -> str:
    mark = hashlib.sha256(f"{by.digest} {model} {cursor or ''}".encode()).hexdigest()[:32]
    return f"{opinions.PREFIX}live:{mark}"


def _begin(platform: Platform, key: str, by: Judge, model: str, chosen: Sequence[Interaction], to: str) -> None:
    asks: list[Ask] = []
    for one in chosen:
        said = live.said(one)
        asks.append(judge.grading(by, one.id, said.messages, said.answer))
    about: dict[str, Any] = {
        "purpose": opinions.LIVE, "id": key, "judge": by.name, "digest": by.digest, "kind": "judge", "scale": by.scale,
        "model": model, "to": to, "actor": "loop",
        "of": {one.id: [one.version, one.arm, one.rollout] for one in chosen},
    }  # fmt: skip
    opinions.begin(platform, key, by, asks, about)


def _move(
    platform: Platform, place: str, cursor: str | None, to: str, count: int, job: tuple[str, str, str] | None
) -> None:
    """Say how far it was read and what was asked, in one."""
    with platform.db.writing() as conn:
        if not quality.moved(conn, place, cursor, to, count) or job is None:
            return
        key, name, model = job
        asked = len(_about(platform, key)["of"])
        gone = _pruned(conn, name, model)
        if conn.execute(sa.select(judge_samples.c.job).where(judge_samples.c.job == key)).first() is None:
            conn.execute(judge_samples.insert().values(job=key, judge=name, model=model, asked=asked, at=clock.iso()))
    for one in gone:
        shutil.rmtree(platform.home.jobs / one, ignore_errors=True)


def _pruned(conn: sa.Connection, name: str, model: str) -> list[str]:
    """Jobs that no bound counts any more; their rows are gone with this."""
    table = judge_samples
    old = (table.c.judge == name) & (table.c.model == model) & (table.c.at < clock.iso(clock.now() - KEPT))
    gone = list(conn.execute(sa.select(table.c.job).where(old)).scalars())
    conn.execute(table.delete().where(old))
    return gone


def _about(platform: Platform, key: str) -> dict[str, Any]:
    """What the job is for, which somebody began who may have died before saying so."""
    told: dict[str, Any] = json.loads((platform.home.jobs / key / "spec.json").read_text())["about"]
    return told
