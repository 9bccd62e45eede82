"""From frames to rows that are ready to be stored: a batch, its feedback lent model and version, its doubles left out.

Feedback speaks of an interaction by id and may come before it (another worker's segment is read a moment later) or twice
(a client tried again). So it waits for its interaction for a while, and counts once by its id or by the idempotency key of
its sender. Of several votes on one interaction the newest counts: each vote carries what it changes in the counts, so that the
roll-ups move it from one to the other. An interaction is kept once by its id: the gateway never gives one twice, so only the
latest are remembered; an id from elsewhere (a trace that was sent again) is looked for in the store.
What is decided here is written into the batch, so a repeated batch decides nothing anew.
It refuses feedback on another tenant's interaction or on a model that its key is not for, and counts none whose interaction
never came; from a public key it keeps none such, since anybody can make up an id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ciranda.interactions import rows, spool
from ciranda.interactions.progress import Waiting
from ciranda.interactions.rows import Row
from ciranda.interactions.spool import Frame
from ciranda.interactions.sql import EVER, windows

PATIENCE_MS = 600_000
MOST_WAITING = 1_000
REMEMBERED = 20_000
NO_VOTE = (-1, "", 0)
LENT = ("model", "version", "arm", "rollout")

Ask = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]

PLACES = """SELECT id, tenant, model, version, arm, rollout, toUnixTimestamp64Milli(ts) AS ts_ms FROM interactions
WHERE id IN {ids:Array(String)} AND ts >= fromUnixTimestamp64Milli({first:Int64}, 'UTC')
AND ts <= fromUnixTimestamp64Milli({last:Int64}, 'UTC')"""
TAKEN_FEEDBACK = """SELECT id, key, idempotency_key FROM feedback
WHERE id IN {ids:Array(String)} OR idempotency_key IN {keys:Array(String)}"""
STANDING = """SELECT interaction, max((toUnixTimestamp64Milli(ts), id, thumb)) AS newest FROM feedback
WHERE interaction IN {ids:Array(String)} AND thumb != 0 AND model != '' GROUP BY interaction"""
TAKEN_INTERACTIONS = """SELECT id FROM interactions
WHERE id IN {ids:Array(String)} AND ts >= fromUnixTimestamp64Milli({first:Int64}, 'UTC')
AND ts <= fromUnixTimestamp64Milli({last:Int64}, 'UTC')"""
TAKEN_SCORES = "SELECT id FROM scores WHERE id IN {ids:Array(String)}"

READERS: Mapping[int, tuple[str, Callable[[Frame], Row]]] = {
    spool.INTERACTION: ("interactions", rows.interaction),
    spool.STARTED: ("started", rows.started),
    spool.FEEDBACK: ("feedback", rows.feedback),
    spool.SCORE: ("scores", rows.score),
    spool.EVENT: ("events", rows.event),
}


@dataclass
class Parsed:
    """Rows by table, and the frames that could not become one, with the reason."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    bad: list[tuple[Frame, str]] = field(default_factory=list)

    def of(self, table: str) -> list[Row]:
        return self.tables.get(table, [])

    def leave_out(self, doubles: Sequence[int]) -> None:
        """Drop the interactions at these places: they are stored already."""
        if doubles:
            dropped = set(doubles)
            self.tables["interactions"] = [
                row for place, row in enumerate(self.of("interactions")) if place not in dropped
            ]


def parse(frames: Iterable[Frame]) -> Parsed:
    """Read frames; the same frames always give the same rows."""
    parsed = Parsed()
    for frame in frames:
        if frame.kind not in READERS:
            parsed.bad.append((frame, f"no record has the kind {frame.kind}"))
            continue
        table, reader = READERS[frame.kind]
        try:
            parsed.tables.setdefault(table, []).append(reader(frame))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            parsed.bad.append((frame, f"metadata of {table}: {error}"))
    return parsed


@dataclass
class Sorted:
    """What becomes of feedback."""

    ready: list[Row] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)


class Desk:
    """Decides what becomes of feedback and scores.

    Args:
        ask: Runs a SELECT on the store.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._places: OrderedDict[str, Row] = OrderedDict()

    def remember(self, interactions: Iterable[Row]) -> None:
        """Keep where interactions stand, so that feedback on recent ones needs no question."""
        for row in interactions:
            self._places[row["id"]] = {name: row[name] for name in ("tenant", "ts_ms", *LENT)}
        while len(self._places) > REMEMBERED:
            self._places.popitem(last=False)

    def doubles(self, interactions: Sequence[Row]) -> list[int]:
        """Which of these, by their places in the list, are there already or twice among them."""
        foreign = [row for row in interactions if row["id"][14:15] != "7" or len(row["id"]) != 36]
        stored = self._stored(foreign) if foreign else set()
        seen: set[str] = set()
        found = []
        for place, row in enumerate(interactions):
            identifier = row["id"]
            if identifier in seen or identifier in self._places or identifier in stored:
                found.append(place)
            seen.add(identifier)
        return found

    def _stored(self, rows_: Sequence[Row]) -> set[str]:
        """Those of these ids that the store holds at the same time: what comes again comes with its time."""
        moments = [row["ts_ms"] for row in rows_]
        values = {"ids": [row["id"] for row in rows_], "first": min(moments), "last": max(moments)}
        return {row["id"] for row in self._ask(TAKEN_INTERACTIONS, values)}

    def feedback(self, fresh: Sequence[Row], waiting: Sequence[Waiting], now_ms: int) -> Sorted:
        """Which feedback is stored now, complete, which waits for its interaction, and which is refused."""
        queue = [*waiting, *(Waiting(row, now_ms) for row in self._once(fresh, waiting))]
        last = [one for number, one in enumerate(queue)
                if now_ms - one.since_ms >= PATIENCE_MS or len(queue) - number > MOST_WAITING]  # fmt: skip
        places = self._remembered({one.row["interaction"] for one in queue})
        places |= self._find({one.row["interaction"] for one in queue[len(waiting) :]} - places.keys())
        places |= self._find({one.row["interaction"] for one in last} - places.keys(), anywhere=True)
        impatient = {one.row["id"] for one in last}
        sorted_ = Sorted()
        for one in queue:
            place = places.get(one.row["interaction"])
            if place is None and one.row["id"] not in impatient:
                sorted_.waiting.append(one)
            elif _refused(one.row, place):
                sorted_.refused.append(one.row)
            else:
                sorted_.ready.append(_lent(one.row, place))
        return replace(sorted_, ready=self._counted(sorted_.ready))

    def scores(self, fresh: Sequence[Row]) -> list[Row]:
        """Scores that are not there yet; where a scorer named no model, the interaction's is lent."""
        named = {row["id"]: row for row in fresh}
        if not named:
            return []
        for row in self._ask(TAKEN_SCORES, {"ids": list(named)}):
            named.pop(row["id"], None)
        bare = {row["interaction"] for row in named.values() if not row["model"]}
        places = self._remembered(bare)
        places |= self._find(bare - places.keys())
        return [row | _loan(places.get(row["interaction"])) for row in named.values()]

    def _counted(self, ready: Sequence[Row]) -> list[Row]:
        """Each with what it changes in the counts: the newest vote on an interaction stands, the one before is taken back."""
        votes = sorted({row["interaction"] for row in ready if _counts(row)})
        found = self._ask(STANDING, {"ids": votes}) if votes else []
        standing: dict[str, tuple[int, str, int]] = {row["interaction"]: tuple(row["newest"]) for row in found}
        counted = []
        for row in ready:
            before, after = standing.get(row["interaction"], NO_VOTE), (row["ts_ms"], row["id"], row["thumb"])
            if not _counts(row) or after < before:
                counted.append(row | {"thumbs_up": 0, "thumbs_down": 0})
                continue
            standing[row["interaction"]] = after
            up, down = (after[2] > 0) - (before[2] > 0), (after[2] < 0) - (before[2] < 0)
            counted.append(row | {"thumbs_up": up, "thumbs_down": down})
        return counted

    def _once(self, fresh: Sequence[Row], waiting: Sequence[Waiting]) -> list[Row]:
        """Without what is there already: stored, waiting, or twice in the same breath."""
        if not fresh:
            return []
        keys = [row["idempotency_key"] for row in fresh if row["idempotency_key"]]
        stored = self._ask(TAKEN_FEEDBACK, {"ids": [row["id"] for row in fresh], "keys": keys})
        seen = {name for row in (*stored, *(one.row for one in waiting)) for name in _names(row)}
        kept = []
        for row in fresh:
            if not seen.intersection(_names(row)):
                kept.append(row)
                seen.update(_names(row))
        return kept

    def _remembered(self, identifiers: set[str]) -> dict[str, Row]:
        return {name: self._places[name] for name in identifiers if name in self._places}

    def _find(self, identifiers: set[str], *, anywhere: bool = False) -> dict[str, Row]:
        """Where these interactions stand in the store: near the time in their ids, or `anywhere`."""
        windows_ = [(sorted(identifiers), EVER)] if anywhere and identifiers else _by_window(identifiers)
        return {
            row["id"]: row
            for names, (first, last) in windows_
            for row in self._ask(PLACES, {"ids": names, "first": first, "last": last})
        }


def _counts(row: Row) -> bool:
    """Whether it is a vote on an interaction that is known."""
    return bool(row["thumb"] and row["model"])


def due(waiting: Sequence[Waiting], now_ms: int) -> bool:
    """Whether some feedback has waited long enough."""
    return any(now_ms - one.since_ms >= PATIENCE_MS for one in waiting)


def _names(row: Row) -> set[tuple[str, ...]]:
    """The names under which one feedback may be known."""
    names: set[tuple[str, ...]] = {(row["id"],)}
    return names | {(row["key"], row["idempotency_key"])} if row["idempotency_key"] else names


def _refused(row: Row, place: Row | None) -> bool:
    """Whether the sender of this feedback has no business with its interaction."""
    if place is None:
        return bool(row.get("public"))
    models = row.get("models")
    return place["tenant"] != row["tenant"] or (models is not None and place["model"] not in models)


def _lent(row: Row, place: Row | None) -> Row:
    """Feedback with what its interaction lends it; of an unknown one nothing."""
    nothing = dict.fromkeys(LENT, "")
    return row | nothing | _loan(place) | {"interaction_ts_ms": place["ts_ms"] if place else row["ts_ms"]}


def _loan(place: Row | None) -> Row:
    return {name: place[name] for name in LENT} if place else {}


def _by_window(identifiers: set[str]) -> list[tuple[list[str], tuple[int, int]]]:
    """Ids with the stretch of time to look for them in: narrow for those that carry a time, all of it for the others."""
    narrow = {name: windows(name)[0] for name in identifiers}
    dated = [name for name, window in narrow.items() if window != EVER]
    spans = [narrow[name] for name in dated]
    groups = [(dated, (min(first for first, _ in spans), max(last for _, last in spans)))] if dated else []
    rest = sorted(identifiers.difference(dated))
    return [*groups, (rest, EVER)] if rest else groups
