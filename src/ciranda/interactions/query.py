"""Questions to the store of interactions, asked by pages, monitors, rollouts and the data side. Answers are frozen values.

Values reach SQL only as bound parameters; the text of a query is made of constants. Lists are paged by key (time, id),
never by offset. Readers that must see everything once use `since` and its cursor, which follows the order of arrival, so
that a row that comes late is not missed.
It refuses to write anything but scores: interactions and feedback come through the spool alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Unpack

from ciranda import config
from ciranda.errors import Failed, Invalid, NotFound
from ciranda.interactions import erasure, events, sql
from ciranda.interactions.answers import Correction, Glance, Mean, Pair, Point, Total
from ciranda.interactions.client import Address, Line, address_of
from ciranda.interactions.events import Event
from ciranda.interactions.filters import Filters, counted, filters, milliseconds, place, where
from ciranda.interactions.table import SCORE_STORED, Feedback, Interaction, Score, feedback_of, moment
from ciranda.store import clock

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FEW = frozenset({"model", "user", "conversation"})
PAGE = 500

__all__ = [
    "Correction",
    "Event",
    "Feedback",
    "Glance",
    "Interaction",
    "Interactions",
    "Mean",
    "Pair",
    "Point",
    "Score",
    "Total",
]


class Interactions:
    """The store of interactions, seen from outside the collector. Safe to share between threads.

    Args:
        url: Where the collector (or a ClickHouse) listens.
        token: The collector's, from run/collector.json; empty for a ClickHouse with user and password in its URL.

    Every method raises Unavailable while the collector is down; a restart of it is survived by itself.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._line = Line(lambda: Address(url, token))

    @classmethod
    def at(cls, home: config.Home) -> Interactions:
        """The store of a home. It is looked for at the first question, and again after the collector has restarted."""
        self = cls("")
        self._line = Line(lambda: address_of(home))
        return self

    def close(self) -> None:
        """Give the sockets back."""
        self._line.close()

    def theirs(self, name: str, *, mentions: bool = False) -> tuple[dict[str, list[str]], list[dict[str, str]]]:
        """What is kept of a person: ids by table, and what stands in their requests, answers, corrections and comments."""
        found = erasure.ids_of(self._line, name, mentions=mentions)
        said: list[dict[str, str]] = []
        for kind in ("interactions", "feedback"):
            for at in range(0, len(found[kind]), PAGE):
                said += self._line.rows(sql.TEXTS[kind], {"ids": found[kind][at : at + PAGE]})
        return found, said

    # One by one and page by page

    def get(self, identifier: str) -> Interaction | None:
        """One interaction with its feedback and scores, or None."""
        for first, last in sql.windows(identifier):
            if found := self._line.rows(sql.WHOLE, {"ids": [identifier], "first": first, "last": last}):
                return self._with_opinions([Interaction(**found[0])])[0]
        return None

    def several(self, identifiers: Sequence[str]) -> dict[str, Interaction]:
        """Interactions with feedback and scores by their ids, as far as they are there."""
        found: dict[str, Interaction] = {}
        for at in range(0, len(identifiers), PAGE):
            part = identifiers[at : at + PAGE]
            near = [window for one in part for window in islice(sql.windows(one), 1)]
            bounds = {"first": min(first for first, _ in near), "last": max(last for _, last in near)}
            question = f"{sql.KEYS} WHERE id IN {{ids:Array(String)}} AND {sql.WITHIN}"
            whole = self._whole(self._line.rows(question, {"ids": list(part), **bounds}), opinions=True)
            found |= {one.id: one for one in whole}
        for one in set(identifiers) - set(found):
            found |= {one: late} if (late := self.get(one)) else {}
        return found

    def page(self, *, before: str | None = None, limit: int = 50, **chosen: Unpack[Filters]) -> list[Interaction]:
        """Interactions, newest first, with feedback and scores.

        Args:
            before: The `place` (or the id) of the last one seen: the page goes on after it. A place holds for ever, also when
                that interaction is gone.
            limit: At most 10,000.

        Raises:
            NotFound: `before` is an id and names no interaction.
        """
        return self._whole(self._keys(before, limit, chosen), opinions=True)

    def glance(self, *, before: str | None = None, limit: int = 50, **chosen: Unpack[Filters]) -> list[Glance]:
        """The same page as lines of a list, for a fraction of the cost: no bodies, texts cut to `schema.SHOWN` characters."""
        rows = self._keys(before, limit, chosen, sql.GLANCE)
        if not rows:
            return []
        if thumb := chosen.get("thumb"):
            return [Glance.of(row, thumb) for row in rows]
        oldest = min(row["ts_ms"] for row in rows)
        found = self._line.rows(sql.VOTES_OF, {"ids": [row["id"] for row in rows], "recent": oldest})
        votes = {row["interaction"]: row["newest"] for row in found}
        return [Glance.of(row, votes.get(row["id"], 0)) for row in rows]

    def _keys(self, before: str | None, limit: int, chosen: Filters, head: str = sql.KEYS) -> list[dict[str, Any]]:
        """The keys of a page, newest first; or what `head` selects of it."""
        conditions, values = filters(chosen)
        until = chosen.get("until")
        end_ms = milliseconds(until) if until else clock.now_ms()
        if before is not None:
            conditions += [sql.BEFORE, "ts <= fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC')"]
            values |= self._place(before)
            end_ms = min(end_ms, values["before_ms"])
        values |= {"limit": sql.bounded(limit), "end_ms": end_ms}
        return self._newest(head + where([*conditions, sql.RECENT]) + sql.NEWEST, values, counted(chosen))

    def events(self, *, before: str | None = None, limit: int = 50, **wanted: Unpack[events.Wanted]) -> list[Event]:
        """What happened at the gateway beside answers, newest first.

        Args:
            before: The `place` of the last one seen.

        Raises:
            Invalid: `before` is no place.
        """
        after = place(before) if before else None
        if before and after is None:
            raise Invalid(
                f"{before!r} is no place in the list", where="before", remedy="leave it out to begin at the newest"
            )
        return events.page(self._line, after, limit, wanted)

    def events_of(self, interaction: str) -> list[Event]:
        """What happened to one interaction on its way, such as tries that failed before another answered; oldest first."""
        return events.of(self._line, interaction)

    def count(self, **chosen: Unpack[Filters]) -> int:
        """How many interactions the filters leave."""
        conditions, values = filters(chosen)
        rows = self._line.rows(sql.COUNT + where(conditions), values)
        return int(rows[0]["n"])

    def everything(self, **chosen: Unpack[Filters]) -> Iterator[Interaction]:
        """All that the filters leave and that had arrived when it began, oldest first, with feedback and scores.

        It holds no more than a few hundred in memory, day by day, so that it may run over all of the store.
        """
        conditions, values = filters(chosen)
        conditions.append("sequence <= {arrived:UInt64}")
        values["arrived"] = int(self.cursor())
        for row in self._line.rows(sql.DAYS.format(where(conditions)), values):
            yield from self._day([*conditions, sql.WITHIN], values | {"first": row["first"], "last": row["last"]})

    def _day(self, conditions: list[str], values: dict[str, Any]) -> Iterator[Interaction]:
        """One day of `everything`; a page that is too large for one answer is asked for in halves."""
        limit, last = PAGE, (values["first"] - 1, "")
        behind = "(ts, id) > (fromUnixTimestamp64Milli({behind_ms:Int64}, 'UTC'), {behind:String})"
        question = sql.KEYS + where([*conditions, behind]) + " ORDER BY ts, id LIMIT {limit:UInt32}"
        while keys := self._line.rows(question, values | {"behind_ms": last[0], "behind": last[1], "limit": PAGE}):
            while keys:
                try:
                    found = self._whole(keys[:limit], opinions=True)
                except Failed:
                    if limit == 1:
                        raise
                    limit = max(1, limit // 4)
                    continue
                yield from found
                last, keys = (keys[:limit][-1]["ts_ms"], keys[:limit][-1]["id"]), keys[limit:]

    # In the order of arrival, for those who must see everything once

    def cursor(self) -> str:
        """The cursor of now: `since` and its siblings then give what comes from here on."""
        return str(self._line.rows(sql.LATEST)[0]["n"])

    def since(self, cursor: str | None, *, limit: int = 500, **chosen: Unpack[Filters]) -> list[Interaction]:
        """The next interactions in the order of arrival, without feedback and scores; `None` begins at the first."""
        conditions, values = filters(chosen)
        question = sql.KEYS + where(["sequence > {after:UInt64}", *conditions]) + sql.ARRIVING
        return self._whole(self._line.rows(question, values | sql.after(cursor, limit)))

    def feedback_since(self, cursor: str | None, *, model: str | None = None, limit: int = 500) -> list[Feedback]:
        """The next feedback in the order of arrival; `None` begins at the first."""
        return [feedback_of(row) for row in self._line.rows(*_following(sql.FEEDBACK_SINCE, cursor, model, limit))]

    def spoken_of(self, votes: Sequence[Feedback]) -> list[Interaction]:
        """The interactions that these votes speak of, in the order of the votes, without feedback and scores."""
        keys = {vote.interaction: {"id": vote.interaction, "ts_ms": vote.interaction_ts_ms} for vote in votes}
        named = list(keys.values())
        return [one for place in range(0, len(named), 500) for one in self._whole(named[place : place + 500])]

    def pairs(self, rollout: str, cursor: str | None = None, *, limit: int = 500) -> list[Pair]:
        """Live and shadow answers to the same request in one rollout; each pair comes once, with its later half."""
        rows = self._line.rows(sql.PAIRS, {"rollout": rollout, **sql.after(cursor, limit)})
        halves = [{"id": row[half], "ts_ms": row[f"{half}_ms"]} for row in rows for half in ("live", "shadow")]
        whole = {one.id: one for one in self._whole(halves)}
        return [Pair(whole[row["live"]], whole[row["shadow"]]) for row in rows]

    def corrections(
        self, model: str, cursor: str | None = None, *, since: datetime | None = None, limit: int = 500
    ) -> list[Correction]:
        """What users put right, in the order of arrival, with the messages that were sent."""
        extra = " AND correction != '' AND feedback.ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')"
        question, values = _following(sql.FEEDBACK_SINCE, cursor, model, limit, extra=extra)
        values["since"] = milliseconds(since) if since else 0
        given = [feedback_of(row) for row in self._line.rows(question, values)]
        asked = {
            one.id: one for one in self._whole([{"id": f.interaction, "ts_ms": f.interaction_ts_ms} for f in given])
        }
        return [Correction.of(one, asked[one.interaction]) for one in given if one.interaction in asked]

    # Figures

    def series(
        self,
        model: str = "",
        *,
        version: str | None = None,
        arm: str | None = None,
        since: datetime | None = None,
        step_s: int = 60,
    ) -> list[Point]:
        """Figures by model and version over time, oldest first; steps without traffic are absent.

        Args:
            model: One model; without it all of them.
            arm: One arm; without it all but the shadow, which no user sees.
            since: The last hour without it.
            step_s: From 60 on it reads the roll-ups, in whole minutes or hours; below it reads the rows themselves.
        """
        span = _span(step_s)
        values = {
            "model": model, "version": version or "", "arm": arm or "", "step": max(1, step_s // span * span),
            "since": milliseconds(since or clock.now() - timedelta(hours=1)),
        }  # fmt: skip
        question = {3600: sql.series("hours"), 60: sql.series("minutes"), 1: sql.SERIES_OF_ROWS}[span]
        return [Point.of(row) for row in self._line.rows(question, values)]

    def means(self, model: str, *, since: datetime, step_s: int = 60) -> list[Mean]:
        """What scorers thought of a model's answers over time, by version, in whole minutes of when they were scored."""
        values = {"model": model, "step": max(60, step_s // 60 * 60), "since": milliseconds(since)}
        return [
            Mean(moment(row["t"] * 1000), row["version"], row["scorer"], row["mean"], int(row["count"]))
            for row in self._line.rows(sql.SCORE_SERIES, values)
        ]

    def totals(
        self, since: datetime | None = None, *, model: str | None = None, rollout: str | None = None
    ) -> list[Total]:
        """Counts by model, version and arm, of all time or since a moment.

        They begin with the minute that `since` falls in.
        """
        since_ms = milliseconds(since) if since else 0
        values = {"model": model or "", "rollout": rollout or "", "since": since_ms}
        means: dict[tuple[str, str, str], dict[str, float]] = {}
        for row in self._line.rows(sql.SCORE_MEANS, values):
            means.setdefault((row["model"], row["version"], row["arm"]), {})[row["scorer"]] = row["mean"]
        return [
            Total.of(row, means.get((row["model"], row["version"], row["arm"]), {}))
            for row in self._line.rows(sql.TOTALS, values)
        ]

    def interrupted(self, since: datetime, *, older_than_s: int = 600) -> list[Mapping[str, Any]]:
        """Streams that began and whose end was never recorded: what was in flight when a gateway died."""
        values = {"since": milliseconds(since), "until": clock.now_ms() - older_than_s * 1000}
        return [json.loads(row["meta"]) for row in self._line.rows(sql.INTERRUPTED, values)]

    # The one thing that is written from here

    def insert_scores(self, scores: Iterable[Score]) -> int:
        """Store scores and say how many were new: an id that is there already is left alone.

        A score without an id gets `<interaction>:<scorer>`, so that a monitor that died between storing and remembering
        may score the same interactions again.
        """
        named = {score.id: score for score in map(_named, scores)}
        if not named:
            return 0
        for row in self._line.rows("SELECT id FROM scores WHERE id IN {ids:Array(String)}", {"ids": list(named)}):
            named.pop(row["id"], None)
        if named:
            token = hashlib.sha256("\n".join(sorted(named)).encode()).hexdigest()
            rows = [[getattr(score, name) for name in SCORE_STORED] for score in named.values()]
            self._line.insert("scores", SCORE_STORED, rows, token=token)
        return len(named)

    def _key(self, identifier: str) -> list[dict[str, Any]]:
        """Where an interaction is: near the moment in its id, else anywhere."""
        question = f"{sql.KEYS} WHERE id = {{id:String}} AND {sql.WITHIN} LIMIT 1"
        for first, last in sql.windows(identifier):
            if found := self._line.rows(question, {"id": identifier, "first": first, "last": last}):
                return found
        return []

    def _newest(
        self, question: str, values: Mapping[str, Any], count: tuple[str, list[str]] | None
    ) -> list[dict[str, Any]]:
        """A page: out of the time before its end that fills it, so that no more is read than that.

        How long that is the roll-ups say of what they count; of the rest, an hour is tried and a day. An hour is of use where
        all rows are read: those of one model lie in the order of their time anyway, those of one user are few.
        """
        limit, since = values["limit"], values.get("since", 0)
        found: list[dict[str, Any]] = []
        if count:
            found = self._line.rows(sql.within_reach(question, *count), values)
            if len(found) == limit or (found and found[0]["reach_ms"] <= since):
                return found
        tried = () if count else (DAY_MS,) if FEW & values.keys() else (HOUR_MS, DAY_MS)
        for start in (*(values["end_ms"] - span_ms for span_ms in tried), 0):
            found = self._line.rows(question, {**values, "recent": start})
            if len(found) == limit or start <= since:
                break
        return found

    def _place(self, identifier: str) -> dict[str, Any]:
        if known := place(identifier):
            return {"before": known[1], "before_ms": known[0]}
        found = self._key(identifier)
        if not found:
            raise NotFound(f"no interaction {identifier!r} to page on from", where="before",
                           remedy="leave `before` out to begin at the newest")  # fmt: skip
        return {"before": identifier, "before_ms": found[0]["ts_ms"]}

    def _whole(self, keys: Sequence[Mapping[str, Any]], *, opinions: bool = False) -> list[Interaction]:
        """The interactions of these keys, in the same order."""
        if not keys:
            return []
        moments = [key["ts_ms"] for key in keys]
        values = {"ids": [key["id"] for key in keys], "first": min(moments), "last": max(moments)}
        whole = {row["id"]: Interaction(**row) for row in self._line.rows(sql.WHOLE, values)}
        found = [whole[key["id"]] for key in keys if key["id"] in whole]
        return self._with_opinions(found) if opinions else found

    def _with_opinions(self, found: list[Interaction]) -> list[Interaction]:
        """Feedback and scores put beside the interactions that they speak of."""
        values = {"ids": [one.id for one in found]}
        feedback: dict[str, list[Feedback]] = {}
        for row in self._line.rows(sql.FEEDBACK_OF, values):
            feedback.setdefault(row["interaction"], []).append(feedback_of(row))
        scores: dict[str, list[Score]] = {}
        for row in self._line.rows(sql.SCORES_OF, values):
            scores.setdefault(row["interaction"], []).append(Score(**row))
        return [
            replace(one, feedback=tuple(feedback.get(one.id, ())), scores=tuple(scores.get(one.id, ())))
            for one in found
        ]


def _span(step_s: int) -> int:
    """The widest span that makes up a step: an hour, a minute, or a second for the rows themselves."""
    if step_s < 60:
        return 1
    return 3600 if step_s % 3600 == 0 else 60


def _following(
    table: str, cursor: str | None, model: str | None, limit: int, *, extra: str = ""
) -> tuple[str, dict[str, Any]]:
    """The question for the next rows in the order of arrival, and its values."""
    chosen = " AND model = {model:String}" if model else ""
    question = f"{table} WHERE sequence > {{after:UInt64}}{chosen}{extra}{sql.ARRIVING}"
    return question, {**sql.after(cursor, limit), **({"model": model} if model else {})}


def _named(score: Score) -> Score:
    return replace(score, id=score.id or f"{score.interaction}:{score.scorer}", ts_ms=score.ts_ms or clock.now_ms())
