"""What waits in a queue: items, leases, labels.

An item is asked of `wanted` annotators: one, or two where agreement is to be known, and one more when two disagree. Whoever asks
gets the item that comes first among those that still want somebody, that they have not labelled or skipped, and that no lease
of others fills; while their lease lasts nobody else gets it in their place. A lease that expired gives the item to the next one; a
label that comes after that is taken as long as the item still wants it.
Every change locks the queue's row first (SQLite has one writer anyway), so two who ask at once never get the same place.
A label is never edited: `undo` marks the last one as taken back, as long as no dataset version was made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.data.reviews import queues
from ciranda.data.reviews.queues import Queue
from ciranda.errors import Conflict, Invalid, NotFound
from ciranda.govern import audit
from ciranda.store import clock, ids
from ciranda.store.database import metadata

Verdict = Literal["right", "wrong", "correct", "skip"]
VERDICTS = ("right", "wrong", "correct", "skip")
MOST_SKIPS = 3  # annotators who skip an item until it is put aside
TIEBREAK = 3
FIRST = 1.0  # the priority of an item on which annotators disagree; those that were filled in count downwards from 0
LONGEST = 20_000

review_items = sa.Table(
    "review_items",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("queue", sa.String(63), sa.ForeignKey("review_queues.name"), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("ref", sa.String(240), nullable=False),
    sa.Column("reason", sa.String(40), nullable=False),
    sa.Column("why", sa.JSON, nullable=False),
    sa.Column("chance", sa.Boolean, nullable=False),
    sa.Column("priority", sa.Float, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.UniqueConstraint("queue", "ref"),
    sa.Index("ix_review_items_waiting", "queue", "state", "priority"),
)

review_leases = sa.Table(
    "review_leases",
    metadata,
    sa.Column("item", sa.String(40), sa.ForeignKey("review_items.id"), primary_key=True),
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("queue", sa.String(63), nullable=False, index=True),
    sa.Column("expires_at", sa.String(32), nullable=False),
)

review_labels = sa.Table(
    "review_labels",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("item", sa.String(40), sa.ForeignKey("review_items.id"), nullable=False, index=True),
    sa.Column("queue", sa.String(63), nullable=False, index=True),
    sa.Column("key", sa.String(40), nullable=False),
    sa.Column("annotator", sa.String(100), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("correction", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("once", sa.String(100), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("undone_at", sa.String(32), nullable=False),
    sa.Column("version", sa.String(80), nullable=False),
    sa.UniqueConstraint("key", "once"),
)


@dataclass(frozen=True)
class Who:
    """An annotator: the key that they sign in with, and its name."""

    key: str
    name: str


@dataclass(frozen=True)
class Item:
    """One thing to look at: an interaction by its id, or a row as `dataset@2:<key>`; why it was chosen, in figures."""

    id: str
    queue: str
    kind: str
    ref: str
    reason: str
    why: dict[str, Any]
    chance: bool
    priority: float
    wanted: int
    state: str
    created_at: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Label:
    """What one annotator said of one item."""

    id: str
    item: str
    queue: str
    key: str
    annotator: str
    verdict: str
    correction: str
    note: str
    once: str
    at: str
    undone_at: str
    version: str

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return {name: value for name, value in self.__dict__.items() if name != "once"}


@dataclass(frozen=True)
class Candidate:
    """Something that is worth labelling, and why."""

    kind: str
    ref: str
    reason: str
    why: Mapping[str, Any]


def put(conn: sa.Connection, queue: Queue, found: Iterable[tuple[Candidate, int]], *, actor: str) -> int:
    """Put candidates at the end of a queue, each with how many annotators are wanted, but those it has. Returns how many."""
    queues.get(conn, queue.name, alone=True)
    lowest = conn.execute(
        sa.select(sa.func.min(review_items.c.priority)).where(review_items.c.queue == queue.name)
    ).scalar()
    place, added, now = min(0.0, lowest or 0.0), 0, clock.iso()
    for one, wanted in found:
        known = sa.select(review_items.c.id).where(review_items.c.queue == queue.name, review_items.c.ref == one.ref)
        if conn.execute(known).first():
            continue
        place, added = place - 1, added + 1
        conn.execute(review_items.insert().values(
            id=ids.new("item"), queue=queue.name, kind=one.kind, ref=one.ref, reason=one.reason, why=dict(one.why),
            chance=one.reason == "random",
            priority=place, wanted=wanted, state="open", created_at=now,
        ))  # fmt: skip
    if added:
        audit.record(conn, actor=actor, action="review.filled", subject=queue.name, detail={"items": added})
    return added


def take(conn: sa.Connection, queue: Queue, who: Who) -> Item | None:
    """The next item for an annotator, theirs while the lease lasts; the same when they ask again. None: nothing waits for them."""
    queues.get(conn, queue.name, alone=True)
    now = clock.iso()
    conn.execute(review_leases.delete().where(review_leases.c.queue == queue.name, review_leases.c.expires_at <= now))
    mine = sa.select(review_leases.c.item).where(review_leases.c.queue == queue.name, review_leases.c.key == who.key)
    held = conn.execute(mine).scalars().first()
    found = held or conn.execute(_waiting(queue.name, who.key).limit(1)).scalars().first()
    if found is None:
        return None
    _lease(conn, queue, found, who.key)
    return get(conn, found)


def _waiting(queue: str, key: str) -> sa.Select[Any]:
    """Items that want somebody else, in order, but for those that this annotator has seen."""
    items, labels, leases = review_items.c, review_labels.c, review_leases.c
    said = (labels.item == items.id) & (labels.undone_at == "")
    seen = sa.select(labels.id).where(said, labels.key == key).exists()
    given = sa.select(sa.func.count()).where(said, labels.verdict != "skip").scalar_subquery()
    leased = sa.select(sa.func.count()).where(leases.item == items.id, leases.key != key).scalar_subquery()
    wants = given + leased < items.wanted
    query = sa.select(items.id).where(items.queue == queue, items.state == "open", ~seen, wants)
    return query.order_by(items.priority.desc(), items.id)


def _lease(conn: sa.Connection, queue: Queue, item: str, key: str) -> None:
    conn.execute(review_leases.delete().where(review_leases.c.item == item, review_leases.c.key == key))
    until = clock.iso(clock.now() + timedelta(seconds=queue.lease_s))
    conn.execute(review_leases.insert().values(item=item, key=key, queue=queue.name, expires_at=until))


def answer(
    conn: sa.Connection,
    queue: Queue,
    item: str,
    who: Who,
    *,
    verdict: str,
    correction: str = "",
    note: str = "",
    once: str,
) -> Label:
    """Keep what an annotator said. The same `once` again is the same label.

    Raises:
        Invalid: No such verdict, or a correction that is empty. NotFound: No such item in the queue.
        Conflict: The item is settled, or somebody else has it since the lease expired.
    """
    _check(verdict, correction, note)
    queues.get(conn, queue.name, alone=True)
    again = conn.execute(
        sa.select(review_labels).where(review_labels.c.key == who.key, review_labels.c.once == once)
    ).first()
    if again:
        return Label(**again._mapping)
    one = get(conn, item)
    if one.queue != queue.name:
        raise NotFound(f"no item {item!r} in {queue.name}", where="review", remedy="ask for the next one")
    if conn.execute(_waiting(queue.name, who.key).where(review_items.c.id == item)).first() is None:
        raise Conflict(
            "this item is settled, or somebody else has it by now",
            where=f"review of {queue.name}",
            remedy="go on with the next one",
        )
    label = Label(ids.new("label"), item, queue.name, who.key, who.name, verdict, correction if verdict == "correct" else "",
                  note, once, clock.iso(), "", "")  # fmt: skip
    conn.execute(review_labels.insert().values(label.__dict__))
    conn.execute(review_leases.delete().where(review_leases.c.item == item, review_leases.c.key == who.key))
    _settle(conn, one)
    audit.record(
        conn, actor=who.name, action="review.labelled", subject=item, detail={"queue": queue.name, "verdict": verdict}
    )
    return label


def _check(verdict: str, correction: str, note: str) -> None:
    if verdict not in VERDICTS:
        raise Invalid(f"no verdict {verdict!r}", where="verdict", remedy=f"choose one of {', '.join(VERDICTS)}")
    if verdict == "correct" and not correction.strip():
        raise Invalid(
            "a correction says what the answer should have been", where="correction", remedy="write it, or say `wrong`"
        )
    if len(correction) > LONGEST or len(note) > LONGEST:
        raise Invalid(f"over {LONGEST} characters", where="correction", remedy="write less")


def _settle(conn: sa.Connection, item: Item) -> None:
    """Close an item that has its labels; ask a third annotator where two disagree; put aside what several skip."""
    said = labels_of(conn, item.id)
    given = [one for one in said if one.verdict != "skip"]
    values: dict[str, Any] = {}
    if len(given) >= item.wanted:
        split = len({one.verdict == "right" for one in given}) > 1
        tied = split and len(given) % 2 == 0 and len(given) < TIEBREAK
        values = {"wanted": TIEBREAK, "reason": "annotators", "priority": FIRST} if tied else {"state": "done"}
    elif len(said) - len(given) >= MOST_SKIPS:
        values = {"state": "skipped"}
    if values:
        conn.execute(review_items.update().where(review_items.c.id == item.id).values(values))


def undo(conn: sa.Connection, queue: Queue, who: Who) -> Item:
    """Take the annotator's last label back, and give them the item again.

    Raises Conflict when there is none, or when a dataset version was made of it.
    """
    queues.get(conn, queue.name, alone=True)
    mine = sa.select(review_labels).where(
        review_labels.c.queue == queue.name, review_labels.c.key == who.key, review_labels.c.undone_at == ""
    )
    last = conn.execute(mine.order_by(review_labels.c.at.desc(), review_labels.c.id.desc()).limit(1)).first()
    if last is None or last.version:
        told = f"{last.version} was made of your last label" if last else "you have labelled nothing here"
        raise Conflict(told, where=f"review of {queue.name}", remedy="go on with the next one")
    conn.execute(review_labels.update().where(review_labels.c.id == last.id).values(undone_at=clock.iso()))
    conn.execute(review_items.update().where(review_items.c.id == last.item).values(state="open"))
    conn.execute(review_leases.delete().where(review_leases.c.queue == queue.name, review_leases.c.key == who.key))
    _lease(conn, queue, last.item, who.key)
    audit.record(
        conn, actor=who.name, action="review.undone", subject=last.item, detail={"queue": queue.name, "label": last.id}
    )
    return get(conn, last.item)


def gone(conn: sa.Connection, item: str) -> None:
    """What an item speaks of is not there any more: erased, or beyond its retention. Corrections go with it."""
    conn.execute(review_items.update().where(review_items.c.id == item).values(state="gone"))
    conn.execute(review_leases.delete().where(review_leases.c.item == item))
    conn.execute(review_labels.update().where(review_labels.c.item == item).values(correction="", note=""))


def get(conn: sa.Connection, item: str) -> Item:
    """One item. Raises NotFound."""
    found = conn.execute(sa.select(review_items).where(review_items.c.id == item)).first()
    if found is None:
        raise NotFound(f"no item {item!r}", where="review", remedy="ask for the next one")
    return Item(**found._mapping)


def labels_of(conn: sa.Connection, item: str) -> list[Label]:
    """What was said of an item and not taken back, oldest first."""
    query = sa.select(review_labels).where(review_labels.c.item == item, review_labels.c.undone_at == "")
    return [Label(**row._mapping) for row in conn.execute(query.order_by(review_labels.c.at, review_labels.c.id))]


def labels(conn: sa.Connection, queue: str, *, after: str = "", limit: int = 200) -> list[Label]:
    """What was said in a queue and not taken back, in the order of time; `after` is the id of the last one seen."""
    query = sa.select(review_labels).where(
        review_labels.c.queue == queue, review_labels.c.undone_at == "", review_labels.c.id > after
    )
    return [Label(**row._mapping) for row in conn.execute(query.order_by(review_labels.c.id).limit(limit))]


def untaken(conn: sa.Connection, queue: str) -> list[tuple[Item, list[Label]]]:
    """Settled items whose labels are in no dataset version yet."""
    waiting = sa.select(review_labels.c.item).where(
        review_labels.c.queue == queue,
        review_labels.c.undone_at == "",
        review_labels.c.version == "",
        review_labels.c.verdict != "skip",
    )
    query = (
        sa.select(review_items)
        .where(review_items.c.state == "done", review_items.c.id.in_(waiting))
        .order_by(review_items.c.id)
    )
    return [(Item(**row._mapping), labels_of(conn, row.id)) for row in conn.execute(query).all()]


def took(conn: sa.Connection, said: Iterable[Label], version: str) -> None:
    """A dataset version was made of these labels. Raises Conflict when one was taken back meanwhile."""
    for label in said:
        mine = (review_labels.c.id == label.id) & (review_labels.c.undone_at == "") & (review_labels.c.version == "")
        if not conn.execute(review_labels.update().where(mine).values(version=version)).rowcount:
            raise Conflict("a label was taken back meanwhile", where=label.item, remedy="commit again")


def counts(conn: sa.Connection, queue: str) -> dict[str, int]:
    """Items by state, and labels that are in no version yet."""
    query = (
        sa.select(review_items.c.state, sa.func.count())
        .where(review_items.c.queue == queue)
        .group_by(review_items.c.state)
    )
    found = {str(state): int(count) for state, count in conn.execute(query)}
    return {
        **{state: found.get(state, 0) for state in ("open", "done", "skipped", "gone")},
        "untaken": len(untaken(conn, queue)),
    }
