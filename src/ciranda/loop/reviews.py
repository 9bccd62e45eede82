"""Reviews, put together: what is chosen goes into queues, what is asked for is shown, what was said becomes a dataset version.

    fill      the newest interactions of a model, or the rows of a dataset, that are most worth labelling
    ask       the next item for somebody, with what there is to look at
    say       what they said of it
    commit    labels that are in no version yet become one, with the names of those who said so

Rows are read through the policies for the purpose `labelling`, interactions through their store; what is gone since it was chosen
(erased, beyond its retention) is passed over, and what somebody may not see is not given to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from heapq import nsmallest
from itertools import islice
from typing import Any

import sqlalchemy as sa

from ciranda.data import feedback, reading, succession, versions
from ciranda.data.hearing import Hearing
from ciranda.data.reviews import items, queues
from ciranda.data.reviews import taught as teaching
from ciranda.data.reviews.agreement import agreement
from ciranda.data.reviews.items import Item, Label, Who
from ciranda.data.reviews.queues import Queue
from ciranda.data.reviews.taught import Shown
from ciranda.data.rows import Row
from ciranda.data.versions import DatasetVersion
from ciranda.errors import Invalid, Refused
from ciranda.evals.intervals import wilson
from ciranda.govern.access import Principal
from ciranda.interactions.table import Interaction
from ciranda.loop import candidates, committed
from ciranda.loop.candidates import Weighed
from ciranda.loop.platform import Platform
from ciranda.monitor.drift import drift_states
from ciranda.registry import models
from ciranda.store import clock, ids

SCANNED = 5000  # interactions that one filling looks at, the newest first
PAGE = 500
MOST = 2000
TRIES = 50  # items in a row that are gone until nothing is said to wait


# --- filling ----------------------------------------------------------------------------------------------------------


def fill(
    platform: Platform,
    name: str,
    asker: Principal,
    *,
    count: int,
    of: str = "interactions",
    days: float = 7.0,
    ref: str = "",
) -> dict[str, Any]:
    """Choose what is most worth labelling and put it into a queue.

    Args:
        of: `interactions` of the queue's model, or `rows` of its dataset (`ref` names a version, else the newest).

    Raises:
        Invalid: The queue has no model, or too many are asked for.
    """
    if not 1 <= count <= MOST:
        raise Invalid(f"{count} items", where="count", remedy=f"ask for 1 to {MOST}")
    with platform.db.reading() as conn:
        queue = queues.get(conn, name)
    seed = ids.new("fill") if of == "interactions" else ref or queue.dataset
    weighed, chance = (
        _answers(platform, queue, days, seed) if of == "interactions" else _rows(platform, queue, ref, asker, seed)
    )
    chosen = candidates.choose(weighed, chance, count=count, random=queue.random)
    twice = [(one, 2 if candidates.draw("twice", one.ref) < queue.twice else 1) for one in chosen]
    with platform.db.writing() as conn:
        added = items.put(conn, queue, twice, actor=asker.name)
    reasons = {
        reason: sum(one.reason == reason for one in chosen) for reason in dict.fromkeys(one.reason for one in chosen)
    }
    return {"queue": name, "chosen": len(chosen), "added": added, "reasons": reasons, "looked_at": len(chance)}


def _answers(platform: Platform, queue: Queue, days: float, seed: str) -> tuple[list[Weighed], list[Weighed]]:
    if not queue.model:
        raise Invalid(f"queue {queue.name} reviews no model's answers", where="of", remedy="fill it with `rows`")
    found = list(islice(_newest(platform, queue.model, days), SCANNED))
    with platform.db.reading() as conn:
        row = conn.execute(
            sa.select(drift_states.c.summary).where(
                drift_states.c.model == queue.model, drift_states.c.channel == "input"
            )
        ).first()
    moved = candidates.grown(row.summary) if row else []
    chance = candidates.at_random((("interaction", one.id, one.input_text) for one in found), seed)
    return candidates.of_interactions(found, moved), chance


def _newest(platform: Platform, model: str, days: float) -> Iterable[Interaction]:
    """Whole answers that users saw and nobody corrected, the newest first."""
    since, before = clock.now() - timedelta(days=days), None
    while True:
        page = platform.interactions.page(model=model, since=since, status=200, before=before, limit=PAGE)
        for one in page:
            corrected = any(said.correction for said in one.feedback)
            if one.arm != "shadow" and one.output_text and not corrected and feedback.voices_of_approved([one]):
                yield one
        if len(page) < PAGE:
            return
        before = page[-1].place


def _rows(
    platform: Platform, queue: Queue, ref: str, asker: Principal, seed: str
) -> tuple[list[Weighed], list[Weighed]]:
    version = versions.get(platform.db, ref or queue.dataset)
    if version.name != queue.dataset:
        raise Invalid(
            f"{version.ref} is no version of {queue.dataset}", where="ref", remedy="name one of the queue's dataset"
        )
    reader = reading.asking(asker, "labelling")
    if reading.decision(platform.db, version.ref, reader).texts:
        raise Refused(f"the texts of {version.ref} are hidden from {asker.name!r}", where="a policy for labelling",
                      remedy="ask somebody who may see them: `ciranda policy` says who")  # fmt: skip
    report = reading.report(platform.db, version, reader)
    flagged: dict[str, dict[str, Any]] = {}
    for check, told in report.get("checks", {}).items():
        for one in told.get("examples", ()):
            flagged.setdefault(str(one["key"]), {"check": check, "reason": str(one["reason"])[:300]})
    weighed, chance = [], []
    for row in reading.read(platform.db, platform.home, version.ref, reader):
        at = f"{version.ref}:{row.key}"
        if row.messages and row.key in flagged:
            weighed.append(Weighed(items.Candidate("row", at, "flagged", flagged[row.key]), 1.0, row.prompt))
        elif row.messages and row.thumb < 0:
            weighed.append(Weighed(items.Candidate("row", at, "thumb_down", {"thumb": -1}), 1.0, row.prompt))
        if row.messages:
            chance.append((-candidates.draw(seed, at), at, row.prompt[:200]))
            if len(chance) > 4 * MOST:
                chance = nsmallest(MOST, chance)
    drawn = candidates.at_random((("row", at, text) for _, at, text in nsmallest(MOST, chance)), seed)
    return weighed, drawn


# --- asking and saying ------------------------------------------------------------------------------------------------


def ask(platform: Platform, name: str, asker: Principal) -> tuple[Item, Shown] | None:
    """The next item for somebody, with what there is to look at; None when nothing waits for them."""
    who = Who(asker.key, asker.name)
    for _ in range(TRIES):
        with platform.db.writing() as conn:
            item = items.take(conn, queues.get(conn, name), who)
        if item is None:
            return None
        if shown := look(platform, item, asker):
            return item, shown
        with platform.db.writing() as conn:
            items.gone(conn, item.id)
    return None


def look(platform: Platform, item: Item, asker: Principal) -> Shown | None:
    """What an item speaks of; None when it is gone. Raises Forbidden when a policy closes it to whoever asks."""
    if item.kind == "row":
        ref, _, key = item.ref.rpartition(":")
        found = reading.read(platform.db, platform.home, ref, reading.asking(asker, "labelling"), key=key)
        row = next(found, None)
        return _of_row(row, item) if row else None
    kept = platform.interactions.get(item.ref)
    one = _hearing(platform, asker).one(kept) if kept else None
    return _of_interaction(one) if one else None


def _hearing(platform: Platform, asker: Principal) -> Hearing:
    return Hearing(platform.db, platform.home, reading.asking(asker, "labelling"))


def look_at_all(platform: Platform, wanted: Sequence[Item], asker: Principal) -> dict[str, Shown]:
    """What items speak of, by their ids: those of interactions in a few questions to the store, however many they are."""
    held = platform.interactions.several([one.ref for one in wanted if one.kind == "interaction"])
    found = {one.id: one for one in _hearing(platform, asker).these([*held.values()])}
    shown = {
        one.id: _of_interaction(found[one.ref]) if one.ref in found else None
        for one in wanted
        if one.kind == "interaction"
    }
    shown |= {one.id: look(platform, one, asker) for one in wanted if one.kind != "interaction"}
    return {name: one for name, one in shown.items() if one}


def _of_interaction(one: Interaction) -> Shown | None:
    voices = feedback.voices_of_approved([one])
    if not voices:
        return None
    scores = tuple((score.scorer, score.value) for score in one.scores)
    return Shown(
        voices[0].messages,
        voices[0].answer,
        one.id,
        one.user,
        one.language,
        one.thumb,
        one.version,
        clock.iso(one.ts),
        scores,
    )


def _of_row(row: Row, item: Item) -> Shown:
    return Shown(
        row.messages,
        row.completion,
        item.ref,
        row.subject,
        row.language,
        row.thumb,
        item.ref.rpartition(":")[0],
        "",
        (),
        row,
    )


def say(
    platform: Platform,
    name: str,
    item: str,
    asker: Principal,
    *,
    verdict: str,
    correction: str = "",
    note: str = "",
    once: str = "",
) -> Label:
    """Keep what somebody said of an item."""
    with platform.db.writing() as conn:
        return items.answer(
            conn, queues.get(conn, name), item, Who(asker.key, asker.name), verdict=verdict, correction=correction, note=note,
            once=once or ids.new("once"),
        )  # fmt: skip


def undo(platform: Platform, name: str, asker: Principal) -> Item:
    """Take somebody's last label back."""
    with platform.db.writing() as conn:
        return items.undo(conn, queues.get(conn, name), Who(asker.key, asker.name))


# --- figures ----------------------------------------------------------------------------------------------------------


def told(platform: Platform, name: str) -> dict[str, Any]:
    """A queue with its counts, who labelled how much, how far they agree, and how many answers are right on the whole."""
    with platform.db.reading() as conn:
        queue = queues.get(conn, name)
        said = [one for one in _every(conn, name) if one.verdict != "skip"]
        counted = items.counts(conn, name)
        chance = sa.select(items.review_items.c.id).where(
            items.review_items.c.queue == name, items.review_items.c.chance
        )
        random = set(conn.execute(chance).scalars())
    annotators: dict[str, dict[str, int]] = {}
    for one in said:
        mine = annotators.setdefault(one.annotator, dict.fromkeys(("right", "wrong", "correct"), 0))
        mine[one.verdict] += 1
    first = {one.item: one.verdict == "right" for one in reversed(said) if one.item in random}
    share = {"n": len(first)} if not first else _share(list(first.values()))
    figures = agreement((one.item, one.annotator, "right" if one.verdict == "right" else "wrong") for one in said)
    return {**queue.to_dict(), "items": counted, "annotators": annotators, "right": share,
            "agreement": [one.to_dict() for one in figures]}  # fmt: skip


def _share(said: list[bool]) -> dict[str, Any]:
    low, high = wilson(sum(said), len(said))
    return {"share": sum(said) / len(said), "low": low, "high": high, "n": len(said)}


def _every(conn: sa.Connection, name: str) -> Iterable[Label]:
    after = ""
    while page := items.labels(conn, name, after=after, limit=1000):
        yield from page
        after = page[-1].id


# --- back into data ---------------------------------------------------------------------------------------------------


def commit(platform: Platform, name: str, asker: Principal) -> dict[str, Any]:
    """Make a dataset version of what was said since the last one.

    Raises:
        Refused: Nothing was said that makes a row, or a check of the model that learns from the dataset said no.
        Conflict: Somebody took a label back, or committed, meanwhile; ask again.
    """
    with platform.db.reading() as conn:
        queue = queues.get(conn, name)
        settled = items.untaken(conn, name)
    add: dict[str, Row] = {}
    remove: set[str] = set()
    taken: list[Label] = []
    for item, said in settled:
        if shown := _whole(platform, item, asker):
            found = teaching.taught(shown, said, queue.makes)
            add |= {row.key: row for row in found.add}
            remove |= set(found.remove)
        taken += [one for one in said if one.verdict != "skip"]
    if not add and not remove:
        raise Refused(
            f"nothing new in {name} makes a row", where=f"review of {name}",
            remedy="label more; a wrong answer without a correction makes none, unless the queue says `makes: labelled`",
        )  # fmt: skip
    version = _committed(platform, queue, add, remove - set(add), taken, asker.name)
    return {"dataset": version.ref, "rows": version.rows, "digest": version.digest, "labels": len(taken), "items": len(settled),
            "added": len(add), "removed": len(remove - set(add))}  # fmt: skip


def _whole(platform: Platform, item: Item, asker: Principal) -> Shown | None:
    """What an item speaks of, as it goes back into the dataset that it came from: no policy's mask becomes data."""
    if item.kind != "row":
        return look(platform, item, asker)
    ref, _, key = item.ref.rpartition(":")
    row = next(succession.inherited(platform.home, ref, key=key), None)
    return _of_row(row, item) if row else None


def _committed(
    platform: Platform, queue: Queue, add: Mapping[str, Row], remove: set[str], taken: list[Label], actor: str
) -> DatasetVersion:
    names = sorted({one.annotator for one in taken})
    figures = [
        one.to_dict() for one in agreement((one.item, one.annotator, str(one.verdict == "right")) for one in taken)
    ]
    made = {
        "kind": "review", "queue": queue.name, "makes": queue.makes, "labels": len(taken), "annotators": names,
        "sources": [{"source": f"review: {queue.name}", "rows": len(add)}], "agreement": figures, "removed": len(remove),
    }  # fmt: skip

    def within(conn: sa.Connection, version: DatasetVersion) -> None:
        items.took(conn, taken, version.ref)

    rules = committed.policy(platform, queue.dataset, otherwise={"pii": "warn"})
    return committed.amend(
        platform, queue.dataset, list(add.values()), remove, rules, made=made, actor=actor, within=within
    )


def reached(platform: Platform, queue: Queue, reach: tuple[str, ...]) -> bool:
    """Whether a key with this reach may come near a queue: its model's, or that of a model that learns from its dataset."""
    if "*" in reach or queue.model in reach:
        return True
    with platform.db.reading() as conn:
        return (
            any(one.spec.dataset == queue.dataset and one.name in reach for one in models.every(conn))
            and not queue.model
        )
