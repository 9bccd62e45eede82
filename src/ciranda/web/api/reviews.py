"""Review: queues, the next item, what was said of it, and the dataset version that comes of it."""

from __future__ import annotations

from typing import Any

from ciranda.data.reviews import items, queues
from ciranda.data.reviews.queues import Queue
from ciranda.data.reviews.taught import Shown
from ciranda.errors import Forbidden, Invalid
from ciranda.loop import reviews
from ciranda.web.api import rows
from ciranda.web.api.asked import Nothing, Page, ReviewAnswer, ReviewFill, ReviewQueue
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def listing(call: Call[Page]) -> Item:
    """Queues by name, with what waits in each."""
    with call.platform.db.reading() as conn:
        found = queues.every(conn, after=call.asked.cursor, limit=call.asked.limit + 1)
        counted = {one.name: items.counts(conn, one.name) for one in found}
    shown = found[: call.asked.limit]
    mine = [{**one.to_dict(), "items": counted[one.name]} for one in shown if _reaches(call, one)]
    return rows.listed(mine, shown[-1].name if len(found) > len(shown) else None)


def one(call: Call[Nothing]) -> Item:
    """One queue: its counts, its annotators, how far they agree, how many answers are right."""
    return reviews.told(call.platform, demand(call).name)


def create(call: Call[ReviewQueue]) -> Item:
    """Make a queue, or change its settings."""
    asked = call.asked
    if asked.model:
        call.require(asked.model, right="data")
    values = asked.model_dump(exclude={"lease"})
    queue = Queue(**{**values, "dataset": asked.dataset or asked.model, "lease_s": asked.lease})
    if not queue.dataset:
        raise Invalid(
            "neither a model nor a dataset", where="body", remedy="name whose answers, or whose rows, are reviewed"
        )
    if not _reaches(call, queue):
        raise Forbidden(
            "the key does not reach this dataset", where="dataset", remedy="ask an admin for a key that does"
        )
    with call.platform.db.writing() as conn:
        return queues.put(conn, queue, actor=call.actor).to_dict()


def fill(call: Call[ReviewFill]) -> Item:
    """Choose what is most worth labelling."""
    asked = call.asked
    return reviews.fill(
        call.platform, demand(call).name, call.principal, count=asked.count, of=asked.of, days=asked.days, ref=asked.ref
    )


def following(call: Call[Nothing]) -> Item:
    """The next item for whoever asks, theirs for a while; `item` is null when nothing waits for them."""
    found = reviews.ask(call.platform, demand(call).name, call.principal)
    return {"item": None} if found is None else {"item": {**found[0].to_dict(), **_shown(found[1])}}


def _shown(shown: Shown) -> dict[str, Any]:
    return {
        "messages": [message.to_dict() for message in shown.messages], "answer": shown.answer, "language": shown.language,
        "thumb": shown.thumb, "version": shown.version, "at": shown.at, "scores": dict(shown.scores),
    }  # fmt: skip


def say(call: Call[ReviewAnswer]) -> Item:
    """Right, wrong, corrected, or skipped. The same Idempotency-Key again is the same label."""
    asked = call.asked
    label = reviews.say(
        call.platform, demand(call).name, asked.item, call.principal, verdict=asked.verdict, correction=asked.correction,
        note=asked.note, once=call.key[:100],
    )  # fmt: skip
    return label.to_dict()


def undo(call: Call[Nothing]) -> Item:
    """Take the last label back; the item is theirs again."""
    return {"item": reviews.undo(call.platform, demand(call).name, call.principal).to_dict()}


def labels(call: Call[Page]) -> Item:
    """What was said, in the order of time."""
    name = demand(call).name
    with call.platform.db.reading() as conn:
        found = items.labels(conn, name, after=call.asked.cursor, limit=call.asked.limit + 1)
    shown = found[: call.asked.limit]
    return rows.listed([one.to_dict() for one in shown], shown[-1].id if len(found) > len(shown) else None)


def commit(call: Call[Nothing]) -> Item:
    """Make a dataset version of what was said since the last one."""
    return reviews.commit(call.platform, demand(call).name, call.principal)


def demand(call: Call[Any]) -> Queue:
    """The queue in the address, once the key reaches it. Raises NotFound, Forbidden."""
    with call.platform.db.reading() as conn:
        queue = queues.get(conn, call.path["queue"])
    if not _reaches(call, queue):
        call.require(queue.model or queue.dataset)
    return queue


def _reaches(call: Call[Any], queue: Queue) -> bool:
    return reviews.reached(call.platform, queue, call.principal.models)
