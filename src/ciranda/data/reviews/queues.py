"""Queues: what is reviewed, and what labels become.

    answers    right and corrected answers become rows to learn from; a wrong one alone makes none
    labelled   every answer becomes a row with thumb up or down (for methods that learn from both)
    pairs      a correction becomes a preference pair: the corrected answer over the one that was given

Labels of a dataset's own rows change them: a right row stays and says who found so, a corrected one is replaced, a wrong one goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ciranda.errors import Conflict, NotFound
from ciranda.govern import audit
from ciranda.store import clock
from ciranda.store.database import metadata

Makes = Literal["answers", "labelled", "pairs"]

review_queues = sa.Table(
    "review_queues",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("dataset", sa.String(63), nullable=False),
    sa.Column("makes", sa.String(16), nullable=False),
    sa.Column("instructions", sa.Text, nullable=False),
    sa.Column("twice", sa.Float, nullable=False),
    sa.Column("random", sa.Float, nullable=False),
    sa.Column("lease_s", sa.Float, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class Queue:
    """One queue.

    Args:
        model: Whose answers are reviewed; empty for a queue of a dataset's rows alone.
        dataset: Where rows go, and whose rows may be reviewed.
        twice: Share of items that two annotators are asked, to know how far they agree.
        random: Share of items that are chosen at random, so that the share of right answers can be told.
        lease_s: Seconds that an item is one annotator's alone.
    """

    name: str
    model: str
    dataset: str
    makes: Makes = "answers"
    instructions: str = ""
    twice: float = 0.1
    random: float = 0.2
    lease_s: float = 600.0
    created_at: str = ""
    created_by: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the REST API shows it."""
        return dict(self.__dict__)


def put(conn: sa.Connection, queue: Queue, *, actor: str) -> Queue:
    """Make a queue, or change the settings of the one of that name. Raises Conflict when its model or dataset would change."""
    known = conn.execute(sa.select(review_queues).where(review_queues.c.name == queue.name)).first()
    values = {**queue.__dict__, "created_at": clock.iso(), "created_by": actor}
    if known is None:
        conn.execute(review_queues.insert().values(values))
    elif (known.model, known.dataset) != (queue.model, queue.dataset):
        raise Conflict(
            f"queue {queue.name} reviews {known.model or known.dataset} for {known.dataset}", where="review",
            remedy="give the new queue another name",
        )  # fmt: skip
    else:
        values |= {"created_at": known.created_at, "created_by": known.created_by}
        conn.execute(review_queues.update().where(review_queues.c.name == queue.name).values(values))
    detail = {name: values[name] for name in ("model", "dataset", "makes", "twice", "random", "lease_s")}
    audit.record(conn, actor=actor, action="review.queue_set", subject=queue.name, detail=detail)
    return Queue(**values)


def get(conn: sa.Connection, name: str, *, alone: bool = False) -> Queue:
    """One queue; `alone` keeps other writers out of it until the transaction ends. Raises NotFound."""
    query = sa.select(review_queues).where(review_queues.c.name == name)
    found = conn.execute(query.with_for_update() if alone else query).first()
    if found is None:
        raise NotFound(
            f"no review queue {name!r}", where="review", remedy="`ciranda review` lists them; `ciranda review create`"
        )
    return Queue(**found._mapping)


def every(conn: sa.Connection, *, after: str = "", limit: int = 200) -> list[Queue]:
    """Queues by name."""
    query = sa.select(review_queues).where(review_queues.c.name > after).order_by(review_queues.c.name).limit(limit)
    return [Queue(**row._mapping) for row in conn.execute(query)]
