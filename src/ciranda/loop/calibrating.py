"""Judges held against people: answers that people labelled, in a review queue or a suite, are shown to a judge.

The end of the job is a calibration (`evals.calibration`): what the judge's word relates to theirs, for one model, for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ciranda.data.reviews import items, queues
from ciranda.data.rows import Message
from ciranda.errors import Invalid, Refused
from ciranda.evals import calibration, judge, library
from ciranda.evals.calibration import Calibration
from ciranda.evals.compare import LEAST
from ciranda.evals.judge import Ask, Judge
from ciranda.govern import audit
from ciranda.govern.access import Principal
from ciranda.loop import opinions, reviews
from ciranda.loop.platform import Platform
from ciranda.store import clock, ids

DAYS = 30.0
MOST = 1000  # labelled answers that one calibration looks at, the newest


@dataclass(frozen=True)
class Labelled:
    """An answer with what people say of it: 1 is right. With `other`, whether they prefer the answer to that."""

    case: str
    messages: tuple[Message, ...]
    answer: str
    label: float
    version: str = ""
    other: str = ""


def calibrate(
    platform: Platform,
    name: str,
    who: Principal,
    *,
    kind: str = "judge",
    queue: str = "",
    suite: str = "",
    model: str = "",
    days: float = DAYS,
    everything: bool = False,
) -> str:
    """Begin to hold a judge against people; returns the key of the job, whose end is a calibration.

    Args:
        kind: `judge` for grades, `preferred` for preferences.
        queue: A review queue with labels. `suite`: a registered one whose cases carry labels (`_of_suite`).
        model: Whose answers they are; without it, the queue's model.
        days: How long it holds.
        everything: Also items that were chosen for being doubtful; else those alone that came at random.

    Raises:
        Refused: Too few labels; says how to get more.
    """
    with platform.db.reading() as conn:
        by = judge.get(conn, name)
        chosen = queues.get(conn, queue) if queue else None
    whose = model or (chosen.model if chosen else "")
    if bool(queue) == bool(suite):
        raise Invalid("labels come from a queue or from a suite", where="queue, suite",
                      remedy="name one of them: `--queue` or `--suite`")  # fmt: skip
    if not whose:
        raise Invalid("whose answers are these?", where="model", remedy="name the model: `--model`")
    said = _of_queue(platform, queue, who, kind, everything) if queue else _of_suite(platform, suite, kind)
    found = list(said)
    if len(found) < LEAST:
        raise Refused(
            f"{len(found)} labelled answers in {queue or suite}, fewer than {LEAST}", where=f"judge {name}",
            remedy=f"label more: `ciranda review fill {queue or 'QUEUE'}`; or take those too that were chosen for doubt: --all",
        )  # fmt: skip
    identifier = ids.new("cal")
    told = f"queue {queue}, {'all' if everything else 'at random'}" if queue else f"suite {suite}"
    about = {
        "purpose": "calibrate", "id": identifier, "judge": name, "digest": by.digest, "kind": kind, "model": whose,
        "source": told, "labels": {one.case: [one.label, one.version] for one in found}, "actor": who.name, "scale": by.scale,
        "valid_until": clock.iso(clock.now() + timedelta(days=days)),
    }  # fmt: skip
    key = f"{opinions.PREFIX}calibrate:{identifier}"
    with platform.db.writing() as conn:
        detail = {"job": key, "source": told, "labels": len(found), "model": whose}
        audit.record(conn, actor=who.name, action="judge.calibration_asked", subject=name, detail=detail)
    opinions.begin(platform, key, by, [ask for one in found for ask in _asks(by, kind, one)], about)
    return key


def _asks(by: Judge, kind: str, one: Labelled) -> Sequence[Ask]:
    if kind == "preferred":
        return judge.comparing(by, one.case, one.messages, one.answer, one.other)
    return (judge.grading(by, one.case, one.messages, one.answer),)


def _of_queue(platform: Platform, queue: str, who: Principal, kind: str, everything: bool) -> Iterator[Labelled]:
    """The settled items of a queue: right is 1, wrong and corrected are 0; for preferences each correction over the answer."""
    with platform.db.reading() as conn:
        settled = _settled(conn, queue, everything)
    looked = reviews.look_at_all(platform, [item for item, _ in settled], who)
    for item, said in settled:
        given = [one for one in said if one.verdict != "skip"]
        right = sum(one.verdict == "right" for one in given)
        shown = looked.get(item.id)
        if shown is None or right * 2 == len(given):
            continue
        version = shown.version if item.kind == "interaction" else ""
        better = next((one.correction.strip() for one in reversed(given) if one.correction.strip()), "")
        if kind == "judge":
            yield Labelled(item.id, shown.messages, shown.answer, float(right * 2 > len(given)), version)
        elif better and right * 2 < len(given) and better != shown.answer.strip():
            yield Labelled(item.id, shown.messages, better, 1.0, version, shown.answer)


def _of_suite(platform: Platform, name: str, kind: str) -> Iterator[Labelled]:
    """Cases that carry labels: an `answer` with its `verdict` (right, wrong, or a number from 0 to 1), or two answers.

    Two are `answer` and `other`, and `preferred` names the better one.
    """
    for case in library.load(platform.db, platform.home, name).cases:
        said = case.labels
        if kind == "judge" and "answer" in said and "verdict" in said:
            yield Labelled(
                case.id, case.messages, said["answer"], _share(said["verdict"], case.id), said.get("version", "")
            )
        elif kind == "preferred" and {"answer", "other", "preferred"} <= set(said):
            yield Labelled(case.id, case.messages, said["answer"], float(said["preferred"] == "answer"), said.get("version", ""),
                           said["other"])  # fmt: skip


def _share(verdict: str, case: str) -> float:
    known = {"right": 1.0, "wrong": 0.0}
    try:
        value = known[verdict] if verdict in known else float(verdict)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Invalid(
            f"a verdict of {verdict!r}", where=f"case {case}: labels", remedy="right, wrong, or a number from 0 to 1"
        )
    return value


def _settled(conn: sa.Connection, queue: str, everything: bool) -> list[tuple[items.Item, list[items.Label]]]:
    table = items.review_items
    query = sa.select(table).where(table.c.queue == queue, table.c.state == "done")
    if not everything:
        query = query.where(table.c.chance)
    rows = conn.execute(query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(MOST)).all()
    found = [items.Item(**row._mapping) for row in rows]
    return [(one, items.labels_of(conn, one.id)) for one in found]


def worth(platform: Platform, by: Judge) -> list[dict[str, Any]]:
    """What a judge is worth by now, for each kind and model that it was ever held against people for."""
    with platform.db.reading() as conn:
        known = calibration.of(conn, by.name, limit=MOST)
    newest: dict[tuple[str, str], Calibration] = {}
    for one in known:
        newest.setdefault((one.kind, one.model), one)
    told = []
    for (kind, model), one in sorted(newest.items()):
        metric = f"{kind}:{by.name}"
        stands = calibration.standing(metric, by.name, by.digest, one, now=clock.now())
        told.append({"metric": metric, "kind": kind, "model": model, "believed": not stands.refusal, **stands.to_dict(),
                     "figures": one.figures() if one.n else {}})  # fmt: skip
    return told
