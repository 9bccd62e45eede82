# ruff: noqa: S608 - the text is put together from constants of this project; values are bound, never formatted in
"""The SQL that `query` asks with, as constants. Nothing here touches a connection.

Whole rows are read in two steps: first the keys (narrow columns, sorted and cut), then the rows of those keys, so that request and
response bodies are read for the rows that are shown and for no other. The lines of a list need one step: the engine itself
reads them after it has cut (lazy materialization).
"""

from __future__ import annotations

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
FROM = "fromUnixTimestamp64Milli({recent:Int64}, 'UTC')"
RECENT = f"ts >= {FROM}"
BEFORE = "(ts, id) < (fromUnixTimestamp64Milli({before_ms:Int64}, 'UTC'), {before:String})"
NEWEST = " ORDER BY ts DESC, id DESC LIMIT {limit:UInt32}"
KEYS = "SELECT id, toUnixTimestamp64Milli(ts) AS ts_ms FROM interactions"
ARRIVING = " ORDER BY sequence LIMIT {limit:UInt32}"
DAYS = """SELECT toUnixTimestamp64Milli(min(ts)) AS first, toUnixTimestamp64Milli(max(ts)) AS last FROM interactions{}
GROUP BY toYYYYMMDD(ts) ORDER BY first"""
WHOLE = f"""SELECT {expressions(INTERACTION_COLUMNS)} FROM interactions
WHERE id IN {{ids:Array(String)}} AND interactions.ts >= fromUnixTimestamp64Milli({{first:Int64}}, 'UTC')
AND interactions.ts <= fromUnixTimestamp64Milli({{last:Int64}}, 'UTC')"""
GLANCE = "SELECT id, toUnixTimestamp64Milli(ts) AS ts_ms, line FROM interactions"
VOTES_OF = """SELECT interaction, argMax(thumb, (feedback.ts, feedback.id)) AS newest FROM feedback
WHERE interaction IN {ids:Array(String)} AND thumb != 0 AND interaction_ts >= fromUnixTimestamp64Milli({recent:Int64}, 'UTC')
GROUP BY interaction"""
FEEDBACK_OF = f"""SELECT {expressions(FEEDBACK_COLUMNS)} FROM feedback
WHERE interaction IN {{ids:Array(String)}} ORDER BY ts, id"""
SCORES_OF = f"""SELECT {expressions(SCORE_COLUMNS)} FROM scores
WHERE interaction IN {{ids:Array(String)}} ORDER BY ts, id"""
FEEDBACK_SINCE = f"SELECT {expressions(FEEDBACK_COLUMNS)} FROM feedback"
LATEST = """SELECT greatest((SELECT max(sequence) FROM interactions), (SELECT max(sequence) FROM feedback)) AS n"""

TEXTS = {
    "interactions": "SELECT input_text, output_text, request FROM interactions WHERE id IN {ids:Array(String)}",
    "feedback": "SELECT interaction, correction, comment FROM feedback WHERE id IN {ids:Array(String)}",
}
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
    ifNotFinite(latencies[3], 0) AS latency_p99,
    ifNotFinite(quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.first_byte)[1], 0) AS first_byte_p50,
    sum(m.prompt_tokens) AS prompt_tokens, sum(m.completion_tokens) AS completion_tokens,
    sum(m.thumbs_up) AS thumbs_up, sum(m.thumbs_down) AS thumbs_down
FROM {rollup} AS m
WHERE {_CHOSEN} AND start >= {_ROLLUP_STARTS[rollup]}(toDateTime(intDiv({{since:Int64}}, 1000), 'UTC'))
GROUP BY t, model, version ORDER BY t, model, version"""


SERIES_OF_ROWS = f"""
SELECT intDiv(ms, 1000 * {{step:UInt32}}) * {{step:UInt32}} AS t, model, version,
    countIf(asked) AS requests, countIf(failed) AS errors,
    quantilesIf(0.5, 0.95, 0.99)(latency, good) AS latencies,
    ifNotFinite(latencies[1], 0) AS latency_p50, ifNotFinite(latencies[2], 0) AS latency_p95,
    ifNotFinite(latencies[3], 0) AS latency_p99,
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

_COUNTED = """start >= {since} AND ({{model:String}} = '' OR model = {{model:String}})
    AND ({{rollout:String}} = '' OR rollout = {{rollout:String}})"""
_MINUTE = "toStartOfMinute(toDateTime(intDiv({since:Int64}, 1000), 'UTC'))"
_FULL_HOUR = "toDateTime(intDiv({since:Int64} + 3599999, 3600000) * 3600, 'UTC')"
_FIGURES = """model, version, arm, requests, errors, cancelled, latency, first_byte, overhead,
    prompt_tokens, completion_tokens, cost, thumbs_up, thumbs_down"""

# Minutes up to the first full hour, hours from there on: as exact as minutes alone, and as cheap as hours.
TOTALS = f"""
SELECT model, version, arm, sum(m.requests) AS requests, sum(m.errors) AS errors, sum(m.cancelled) AS cancelled,
    quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.latency) AS latencies,
    ifNotFinite(latencies[1], 0) AS latency_p50, ifNotFinite(latencies[2], 0) AS latency_p95,
    ifNotFinite(latencies[3], 0) AS latency_p99,
    ifNotFinite(quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.first_byte)[1], 0) AS first_byte_p50,
    ifNotFinite(quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(m.overhead)[1], 0) AS overhead_p50,
    sum(m.prompt_tokens) AS prompt_tokens, sum(m.completion_tokens) AS completion_tokens, sum(m.cost) AS cost,
    sum(m.thumbs_up) AS thumbs_up, sum(m.thumbs_down) AS thumbs_down
FROM (
    SELECT {_FIGURES} FROM minutes WHERE {_COUNTED.format(since=_MINUTE)} AND start < {_FULL_HOUR}
    UNION ALL
    SELECT {_FIGURES} FROM hours WHERE {_COUNTED.format(since=_FULL_HOUR)}
) AS m GROUP BY model, version, arm ORDER BY model, version, arm"""

SCORE_MEANS = f"""
SELECT model, version, arm, scorer, sum(m.total) / sum(m.n) AS mean
FROM score_minutes AS m WHERE {_COUNTED.format(since=_MINUTE)} GROUP BY model, version, arm, scorer"""

SCORE_SERIES = """
SELECT intDiv(toUnixTimestamp(start), {step:UInt32}) * {step:UInt32} AS t, version, scorer,
    sum(m.total) / sum(m.n) AS mean, sum(m.n) AS count
FROM score_minutes AS m
WHERE model = {model:String} AND arm != 'shadow' AND start >= toStartOfMinute(toDateTime(intDiv({since:Int64}, 1000), 'UTC'))
GROUP BY t, version, scorer ORDER BY scorer, version, t"""

INTERRUPTED = """
SELECT meta FROM started
WHERE ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
AND id NOT IN (SELECT id FROM interactions
               WHERE ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') - INTERVAL 1 DAY) ORDER BY ts, id"""


def within_reach(question: str, count: str, conditions: list[str]) -> str:
    """A question for a page, bound by the hour from which on a `count` of the roll-ups comes to `limit`, or by nothing.

    The bound stands in the question and not in one before it, since what is asked twice takes twice as long; each row tells it
    as `reach_ms`. The hour that the end falls in does not count, since it goes on behind the end.
    """
    chosen = " AND ".join(["start <= toDateTime(intDiv({end_ms:Int64}, 1000) - 3600, 'UTC')", *conditions])
    reach = f"""(SELECT toDateTime64(max(start), 3, 'UTC') FROM (
    SELECT start, sum(sum(m.{count})) OVER (ORDER BY start DESC) AS found FROM hours AS m WHERE {chosen} GROUP BY start
) WHERE found >= {{limit:UInt32}})"""
    told = question.replace(" FROM interactions", f", toUnixTimestamp64Milli({reach}) AS reach_ms FROM interactions", 1)
    return told.replace(FROM, reach)


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
