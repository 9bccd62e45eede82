"""Review queues as the pages show them."""

from __future__ import annotations

from collections.abc import Sequence

from ciranda.data.reviews import items, queues
from ciranda.data.reviews.items import Item
from ciranda.data.reviews.queues import Queue
from ciranda.data.reviews.taught import Shown
from ciranda.govern.access import Principal
from ciranda.loop import reviews
from ciranda.loop.platform import Platform
from ciranda.web.views.reviews import Looked, QueuePage, QueueRow


def listing(platform: Platform, reach: Sequence[str]) -> tuple[QueueRow, ...]:
    """The queues that a key reaches."""
    with platform.db.reading() as conn:
        found = [(one, items.counts(conn, one.name)) for one in queues.every(conn)]
    return tuple(_row(one, counted) for one, counted in found if reviews.reached(platform, one, tuple(reach)))


def single(platform: Platform, name: str, who: Principal) -> QueuePage:
    """One queue with its figures. Raises NotFound."""
    told = reviews.told(platform, name)
    with platform.db.reading() as conn:
        row = _row(queues.get(conn, name), told["items"])
    right = told["right"]
    people = tuple((person, one["right"], one["wrong"], one["correct"]) for person, one in told["annotators"].items())
    return QueuePage(
        row, told["instructions"], people,
        tuple((one["name"], one["value"], one["low"], one["high"], one["n"]) for one in told["agreement"]),
        (right["share"], right["low"], right["high"], right["n"]) if right["n"] else None,
        sum(told["annotators"].get(who.name, {}).values()),
    )  # fmt: skip


def _row(queue: Queue, counted: dict[str, int]) -> QueueRow:
    return QueueRow(
        queue.name, queue.model, queue.dataset, queue.makes, counted["open"], counted["done"], counted["untaken"]
    )


def looked(item: Item, shown: Shown) -> Looked:
    """An item as it is looked at."""
    turns = tuple((message.role, message.content) for message in shown.messages)
    return Looked(
        item.id, item.reason, item.why, turns, shown.answer, shown.version, shown.at, shown.thumb, shown.scores,
        item.ref if item.kind == "interaction" else "",
    )  # fmt: skip
