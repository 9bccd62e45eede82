# ruff: noqa: S608 - the text is put together from constants of this project; values are bound, never formatted in
"""The SQL that `query` asks with: constants, and filters as conditions with bound values. Nothing here touches a connection.

Lists are read in two steps: first the keys (narrow columns, sorted and cut), then the whole rows of those keys, so that
request and response bodies are read for the rows that are shown and for no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ciranda.errors import Invalid
from ciranda.interactions.rollups import FAILED
from ciranda.interactions.table import (
    FEEDBACK_COLUMNS,
    INTERACTION_COLUMNS,
    SCORE_COLUMNS,
    expressions,
)
from ciranda.store import ids

MOST_ROWS = 10_000
CLOCKS_APART_MS = 600_000  # between the moment in an id and the moment in its row
EVER = (0, 1 << 42)  # up to the year 2109

COUNT = "SELECT count() AS n FROM interactions"
WITHIN = (
    """ts >= fromUnixTimestamp64Milli({first:Int64}, 'UTC') AND ts <= fromUnixTimestamp64Milli({last:Int64}, 'UTC')"""
)
KEYS = "SELECT id, toUnixTimestamp64Milli(ts) AS ts_ms FROM interactions"
WHOLE = f"""SELECT {expressions(INTERACTION_COLUMNS)} FROM interactions
WHERE id IN {{ids:Array(String)}} AND interactions.ts >= fromUnixTimestamp64Milli({{first:Int64}}, 'UTC')
AND interactions.ts <= fromUnixTimestamp64Milli({{last:Int64}}, 'UTC')"""
FEEDBACK_OF = f"""SELECT {expressions(FEEDBACK_COLUMNS)} FROM feedback
WHERE interaction IN {{ids:Array(String)}} ORDER BY ts, id"""
SCORES_OF = f"""SELECT {expressions(SCORE_COLUMNS)} FROM scores
WHERE interaction IN {{ids:Array(String)}} ORDER BY ts, id"""
FEEDBACK_SINCE = f"SELECT {expressions(FEEDBACK_COLUMNS)} FROM feedback"
LATEST = """SELECT greatest((SELECT max(sequence) FROM interactions), (SELECT max(sequence) FROM feedback)) AS n"""

PAIRS = """
SELECT live.id AS live, shadow.id AS shadow, live.ts_ms AS live_ms, shadow.ts_ms AS shadow_ms,
    greatest(live.sequence, shadow.sequence) AS arrived
FROM (SELECT id, shadow_of, sequence, toUnixTimestamp64Milli(ts) AS ts_ms FROM interactions
      WHERE rollout = {rollout:String} AND arm = 'shadow') AS shadow
INNER JOIN (SELECT id, sequence, toUnixTimestamp64Milli(ts) AS ts_ms FROM interactions
      WHERE rollout = {rollout:String} AND arm != 'shadow') AS live
ON live.id = shadow.shadow_of
WHERE arrived > {after:UInt64} ORDER BY arrived LIMIT {limit:UInt32} WITH TIES"""

_CHOSEN = """({model:String} = '' OR model = {model:String}) AND ({version:String} = '' OR version = {version:String})
    AND if({arm:String} = '', arm != 'shadow', arm = {arm:String})"""

_ROLLUP_STARTS = {"minutes": "toStartOfMinute", "hours": "toStartOfHour"}


def series(rollup: str) -> str:
    """Figures by version and step, from the `minutes` or from the `hours`."""
    return f"""
SELECT intDiv(toUnixTimestamp(start), {{step:UInt32}}) * {{step:UInt32}} AS t, model, version,
    sum(m.requests) AS requests, sum(m.errors) AS errors,
    quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.latency) AS latencies,
    ifNotFinite(latencies[1], 0) AS latency_p50, ifNotFinite(latencies[2], 0) AS latency_p95,
    ifNotFinite(quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.first_byte)[1], 0) AS first_byte_p50,
    sum(m.prompt_tokens) AS prompt_tokens, sum(m.completion_tokens) AS completion_tokens,
    sum(m.thumbs_up) AS thumbs_up, sum(m.thumbs_down) AS thumbs_down
FROM {rollup} AS m
WHERE {_CHOSEN} AND start >= {_ROLLUP_STARTS[rollup]}(toDateTime(intDiv({{since:Int64}}, 1000), 'UTC'))
GROUP BY t, model, version ORDER BY t, model, version"""


SERIES_OF_ROWS = f"""
SELECT intDiv(ms, 1000 * {{step:UInt32}}) * {{step:UInt32}} AS t, model, version,
    countIf(asked) AS requests, countIf(failed) AS errors,
    quantilesIf(0.5, 0.95)(latency, good) AS latencies,
    ifNotFinite(latencies[1], 0) AS latency_p50, ifNotFinite(latencies[2], 0) AS latency_p95,
    ifNotFinite(quantileIf(0.5)(first_byte, good), 0) AS first_byte_p50,
    sum(prompt) AS prompt_tokens, sum(completion) AS completion_tokens,
    sum(up) AS thumbs_up, sum(down) AS thumbs_down
FROM (
    SELECT toUnixTimestamp64Milli(ts) AS ms, model, version, true AS asked, {FAILED} AS failed, status < 400 AS good,
        latency_ms AS latency, first_byte_ms AS first_byte,
        prompt_tokens AS prompt, completion_tokens AS completion, toInt64(0) AS up, toInt64(0) AS down
    FROM interactions WHERE {_CHOSEN} AND ts >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC')
    UNION ALL
    SELECT toUnixTimestamp64Milli(interaction_ts), model, version, false, false, false,
        toFloat32(0), toFloat32(0), toUInt32(0), toUInt32(0), toInt64(thumbs_up), toInt64(thumbs_down)
    FROM feedback WHERE {_CHOSEN} AND interaction_ts >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC')
) GROUP BY t, model, version ORDER BY t, model, version"""

_COUNTED = """start >= {}(toDateTime(intDiv({{since:Int64}}, 1000), 'UTC'))
    AND ({{model:String}} = '' OR model = {{model:String}}) AND ({{rollout:String}} = '' OR rollout = {{rollout:String}})"""


def totals(rollup: str) -> str:
    """Counts by model, version and arm, from the `minutes` or from the `hours`."""
    return f"""
SELECT model, version, arm, sum(m.requests) AS requests, sum(m.errors) AS errors, sum(m.cancelled) AS cancelled,
    quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.latency) AS latencies,
    ifNotFinite(latencies[1], 0) AS latency_p50, ifNotFinite(latencies[2], 0) AS latency_p95,
    ifNotFinite(quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.first_byte)[1], 0) AS first_byte_p50,
    ifNotFinite(quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.overhead)[1], 0) AS overhead_p50,
    sum(m.prompt_tokens) AS prompt_tokens, sum(m.completion_tokens) AS completion_tokens, sum(m.cost) AS cost,
    sum(m.thumbs_up) AS thumbs_up, sum(m.thumbs_down) AS thumbs_down
FROM {rollup} AS m WHERE {_COUNTED.format(_ROLLUP_STARTS[rollup])}
GROUP BY model, version, arm ORDER BY model, version, arm"""


SCORE_MEANS = f"""
SELECT model, version, arm, scorer, sum(m.total) / sum(m.n) AS mean
FROM score_minutes AS m WHERE {_COUNTED.format("toStartOfMinute")} GROUP BY model, version, arm, scorer"""

INTERRUPTED = """
SELECT meta FROM started
WHERE ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
AND id NOT IN (SELECT id FROM interactions
               WHERE ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') - INTERVAL 1 DAY) ORDER BY ts, id"""

_THUMB = """id IN (SELECT interaction FROM feedback WHERE thumb != 0
    GROUP BY interaction HAVING argMax(thumb, (feedback.ts, feedback.id)) = {thumb:Int8})"""
_SEARCH = """(positionCaseInsensitiveUTF8(input_text, {search:String}) > 0
    OR positionCaseInsensitiveUTF8(output_text, {search:String}) > 0)"""
_EQUAL = ("model", "version", "arm", "user", "conversation")


def filters(given: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Conditions and their bound values for the filters of `page` and `count`; None means not asked for.

    Raises:
        Invalid: a status, thumb or time that cannot be.
    """
    chosen = {name: value for name, value in given.items() if value is not None and value != ""}
    where = [f"{name} = {{{name}:String}}" for name in _EQUAL if name in chosen]
    values = {name: chosen[name] for name in (*_EQUAL, "search") if name in chosen}
    if "search" in chosen:
        where.append(_SEARCH)
    if "thumb" in chosen:
        where.append(_THUMB)
        values["thumb"] = _one_of("thumb", chosen["thumb"], (-1, 1))
    if "status" in chosen:
        first, last = _statuses(chosen["status"])
        where.append("status BETWEEN {status_first:UInt16} AND {status_last:UInt16}")
        values |= {"status_first": first, "status_last": last}
    for name, sign in (("since", ">="), ("until", "<")):
        if name in chosen:
            where.append(f"ts {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
            values[name] = milliseconds(chosen[name])
    return where, values


def where(conditions: list[str]) -> str:
    """A WHERE clause, or nothing."""
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def after(cursor: str | None, limit: int) -> dict[str, int]:
    """The bound values of a reader that goes on after a cursor.

    Raises:
        Invalid: the cursor is none that this store gave out.
    """
    if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
        raise Invalid(f"{cursor!r} is no cursor", where="cursor", remedy="pass the `cursor` of the last row, or None")
    return {"after": int(cursor or 0), "limit": bounded(limit)}


def windows(identifier: str) -> list[tuple[int, int]]:
    """Where in time to look for an id, in milliseconds: first around the moment it carries, then everywhere."""
    try:
        made = int(ids.time_of(identifier).timestamp() * 1000)
    except ValueError:
        return [EVER]
    return [(max(0, made - CLOCKS_APART_MS), made + CLOCKS_APART_MS), EVER]


def bounded(limit: int) -> int:
    """A number of rows between 1 and what one answer may hold."""
    return max(1, min(limit, MOST_ROWS))


def milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch; a time without zone would be read as local time, so it is refused."""
    if moment.tzinfo is None:
        raise Invalid(f"{moment.isoformat()} has no time zone", where="since, until", remedy="pass times in UTC")
    return round(moment.timestamp() * 1000)


def _statuses(status: int) -> tuple[int, int]:
    if 1 <= status <= 5:
        return status * 100, status * 100 + 99
    return (_one_of("status", status, range(100, 600)),) * 2


def _one_of(name: str, value: int, allowed: range | tuple[int, ...]) -> int:
    if value not in allowed:
        raise Invalid(f"{name} {value!r} cannot be", where=name, remedy=f"use one of {list(allowed)[:6]}")
    return value
