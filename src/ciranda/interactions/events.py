"""What happened at the gateway beside answers, read back: tries that failed before another one answered, texts that were judged,
tokens that were counted.

They are few beside interactions, so a page is a plain reading from the newest on. What an event says of itself is JSON and differs
by kind (`detail`); what all have in common are columns. A try that failed names its interaction, so an answer that took a second
engine can be explained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from ciranda.interactions import sql
from ciranda.interactions.client import Line
from ciranda.interactions.filters import milliseconds, where
from ciranda.store import clock

KINDS = ("try_failed", "tokens_counted", "texts_judged")
MOST = 50  # failed tries of one request; its bound of tries is far below

_EVENTS = "SELECT id, toUnixTimestamp64Milli(ts) AS ts_ms, kind, model, meta FROM events"
_PAGE = " ORDER BY ts DESC, id DESC LIMIT {limit:UInt32}"
_OF = f"""{_EVENTS} WHERE {sql.WITHIN} AND JSONExtractString(meta, 'interaction') = {{interaction:String}}
ORDER BY ts, id LIMIT {MOST}"""
_LONGEST_MS = 3_600_000  # a try fails within this after its request came


class Wanted(TypedDict, total=False):
    """Which events; None and the empty text mean not asked for. `since` is included, `until` is not."""

    kind: str | None
    model: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class Event:
    """One event. `detail` holds all that the gateway noted; for a failed try its interaction, version, replica and reason."""

    id: str
    ts_ms: int
    kind: str
    model: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The cursor that goes on after it."""
        return f"{self.ts_ms}.{self.id}"


def page(line: Line, after: tuple[int, str] | None, limit: int, wanted: Wanted) -> list[Event]:
    """Events, newest first, from before the place `after` on.

    Raises:
        Invalid: a time without zone.
    """
    conditions = [f"{name} = {{{name}:String}}" for name in ("kind", "model") if wanted.get(name)]
    values: dict[str, Any] = {name: wanted[name] for name in ("kind", "model") if wanted.get(name)}
    first, last = wanted.get("since"), wanted.get("until")
    values |= {"first": milliseconds(first) if first else 0, "last": milliseconds(last) - 1 if last else clock.now_ms()}
    if after is not None:
        conditions.append("(ts, id) < (fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC'), {before:String})")
        values |= {"before_ms": after[0], "before": after[1]}
    question = _EVENTS + where([sql.WITHIN, *conditions]) + _PAGE
    return _read(line.rows(question, values | {"limit": sql.bounded(limit)}))


def of(line: Line, interaction: str) -> list[Event]:
    """What happened to one interaction on its way, oldest first. Ids that carry no moment are not the gateway's: nothing."""
    near = sql.windows(interaction)
    if len(near) == 1:
        return []
    first, last = near[0]
    return _read(line.rows(_OF, {"interaction": interaction, "first": first, "last": last + _LONGEST_MS}))


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Event]:
    return [Event(row["id"], row["ts_ms"], row["kind"], row["model"], _detail(row["meta"])) for row in rows]


def _detail(meta: str) -> dict[str, Any]:
    """What is not a column of its own."""
    return {
        name: value for name, value in json.loads(meta).items() if name not in ("id", "ts_ms", "event", "kind", "model")
    }
